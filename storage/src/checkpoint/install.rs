//! Installing a checkpoint: frame by frame into a new generation, which becomes current in one step when it is complete.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use cairn_machine::{DecodeError, Position, ShardId, StoredWrite};
use tokio::sync::OwnedSemaphorePermit;

use super::frame::{FrameKind, Link};
use super::record::Record;
use crate::blocking::BlockingExt;
use crate::engine::{RunRow, Table};
use crate::entry::EntryId;
use crate::keys::chunk;
use crate::keys::meta::{self, Membership, Meta};
use crate::tables::{Generation, Inner, Tables, TablesError, chunk_rows, drop_others, make_current};

/// Rows are ingested when they reach this many bytes.
const RUN_BYTES: usize = 16 * 1024 * 1024;

/// Why a checkpoint was not installed. The tables are as they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// What came is not a whole, undamaged checkpoint of this shard: let this installation go and ask for another one.
    #[error("the checkpoint is refused: {reason}")]
    Refused {
        /// What is wrong with it.
        reason: String,
    },
    /// The tables themselves failed.
    #[error(transparent)]
    Tables(#[from] TablesError),
}

impl From<DecodeError> for CheckpointError {
    fn from(error: DecodeError) -> Self {
        Self::Refused { reason: error.to_string() }
    }
}

fn refused(reason: impl Into<String>) -> CheckpointError {
    CheckpointError::Refused { reason: reason.into() }
}

/// A checkpoint that is being installed. Dropping it leaves a stale generation, which goes with the next installation or start.
pub struct CheckpointInstall {
    inner: Arc<Inner>,
    generation: Generation,
    permit: OwnedSemaphorePermit,
    /// None after an error, or when a call was abandoned half-way.
    builder: Option<Builder>,
}

/// A checkpoint that was installed as a whole and is durable, but not current yet.
pub struct CompleteCheckpoint {
    generation: Generation,
    table: Arc<dyn Table>,
    meta: Meta,
    _permit: OwnedSemaphorePermit,
}

impl CompleteCheckpoint {
    /// The last entry whose effects it holds.
    #[must_use]
    pub fn applied(&self) -> Option<EntryId> {
        self.meta.applied
    }

    /// The membership in force at that entry.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.meta.membership.as_ref()
    }
}

impl Tables {
    /// Begins to install a checkpoint as a new generation. One at a time.
    ///
    /// # Errors
    /// [`TablesError::TooMany`] while another installation is under way; [`TablesError::Broken`].
    pub async fn begin_install(&self) -> Result<CheckpointInstall, TablesError> {
        let inner = Arc::clone(&self.inner);
        let turn = Arc::clone(&inner.install_turn).try_acquire_owned();
        let permit = turn.map_err(|_| TablesError::TooMany { what: "installations of checkpoints" })?;
        let (shard, current) = (inner.shard, inner.state().generation);
        let generation = Generation { shard, number: current + 1 };
        let engine = Arc::clone(&inner.engine);
        let table = inner
            .blocking
            .run(move || {
                drop_others(&*engine, Generation { shard, number: current })?;
                Ok::<_, TablesError>(engine.open(&generation.table_name())?)
            })
            .await?;
        let builder = Some(Builder::new(shard, table));
        Ok(CheckpointInstall { inner, generation, permit, builder })
    }

    /// Makes an installed checkpoint the state of the shard, durably and in one step; the generation before it is dropped.
    ///
    /// # Errors
    /// [`CheckpointError::Refused`] if it is not newer than what is applied here; else the node stops.
    pub async fn switch(&self, complete: CompleteCheckpoint) -> Result<Option<EntryId>, CheckpointError> {
        let inner = Arc::clone(&self.inner);
        let (apply_turn, flush_turn) = inner.both_turns().await;
        let applied = inner.state().meta.applied;
        if complete.meta.applied.map(|entry| entry.index) <= applied.map(|entry| entry.index) {
            return Err(refused("it is not newer than what is applied"));
        }
        let installed = complete.meta.applied;
        let blocking = Arc::clone(&inner.blocking);
        // One job from the pointer on: what is durable and what is in memory never part, even if the caller stops waiting.
        let switched = blocking.run(move || {
            let _turns = (apply_turn, flush_turn);
            make_current(&*inner.engine, complete.generation)?;
            inner.replace(complete.table, complete.generation.number, complete.meta)?;
            drop_others(&*inner.engine, complete.generation)
        });
        switched.await.map_err(|error| self.inner.fail(error))?;
        self.refresh_subscriptions().await?;
        Ok(installed)
    }
}

impl CheckpointInstall {
    /// Writes the next frame.
    ///
    /// # Errors
    /// [`CheckpointError::Refused`] if it is not the next frame, or damaged; after an error the installation is over.
    pub async fn write(&mut self, frame: Bytes) -> Result<(), CheckpointError> {
        let mut builder = self.builder.take().ok_or_else(|| refused("the installation has failed before"))?;
        let written = self.inner.blocking.run(move || {
            builder.add(&frame)?;
            Ok::<_, CheckpointError>(builder)
        });
        self.builder = Some(written.await?);
        Ok(())
    }

    /// Completes the installation: everything is durable when it returns.
    ///
    /// # Errors
    /// [`CheckpointError::Refused`] if the last frame has not come.
    pub async fn finish(mut self) -> Result<CompleteCheckpoint, CheckpointError> {
        let builder = self.builder.take().ok_or_else(|| refused("the installation has failed before"))?;
        let (table, meta) = self.inner.blocking.run(move || builder.finish()).await?;
        Ok(CompleteCheckpoint { generation: self.generation, table, meta, _permit: self.permit })
    }
}

/// Turns records into rows of a new table.
struct Builder {
    shard: ShardId,
    table: Arc<dyn Table>,
    link: Link,
    records: u64,
    is_ended: bool,
    meta: Option<Meta>,
    /// Writes of one journal that make no whole chunk yet.
    writes: Vec<StoredWrite>,
    rows: Vec<RunRow>,
    rows_bytes: usize,
    last_key: Option<Bytes>,
    next_position: Option<Position>,
}

impl Builder {
    fn new(shard: ShardId, table: Arc<dyn Table>) -> Self {
        Self {
            shard,
            table,
            link: Link::default(),
            records: 0,
            is_ended: false,
            meta: None,
            writes: Vec::new(),
            rows: Vec::new(),
            rows_bytes: 0,
            last_key: None,
            next_position: None,
        }
    }

    fn add(&mut self, frame: &Bytes) -> Result<(), CheckpointError> {
        if self.is_ended {
            return Err(refused("a frame came after the last one"));
        }
        let is_first = self.link.is_first();
        let (kind, mut body) = self.link.open(frame).map_err(|reason| refused(format!("a frame is {reason}")))?;
        if kind == FrameKind::End {
            return self.end(&body, is_first);
        }
        while body.has_remaining() {
            let record = Record::decode(&mut body)?;
            self.records += 1;
            if (self.records == 1) != matches!(record, Record::Opening { .. }) {
                return Err(refused("it does not begin with its opening"));
            }
            self.add_record(record)?;
        }
        Ok(())
    }

    fn end(&mut self, body: &[u8], is_first: bool) -> Result<(), CheckpointError> {
        let records: [u8; 8] = body.try_into().map_err(|_| refused("its last frame is malformed"))?;
        if is_first || u64::from_be_bytes(records) != self.records {
            return Err(refused("records are missing"));
        }
        self.is_ended = true;
        Ok(())
    }

    fn add_record(&mut self, record: Record) -> Result<(), CheckpointError> {
        match record {
            Record::Opening { shard } if shard != self.shard => Err(refused(format!("it is of shard {shard}"))),
            Record::Opening { .. } => Ok(()),
            Record::Meta(found) => {
                self.meta = Some(found);
                Ok(())
            }
            Record::Write(write) => self.add_write(write),
            other => {
                self.end_chunks()?;
                self.check_positions(&other)?;
                let (key, value) = other.into_row().expect("all others were handled above");
                self.add_row(key, Some(value))
            }
        }
    }

    fn check_positions(&mut self, record: &Record) -> Result<(), CheckpointError> {
        let Record::Positions(writes) = record else { return Ok(()) };
        let first = writes.first().map(|write| write.position);
        if self.next_position.is_some() && self.next_position != first {
            return Err(refused("its positions have a hole"));
        }
        self.next_position = writes.last().map(|write| write.end());
        Ok(())
    }

    fn add_write(&mut self, write: StoredWrite) -> Result<(), CheckpointError> {
        if let Some(before) = self.writes.last() {
            if before.journal != write.journal {
                self.end_chunks()?;
            } else if write.previous != before.last {
                return Err(refused(format!("a write of journal {} is missing", write.journal)));
            } else if write.position.0 < before.position.0 + u64::from(before.count) {
                return Err(refused(format!("a write of journal {} is out of order", write.journal)));
            }
        }
        self.writes.push(write);
        // All chunks but the last one are whole; a journal of any length is passed on piece by piece.
        if self.writes.len() >= 2 * chunk::EVENTS_MAX {
            let whole = chunk::split(&self.writes).next().map_or(0, <[StoredWrite]>::len);
            let rest = self.writes.split_off(whole);
            let writes = std::mem::replace(&mut self.writes, rest);
            self.add_chunks(&writes)?;
        }
        Ok(())
    }

    fn end_chunks(&mut self) -> Result<(), CheckpointError> {
        let writes = std::mem::take(&mut self.writes);
        self.add_chunks(&writes)
    }

    fn add_chunks(&mut self, writes: &[StoredWrite]) -> Result<(), CheckpointError> {
        let Some(first) = writes.first() else { return Ok(()) };
        for (key, value) in chunk_rows(first.journal, writes) {
            self.add_row(key, value)?;
        }
        Ok(())
    }

    fn add_row(&mut self, key: Bytes, value: Option<Bytes>) -> Result<(), CheckpointError> {
        if self.last_key.as_ref().is_some_and(|last| *last >= key) {
            return Err(refused("its records are out of order"));
        }
        self.last_key = Some(key.clone());
        self.rows_bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.rows.push((key, value));
        if self.rows_bytes >= RUN_BYTES {
            self.ingest()?;
        }
        Ok(())
    }

    fn ingest(&mut self) -> Result<(), CheckpointError> {
        self.rows_bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        self.table.ingest(&mut rows.into_iter()).map_err(TablesError::from)?;
        Ok(())
    }

    fn finish(mut self) -> Result<(Arc<dyn Table>, Meta), CheckpointError> {
        if !self.is_ended {
            return Err(refused("its last frame is missing"));
        }
        self.end_chunks()?;
        self.ingest()?;
        let meta = self.meta.take().ok_or_else(|| refused("it says nothing of the shard as a whole"))?;
        if self.next_position.is_some_and(|next| next != meta.shard.next_position) {
            return Err(refused("its positions end early"));
        }
        // Last: a table without this row is an empty one.
        let mut row = std::iter::once((meta::key(), Some(meta::encode(&meta))));
        self.table.ingest(&mut row).map_err(TablesError::from)?;
        Ok((self.table, meta))
    }
}
