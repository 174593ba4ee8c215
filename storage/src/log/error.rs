//! What can go wrong with the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_machine::ShardId;

/// Why the log refused, failed or broke. Cheap to clone: everybody who waits on a broken log hears the cause.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Rejected: an entry is larger than [`super::LogSettings`] admit; nothing was stored.
    #[error("an entry of {bytes} bytes is larger than the {bytes_max} that the log admits")]
    EntryTooLarge {
        /// The payload's length.
        bytes: usize,
        /// The longest payload admitted.
        bytes_max: usize,
    },
    /// Rejected: the call does not fit the log as it is; nothing was stored.
    #[error("shard {shard}: {reason}")]
    Misplaced {
        /// The shard whose log it is.
        shard: ShardId,
        /// What does not fit.
        reason: String,
    },
    /// Rejected: some index of the range is not in the log: purged, truncated, or not yet appended.
    #[error("shard {shard}: index {index} is not in the log, which holds {first} to {last:?}")]
    Absent {
        /// The shard whose log it is.
        shard: ShardId,
        /// The first index that is not there.
        index: u64,
        /// The first index that the log could hold.
        first: u64,
        /// The last index that it holds.
        last: Option<u64>,
    },
    /// Broken: bytes on disk are not what was written. The node must stop; nothing was changed on disk.
    #[error("{}: damaged at byte {offset}: {what}; batch {expected_batch:?} belongs there, found {found_batch:?}", file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// The batch that belongs there, if that is known.
        expected_batch: Option<u64>,
        /// The batch that was found, there or behind, if any.
        found_batch: Option<u64>,
        /// What is wrong.
        what: String,
    },
    /// Failed: the file was written by another version of Cairn, which must open it.
    #[error("{}: format version {found}; this program reads version {supported}", file.display())]
    UnsupportedVersion {
        /// The file.
        file: PathBuf,
        /// The version it says.
        found: u8,
        /// The version that this program reads.
        supported: u8,
    },
    /// Broken: the disk refused. A sync that failed is never tried again.
    #[error("{operation} {}: {cause}", file.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file or folder.
        file: PathBuf,
        /// What the disk answered.
        cause: Arc<io::Error>,
    },
    /// Broken: an earlier failure ended this log for good; the node must stop.
    #[error("the log broke before: {cause}")]
    Broken {
        /// The failure that broke it.
        cause: Arc<LogError>,
    },
    /// Broken: one of the log's own loops, or a caller inside it, panicked; the node must stop.
    #[error("the log panicked")]
    Panicked,
    /// Failed: the log was shut down, or its writer was dropped.
    #[error("the log has stopped")]
    Stopped,
}

impl LogError {
    pub(super) fn io(operation: &'static str, file: &Path, cause: io::Error) -> Self {
        Self::Io { operation, file: file.to_owned(), cause: Arc::new(cause) }
    }

    /// Why a loop of the log is being dropped.
    pub(super) fn of_dropped_loop() -> Self {
        if std::thread::panicking() { Self::Panicked } else { Self::Stopped }
    }

    pub(super) fn is_full_disk(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if crate::fs::is_full_disk(cause))
    }

    /// What later callers hear once this error has ended the log.
    pub(super) fn for_later_callers(&self) -> Self {
        match self {
            Self::Stopped | Self::Broken { .. } => self.clone(),
            cause => Self::Broken { cause: Arc::new(cause.clone()) },
        }
    }
}
