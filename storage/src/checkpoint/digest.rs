//! One number over a shard's whole logical state: replicas that have applied the same entry have the same.
//!
//! The hash over decisions that the rules keep says that replicas decided alike; this one is made of what they really store.
//!
//! Invariants
//! - What replicas do at times of their own leaves no trace: flushes, the grouping of rows, giving back space, installed checkpoints.
//! - Comparable between nodes of one version of Cairn.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_machine::{JournalId, SequenceNumber};
use xxhash_rust::xxh3::Xxh3;

use super::record::Record;
use super::{Checkpoint, after, next_rows};
use crate::blocking::BlockingExt;
use crate::entry::EntryId;
use crate::keys::Family;
use crate::tables::{Tables, TablesError};

impl Tables {
    /// The last entry applied, and a hash over everything that the tables hold then. Flushes, and reads everything: as costly as a
    /// checkpoint.
    ///
    /// # Errors
    /// [`TablesError`]
    pub async fn digest(&self) -> Result<(Option<EntryId>, u128), TablesError> {
        let checkpoint = self.checkpoint().await?;
        Ok((checkpoint.applied(), checkpoint.digest().await?))
    }
}

impl Checkpoint {
    /// A hash over the state that this is.
    ///
    /// # Errors
    /// [`TablesError`]
    pub async fn digest(&self) -> Result<u128, TablesError> {
        let mut digest = Digest::default();
        let mut next_key = Some(Bytes::copy_from_slice(&Family::Meta.start()));
        while let Some(from) = next_key {
            let view = Arc::clone(&self.view);
            let step = move || {
                let rows = next_rows(&*view, &from)?;
                for (key, value) in &rows {
                    Record::of_row(key, value)?.into_iter().for_each(|record| digest.add(record));
                }
                Ok::<_, TablesError>((digest, rows.last().map(|(last, _)| after(last))))
            };
            (digest, next_key) = self.blocking.run(step).await?;
        }
        Ok(digest.hash.digest128())
    }
}

#[derive(Default)]
struct Digest {
    hash: Xxh3,
    /// Journals with permanently deleted events, whose rows may still be there or not. Heads come before everything that asks.
    removed_to: BTreeMap<JournalId, SequenceNumber>,
    buffer: Vec<u8>,
}

impl Digest {
    fn add(&mut self, record: Record) {
        match record {
            Record::Opening { .. } | Record::Removal(..) => return,
            Record::Write(write) if self.is_removed(write.journal, write.last) => return,
            Record::Tag(row) if self.is_removed(row.journal, row.sequence_number) => return,
            // Each alone: how many stand in a row is up to the flush.
            Record::Positions(writes) => {
                return writes.into_iter().for_each(|write| self.put(&Record::Positions(vec![write])));
            }
            Record::Head(_, ref head) if head.removed_to.0 > 0 => {
                self.removed_to.insert(head.journal, head.removed_to);
            }
            _ => {}
        }
        self.put(&record);
    }

    fn is_removed(&self, journal: JournalId, number: SequenceNumber) -> bool {
        self.removed_to.get(&journal).is_some_and(|removed_to| number <= *removed_to)
    }

    fn put(&mut self, record: &Record) {
        self.buffer.clear();
        record.encode(&mut self.buffer);
        self.hash.update(&self.buffer);
    }
}
