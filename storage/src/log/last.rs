//! The file `LAST`: how far the log had surely come, so that a log that lost its end is noticed.
//!
//! Two slots, written in turn and in place: a torn write spoils one and leaves the other, which says a little less.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cairn_machine::ShardId;
use xxhash_rust::xxh3::xxh3_64;

use super::error::LogError;
use super::frame::VERSION;
use crate::fs::{File, Fs, OpenMode, write_file_atomically};

/// The file's name.
pub(super) const LAST_NAME: &str = "LAST";
/// What one slot holds at most.
pub(super) const LAST_SHARDS_MAX: u16 = 1000;

/// Persisted.
const MAGIC: [u8; 4] = *b"CRNE";
const SLOT_BYTES: usize = 16 << 10;
const FIXED_BYTES: usize = 28;
const SHARD_BYTES: usize = 10;

const _: () = assert!(FIXED_BYTES + LAST_SHARDS_MAX as usize * SHARD_BYTES + 8 <= SLOT_BYTES);

/// How far the log had come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// The last batch that was synced; 0: none yet.
    pub batch: u64,
    /// For each shard the last index saved as committed.
    pub committed: BTreeMap<ShardId, u64>,
}

/// The open file.
pub(super) struct LastFile {
    path: PathBuf,
    file: Arc<dyn File>,
    /// How often it was written; says which slot is next.
    sequence: u64,
}

impl LastFile {
    /// Makes the file of a new log.
    pub async fn create(fs: &dyn Fs, dir: &Path) -> Result<(), LogError> {
        let path = dir.join(LAST_NAME);
        let mut bytes = BytesMut::from(&encode(0, &Reached::default())[..]);
        bytes.resize(2 * SLOT_BYTES, 0);
        let written = write_file_atomically(fs, &path, bytes.freeze()).await;
        written.map_err(|error| LogError::io("write", &path, error))
    }

    pub async fn open(fs: &dyn Fs, dir: &Path) -> Result<(Self, Reached), LogError> {
        let path = dir.join(LAST_NAME);
        let opened = fs.open(&path, OpenMode::ReadWrite).await;
        let file = opened.map_err(|error| LogError::io("open", &path, error))?;
        let read = file.read_at(0, 2 * SLOT_BYTES).await;
        let bytes = read.map_err(|error| LogError::io("read", &path, error))?;
        let mut newest: Option<(u64, Reached)> = None;
        for start in [0, SLOT_BYTES] {
            let slot = bytes.slice(start.min(bytes.len())..(start + SLOT_BYTES).min(bytes.len()));
            match decode(&slot) {
                Slot::Nothing => {}
                Slot::Whole(sequence, reached) => {
                    if newest.as_ref().is_none_or(|(newest, _)| *newest < sequence) {
                        newest = Some((sequence, reached));
                    }
                }
                Slot::OtherVersion(found) => {
                    return Err(LogError::UnsupportedVersion { file: path, found, supported: VERSION });
                }
            }
        }
        let Some((sequence, reached)) = newest else {
            let what = "neither of its two slots is whole".to_owned();
            return Err(LogError::Damaged { file: path, offset: 0, expected_batch: None, found_batch: None, what });
        };
        Ok((Self { path, file, sequence: sequence + 1 }, reached))
    }

    /// Writes and syncs.
    pub async fn write(&mut self, reached: &Reached) -> Result<(), LogError> {
        let slot = self.sequence % 2 * SLOT_BYTES as u64;
        let written = self.file.write_at(slot, encode(self.sequence, reached)).await;
        written.map_err(|error| LogError::io("write", &self.path, error))?;
        self.file.sync_data().await.map_err(|error| LogError::io("sync", &self.path, error))?;
        self.sequence += 1;
        Ok(())
    }
}

fn encode(sequence: u64, reached: &Reached) -> Bytes {
    let mut bytes = BytesMut::with_capacity(FIXED_BYTES + reached.committed.len() * SHARD_BYTES + 8);
    bytes.put_slice(&MAGIC);
    bytes.put_u32_le(u32::from(VERSION));
    bytes.put_u64_le(sequence);
    bytes.put_u64_le(reached.batch);
    bytes.put_u32_le(u32::try_from(reached.committed.len()).expect("shards have numbers of 16 bits"));
    for (shard, index) in &reached.committed {
        bytes.put_u16_le(shard.0);
        bytes.put_u64_le(*index);
    }
    bytes.put_u64_le(xxh3_64(&bytes));
    bytes.freeze()
}

/// What a slot holds.
enum Slot {
    /// Never written, or not whole.
    Nothing,
    Whole(u64, Reached),
    /// Whole, but of another version.
    OtherVersion(u8),
}

fn decode(slot: &Bytes) -> Slot {
    let mut fields = slot.clone();
    if fields.len() < FIXED_BYTES || fields[..4] != MAGIC {
        return Slot::Nothing;
    }
    fields.advance(4);
    let version = fields.get_u32_le();
    let sequence = fields.get_u64_le();
    let batch = fields.get_u64_le();
    let count = fields.get_u32_le() as usize;
    let end = FIXED_BYTES.saturating_add(count.saturating_mul(SHARD_BYTES));
    if slot.len() < end.saturating_add(8) || (&slot[end..end + 8]).get_u64_le() != xxh3_64(&slot[..end]) {
        return Slot::Nothing;
    }
    if version != u32::from(VERSION) {
        return Slot::OtherVersion(u8::try_from(version).unwrap_or(u8::MAX));
    }
    let committed = (0..count).map(|_| (ShardId(fields.get_u16_le()), fields.get_u64_le())).collect();
    Slot::Whole(sequence, Reached { batch, committed })
}
