//! The system's allocator, told to give back what a burst of load needed.
//!
//! glibc raises its thresholds with the largest block that it has seen freed, and keeps an arena a thread: after one minute of large
//! requests three nodes held some 400 MiB for ever, of which a third was free. Fixed thresholds and two arenas keep it below 300.

/// Blocks of this many bytes and more go back to the system as soon as they are free.
#[cfg(target_env = "gnu")]
const MAPPED_FROM_BYTES: libc::c_int = 256 * 1024;
/// An arena keeps at most so many free bytes at its end.
#[cfg(target_env = "gnu")]
const TRIMMED_FROM_BYTES: libc::c_int = 128 * 1024;
/// Arenas that threads share. More would not help: the runtime has few threads that allocate much.
#[cfg(target_env = "gnu")]
const ARENAS_MAX: libc::c_int = 2;

/// Sets what is set for the whole process. To be called before there are threads; an allocator that refuses is left as it is.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "mallopt has no safe form")]
pub fn give_memory_back() {
    let settings = [
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
        (libc::M_TRIM_THRESHOLD, TRIMMED_FROM_BYTES),
        (libc::M_ARENA_MAX, ARENAS_MAX),
    ];
    for (parameter, value) in settings {
        // SAFETY: it takes two numbers and changes how later allocations are made; no other thread runs yet.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Other allocators are left as they are.
#[cfg(not(target_env = "gnu"))]
pub fn give_memory_back() {}
