//! The last two things that a process asks the system for by itself: randomness and the time of day.
//!
//! Product code is handed both. What is left are libraries: the keys of std's hash maps, the jitter of a queue, the stamp of a log line.
//! On a thread that belongs to a world, `getrandom` and `clock_gettime` are answered from that world; on every other thread they are
//! the system's, so that fjall's threads, say, never draw from a world's generator.
//!
//! Invariants
//! - What a thread draws depends on its seed and on nothing that another thread does.
//! - Time moves only where the world moves it.

use std::cell::Cell;
use std::time::Duration;

/// 2026-01-01 UTC in seconds since 1970: when simulated worlds begin.
const EPOCH_SECONDS: u64 = 1_767_225_600;

#[derive(Clone, Copy)]
struct Held {
    /// State of the generator (SplitMix64).
    random: u64,
    /// Nanoseconds since the world began.
    elapsed: u64,
}

thread_local! {
    // Without a destructor and without allocation: it is read inside calls that the allocator may make.
    static HELD: Cell<Option<Held>> = const { Cell::new(None) };
}

/// The thread's randomness and time belong to a world while this is held.
pub(crate) struct Hold(());

impl Hold {
    /// Takes the thread.
    pub(crate) fn take(seed: u64) -> Self {
        HELD.set(Some(Held { random: seed, elapsed: 0 }));
        Self(())
    }

    /// Sets how long the world has been going.
    pub(crate) fn set_elapsed(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        HELD.set(HELD.get().map(|held| Held { elapsed: nanos, ..held }));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        HELD.set(None);
    }
}

/// Why runs would not repeat in this program.
#[derive(Debug, thiserror::Error)]
pub enum NotDeterministic {
    /// tokio draws its own dice.
    #[error(
        "this program was built without tokio's seeded scheduler, so no run repeats. Add to .cargo/config.toml:\n\n    \
         [build]\n    rustflags = [\"--cfg\", \"tokio_unstable\"]\n\nand unset RUSTFLAGS, which overrides that file"
    )]
    Scheduler,
    /// The system's randomness is not intercepted.
    #[error(
        "hash maps draw their keys from the system although a world holds the thread, so no run repeats: the program's \
         `getrandom` is not this library's. Link cairn-simulation statically (no `-C prefer-dynamic`) and define no `getrandom` of your own"
    )]
    Randomness,
    /// The system's clock is not intercepted.
    #[error("the system's clock is read although a world holds the thread, so no run repeats: link cairn-simulation statically")]
    Clock,
}

/// Checks that this program can run worlds that repeat.
///
/// # Errors
/// [`NotDeterministic`], whose text holds the lines to add.
pub fn check() -> Result<(), NotDeterministic> {
    if !cfg!(tokio_unstable) {
        return Err(NotDeterministic::Scheduler);
    }
    // The clock of the metrics library spins for a fifth of a second of real time when it is first used in a process.
    quanta::Clock::new();
    // References keep the two functions in the program although nothing else names them.
    std::hint::black_box(getrandom as *const ());
    std::hint::black_box(clock_gettime as *const ());
    let keys = || in_fresh_thread(|| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 7_u64));
    if keys() != keys() {
        return Err(NotDeterministic::Randomness);
    }
    #[expect(clippy::disallowed_methods, reason = "whether it is intercepted is what is asked")]
    let now = || in_fresh_thread(std::time::SystemTime::now);
    if now() != now() {
        return Err(NotDeterministic::Clock);
    }
    Ok(())
}

/// Brings tokio's counter of task ids to where every world begins.
///
/// A runtime that ends drops its tasks by the remainder of their ids, and ids are counted for the whole process: without this, the
/// connections of a killed node would close in another order after other worlds than alone.
pub(crate) fn align_task_ids() {
    /// A multiple of the number of lists that a runtime keeps its tasks in.
    const STEP: u64 = 64;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing");
    runtime.block_on(async {
        loop {
            let id = tokio::spawn(async {}).id().to_string();
            // If ids ever stop to be numbers, the check of determinism tells.
            if id.parse::<u64>().map_or(true, |id| id % STEP == 0) {
                return;
            }
        }
    });
}

/// Runs `work` on a thread of its own that a world with a fixed seed holds.
fn in_fresh_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let _hold = Hold::take(1);
            work()
        });
        thread.join().expect("nothing here panics")
    })
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// As the C library's function of this name, which it replaces in programs that link this crate.
///
/// # Safety
/// `buffer` must be valid for writes of `len` bytes.
#[expect(unsafe_code, reason = "the C library's interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut libc::c_void, len: libc::size_t, flags: libc::c_uint) -> libc::ssize_t {
    let Some(mut held) = HELD.get() else {
        // SAFETY: the system's call with the caller's own arguments.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) as libc::ssize_t };
    };
    // SAFETY: the caller vouches for the buffer.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
    for chunk in bytes.chunks_mut(8) {
        let drawn = next(&mut held.random).to_le_bytes();
        chunk.copy_from_slice(&drawn[..chunk.len()]);
    }
    HELD.set(Some(held));
    len.cast_signed()
}

/// As the C library's function of this name, which it replaces in programs that link this crate.
///
/// # Safety
/// `time` must be valid for a write.
#[expect(unsafe_code, reason = "the C library's interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    let held = HELD.get().filter(|_| clock != libc::CLOCK_THREAD_CPUTIME_ID && clock != libc::CLOCK_PROCESS_CPUTIME_ID);
    let Some(held) = held else {
        // SAFETY: the system's call with the caller's own arguments.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int };
    };
    let elapsed = Duration::from_nanos(held.elapsed) + Duration::from_secs(EPOCH_SECONDS);
    // SAFETY: the caller vouches for the pointer.
    unsafe {
        (*time).tv_sec = elapsed.as_secs().cast_signed();
        (*time).tv_nsec = i64::from(elapsed.subsec_nanos());
    }
    0
}

/// How long the world that holds this thread has been going.
pub(crate) fn elapsed() -> Duration {
    Duration::from_nanos(HELD.get().map_or(0, |held| held.elapsed))
}

/// How long this thread has worked.
#[expect(unsafe_code, reason = "the C library's interface")]
pub(crate) fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local.
    unsafe { clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// When simulated worlds begin, in microseconds since 1970 UTC.
pub(crate) fn epoch_micros() -> i64 {
    (EPOCH_SECONDS * 1_000_000).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_can_run_worlds_that_repeat() {
        assert!(check().is_ok());
    }

    #[test]
    fn the_lines_to_add_are_those_of_our_own_settings() {
        let (text, ours) = (NotDeterministic::Scheduler.to_string(), include_str!("../../.cargo/config.toml"));
        let shown: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("    ")).collect();
        assert_eq!(shown.len(), 2, "a table and a key: {text}");
        assert!(ours.contains(&shown.join("\n")), "{shown:?}");
    }

    #[test]
    fn a_program_whose_system_calls_are_its_own_is_told_how_to_link() {
        for error in [NotDeterministic::Randomness, NotDeterministic::Clock] {
            let text = error.to_string();
            assert!(
                text.contains("no run repeats") && text.to_lowercase().contains("link cairn-simulation statically"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_held_thread_draws_the_same_and_stands_in_time_and_others_do_not() {
        let drawn = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 7_u64);
        assert_eq!(in_fresh_thread(drawn), in_fresh_thread(drawn));
        let free = || std::thread::scope(|scope| scope.spawn(drawn).join().expect("nothing here panics"));
        assert_ne!(free(), free());
    }
}
