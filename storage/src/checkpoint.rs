//! Checkpoints: a shard's whole state as a stream of records, and its installation elsewhere as a new generation.
//!
//! A checkpoint holds records, not keys, so that another layout of the tables is a local matter. It is read from one consistent
//! view of the engine; frames are read one by one and are bounded, except where one atomic write alone is larger.
//!
//! Invariants
//! - A checkpoint is the state at exactly its applied entry.
//! - Each frame's checksum covers the frames before it: one that is missing, repeated, out of order or changed is refused.
//! - An installed generation becomes current only when every record is durable, in one step.

mod digest;
mod frame;
mod install;
mod record;

use std::sync::Arc;

use bytes::Bytes;
use cairn_machine::ShardId;

pub use install::{CheckpointError, CheckpointInstall, CompleteCheckpoint};

use crate::blocking::{Blocking, BlockingExt};
use crate::engine::{Scan, TableView};
use crate::entry::EntryId;
use crate::keys::Family;
use crate::keys::meta::{Membership, Meta};
use crate::tables::{Tables, TablesError, read_meta};
use frame::{FrameKind, Link};
use record::Record;

/// A frame ends after the row with which it reaches this many bytes.
pub const FRAME_BYTES_TARGET: usize = 1024 * 1024;
/// Most rows of one frame.
const FRAME_ROWS_MAX: usize = 16 * 1024;

/// A shard's state at one entry, to be read frame by frame. It holds the engine's files: read it and let it go.
pub struct Checkpoint {
    view: Arc<dyn TableView>,
    meta: Meta,
    shard: ShardId,
    blocking: Arc<dyn Blocking>,
}

/// Where the reading of a checkpoint stands.
#[derive(Clone, Debug)]
pub struct CheckpointCursor {
    next_key: Bytes,
    link: Link,
    records: u64,
}

impl Default for CheckpointCursor {
    /// Before the first frame.
    fn default() -> Self {
        Self { next_key: Bytes::copy_from_slice(&Family::Meta.start()), link: Link::default(), records: 0 }
    }
}

impl Tables {
    /// A checkpoint at everything that is applied now, or later: flushes first.
    ///
    /// # Errors
    /// [`TablesError`]
    pub async fn checkpoint(&self) -> Result<Checkpoint, TablesError> {
        self.flush().await?;
        let (table, blocking) = (self.inner.table(), Arc::clone(&self.inner.blocking));
        let (view, meta) = blocking
            .run(move || {
                let view: Arc<dyn TableView> = table.view().into();
                let meta = read_meta(&*view)?.unwrap_or_default();
                Ok::<_, TablesError>((view, meta))
            })
            .await?;
        Ok(Checkpoint { view, meta, shard: self.shard(), blocking })
    }
}

impl Checkpoint {
    /// The last entry whose effects it holds; none: it is empty.
    #[must_use]
    pub fn applied(&self) -> Option<EntryId> {
        self.meta.applied
    }

    /// The membership in force at that entry.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.meta.membership.as_ref()
    }

    /// The ids of all nodes that were ever members.
    #[must_use]
    pub fn seen_nodes(&self) -> &Bytes {
        &self.meta.seen_nodes
    }

    /// The hash over every decision up to that entry.
    #[must_use]
    pub fn state_hash(&self) -> u128 {
        self.meta.shard.chain
    }

    /// The next frame, and where to go on; none after the last one. Begin with the default cursor.
    ///
    /// # Errors
    /// [`TablesError`]
    pub async fn read(&self, cursor: CheckpointCursor) -> Result<(Bytes, Option<CheckpointCursor>), TablesError> {
        let (view, shard) = (Arc::clone(&self.view), self.shard);
        self.blocking.run(move || next_frame(&*view, shard, cursor)).await
    }
}

/// Rows from a key on, as many as one frame takes; none behind the last.
fn next_rows(view: &dyn TableView, from: &[u8]) -> Result<Vec<(Bytes, Bytes)>, TablesError> {
    Ok(view.scan(Scan::ascending(from, &Family::Removal.end(), FRAME_ROWS_MAX, FRAME_BYTES_TARGET))?)
}

/// The key that comes next.
fn after(key: &Bytes) -> Bytes {
    [key.as_ref(), &[0]].concat().into()
}

fn next_frame(
    view: &dyn TableView,
    shard: ShardId,
    mut cursor: CheckpointCursor,
) -> Result<(Bytes, Option<CheckpointCursor>), TablesError> {
    let rows = next_rows(view, &cursor.next_key)?;
    let mut body = Vec::with_capacity(FRAME_BYTES_TARGET / 4);
    if cursor.link.is_first() {
        Record::Opening { shard }.encode(&mut body);
        cursor.records += 1;
    }
    let Some((last, _)) = rows.last() else {
        body.extend_from_slice(&cursor.records.to_be_bytes());
        let frame = cursor.link.seal(FrameKind::End, &body);
        return Ok((frame, None));
    };
    cursor.next_key = after(last);
    for (key, value) in &rows {
        for record in Record::of_row(key, value)? {
            record.encode(&mut body);
            cursor.records += 1;
        }
    }
    let frame = cursor.link.seal(FrameKind::Records, &body);
    Ok((frame, Some(cursor)))
}

#[cfg(test)]
mod tests;
