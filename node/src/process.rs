//! What the process uses up, for the cluster's status and for benchmarks: a part, since it travels in answers, and a simulated world
//! has many nodes in one process.

/// CPU time and memory of the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all threads since the process started, in microseconds.
    pub cpu_micros: u64,
    /// Memory that is resident, in bytes; 0 where the system does not tell.
    pub memory_bytes: u64,
}

/// Tells what the process has used so far.
pub trait Process: Send + Sync + 'static {
    /// So far.
    fn usage(&self) -> Usage;
}

/// The process that this code runs in.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnProcess;

impl Process for OwnProcess {
    fn usage(&self) -> Usage {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu_micros = u64::try_from(cpu.tv_sec * 1_000_000 + cpu.tv_nsec / 1_000).unwrap_or(0);
        Usage { cpu_micros, memory_bytes: resident_bytes().unwrap_or(0) }
    }
}

/// Linux tells in its process file system, in kilobytes: `VmRSS:     12345 kB`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_rises_with_work_and_memory_is_told() {
        let before = OwnProcess.usage();
        let mut sum = 0u64;
        while OwnProcess.usage().cpu_micros < before.cpu_micros + 1_000 {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        assert!(OwnProcess.usage().memory_bytes > 0 && sum != 1);
    }
}
