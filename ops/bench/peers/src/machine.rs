//! What the operating system says: processor time, memory, disks, and who else is busy.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use procfs::process::{Process, all_processes};
use procfs::{CurrentSI, KernelStats};
use serde::{Deserialize, Serialize};

/// A file system in memory says so with this number.
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// The unit of what a file occupies, whatever the file system's.
const BLOCK_BYTES: u64 = 512;

/// The machine of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processors that are seen.
    pub processors: usize,
    /// What the processor calls itself.
    pub processor: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The kernel.
    pub kernel: String,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processor = text("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()));
        let memory = text("/proc/meminfo")
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Self {
            processors: std::thread::available_parallelism().map_or(1, Into::into),
            processor: processor.unwrap_or_else(|| "unknown".to_owned()),
            memory_bytes: memory.unwrap_or(0) * 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// Processor time used so far, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ProcessorTime {
    /// By everybody.
    pub everybody: f64,
    /// By the servers' processes and all that they started.
    pub servers: f64,
    /// By this process.
    pub own: f64,
}

impl ProcessorTime {
    /// Read now.
    pub fn read(servers: &[u32]) -> Result<Self> {
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let kernel = KernelStats::current().context("read /proc/stat")?;
        let total = kernel.total;
        let busy = total.user
            + total.nice
            + total.system
            + total.irq.unwrap_or(0)
            + total.softirq.unwrap_or(0)
            + total.steal.unwrap_or(0);
        let own = Process::myself().and_then(|process| process.stat()).context("read /proc/self/stat")?;
        let servers: u64 = trees(servers)?.into_iter().filter_map(|process| process.stat().ok()).map(|stat| ticks(&stat)).sum();
        Ok(Self {
            everybody: busy as f64 / ticks_per_second,
            servers: servers as f64 / ticks_per_second,
            own: (own.utime + own.stime) as f64 / ticks_per_second,
        })
    }
}

/// Its own ticks, and those of children that have ended.
fn ticks(stat: &procfs::process::Stat) -> u64 {
    let ended = u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
    stat.utime + stat.stime + ended
}

/// Memory of the servers' processes and all that they started, in bytes: what several share is counted once, in parts.
pub(crate) fn memory_bytes(servers: &[u32]) -> Result<u64> {
    let mut bytes = 0;
    for process in trees(servers)? {
        // It may have ended in between.
        let Ok(rollup) = process.smaps_rollup() else { continue };
        let map = rollup.memory_map_rollup.0.into_iter().next().context("an empty memory map")?;
        bytes += map.extension.map.get("Pss").copied().unwrap_or(0);
    }
    Ok(bytes)
}

/// These processes and all their descendants that live.
fn trees(roots: &[u32]) -> Result<Vec<Process>> {
    if roots.is_empty() {
        return Ok(Vec::new());
    }
    let mut found: BTreeSet<i32> = roots.iter().filter_map(|root| i32::try_from(*root).ok()).collect();
    let all: Vec<_> = all_processes()
        .context("read /proc")?
        .filter_map(|process| {
            let process = process.ok()?;
            let parent = process.stat().ok()?.ppid;
            Some((parent, process))
        })
        .collect();
    // A parent may come after its child: until nothing is added.
    loop {
        let before = found.len();
        found.extend(all.iter().filter(|(parent, _)| found.contains(parent)).map(|(_, process)| process.pid).collect::<Vec<_>>());
        if found.len() == before {
            break;
        }
    }
    Ok(all.into_iter().map(|(_, process)| process).filter(|process| found.contains(&process.pid)).collect())
}

/// What the files of a folder occupy on disk, in bytes.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    // A file may go while it is looked at.
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * BLOCK_BYTES,
            Err(_) => 0,
        })
        .sum()
}

/// A place for data that survives the loss of power: syncing a file in memory costs nothing and would say nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealDisk(PathBuf);

impl RealDisk {
    /// This folder, or else the first temporary one that is on a disk.
    ///
    /// # Errors
    /// If it is in memory, or not there.
    pub fn find(dir: Option<&Path>) -> Result<Self> {
        if let Some(dir) = dir {
            if is_in_memory(dir)? {
                bail!("{} is in memory: syncing a file there costs nothing", dir.display());
            }
            return Ok(Self(dir.to_owned()));
        }
        let places = [std::env::temp_dir(), PathBuf::from("/var/tmp")];
        let found = places.into_iter().find(|place| is_in_memory(place).is_ok_and(|in_memory| !in_memory));
        found.map(Self).context("no temporary folder is on a disk: name one with --dir")
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

fn is_in_memory(dir: &Path) -> Result<bool> {
    let system = rustix::fs::statfs(dir).with_context(|| format!("look at {}", dir.display()))?;
    Ok(system.f_type == TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_memory_is_refused_and_a_disk_is_found() {
        if Path::new("/dev/shm").exists() {
            assert!(RealDisk::find(Some(Path::new("/dev/shm"))).is_err());
        }
        assert!(RealDisk::find(Some(Path::new("/no/such/folder"))).is_err());
    }

    #[test]
    fn what_a_folder_occupies_counts_blocks_of_all_files() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a temporary folder");
        let before = disk_bytes(dir.path());
        std::fs::create_dir(dir.path().join("deep")).expect("a folder");
        std::fs::write(dir.path().join("deep/file"), vec![1; 100_000]).expect("a file");
        std::fs::File::open(dir.path().join("deep/file")).and_then(|file| file.sync_all()).expect("synced");
        assert!((100_000..400_000).contains(&(disk_bytes(dir.path()) - before)));
    }

    #[test]
    fn this_process_is_seen_and_is_not_counted_as_a_server() {
        let none = ProcessorTime::read(&[]).expect("readable");
        assert!(none.servers == 0.0 && none.own <= none.everybody);
        assert!(memory_bytes(&[std::process::id()]).expect("readable") > 100_000);
        assert_eq!(memory_bytes(&[]).expect("readable"), 0);
    }
}
