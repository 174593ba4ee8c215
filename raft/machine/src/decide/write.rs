//! Writes: the order of checks is same write again, fencing, `after`, numbers.
//!
//! Sequence numbers are the idempotence keys: the same writer sending the same atomic write at the same numbers again gets the
//! first answer, whatever else happened meanwhile.

use xxhash_rust::xxh3::xxh3_128;

use super::fencing::{Standing, conflict, fence_write, supersede};
use super::{head_or_new, unchanged};
use crate::change::{Change, Decision, Head, LastWrite, StoredWrite};
use crate::command::Write;
use crate::event::AtomicWrite;
use crate::ids::{Position, Timestamp, WriterId};
use crate::limits::WRITER_ID_BYTES_MAX;
use crate::reply::{Refusal, Reply, WriteOutcome, WriteReply};
use crate::view::View;

/// Answers a write, atomic write by atomic write.
pub(super) fn decide<V: View>(view: &V, write: &Write, moment: Timestamp) -> Result<Decision, V::Error> {
    let head = head_or_new(view, &write.persistence_id)?;
    if write.atomic_writes.is_empty() {
        let reply = WriteReply { highest: head.highest, check: check(&head, write).err(), outcomes: Vec::new() };
        return Ok(unchanged(Reply::Write(reply)));
    }
    let next_position = view.shard().next_position;
    let mut attempt = Attempt { view, write, moment, head, next_position, appends: Vec::new(), refused: false };
    let mut outcomes = Vec::with_capacity(write.atomic_writes.len());
    for atomic_write in &write.atomic_writes {
        outcomes.push(attempt.outcome(atomic_write)?);
    }
    Ok(attempt.finish(outcomes))
}

/// A write without atomic writes asks whether one would fit.
fn check(head: &Head, write: &Write) -> Result<(), Refusal> {
    fence_write(head, &write.writer, write.epoch)?;
    match write.after {
        Some(after) if after != head.highest => Err(conflict(head)),
        _ => Ok(()),
    }
}

/// One write command while it is being decided; `head` is as the atomic writes so far have made it.
struct Attempt<'a, V> {
    view: &'a V,
    write: &'a Write,
    moment: Timestamp,
    head: Head,
    next_position: Position,
    appends: Vec<StoredWrite>,
    /// Whether an atomic write of this command was refused.
    refused: bool,
}

impl<V: View> Attempt<'_, V> {
    fn outcome(&mut self, atomic_write: &AtomicWrite) -> Result<WriteOutcome, V::Error> {
        let answer = match self.earlier_answer(atomic_write)? {
            Some(answer) => answer,
            None => match self.admit(atomic_write) {
                Ok(standing) => self.store(atomic_write, standing),
                Err(refusal) => WriteOutcome::Refused(refusal),
            },
        };
        self.refused |= matches!(answer, WriteOutcome::Refused(_));
        Ok(answer)
    }

    /// The first answer to the same atomic write, or that it cannot be known any more.
    fn earlier_answer(&self, atomic_write: &AtomicWrite) -> Result<Option<WriteOutcome>, V::Error> {
        if atomic_write.first > self.head.highest {
            return Ok(None);
        }
        if let Some(last) = &self.head.last_write
            && (last.first, last.last) == (atomic_write.first, atomic_write.last)
            && last.digest == digest(&self.write.writer, atomic_write)
        {
            let LastWrite { previous, position, timestamp, .. } = *last;
            return Ok(Some(WriteOutcome::Stored { previous, position, timestamp }));
        }
        // Replicas give removed events' space back each in its own time: whether they are still there must not matter.
        if atomic_write.first <= self.head.removed_to {
            return Ok(Some(WriteOutcome::Refused(Refusal::Forgotten)));
        }
        let stored = self.view.stored_write(self.head.journal, atomic_write.first)?;
        Ok(stored.filter(|stored| is_same(stored, &self.write.writer, atomic_write)).map(|stored| WriteOutcome::Stored {
            previous: stored.previous,
            position: stored.position,
            timestamp: stored.timestamp,
        }))
    }

    fn admit(&self, atomic_write: &AtomicWrite) -> Result<Standing, Refusal> {
        let standing = fence_write(&self.head, &self.write.writer, self.write.epoch)?;
        if let Some(after) = self.write.after {
            // `after` is asked before the first new atomic write. Whoever sends it never wants the successor of a refused one.
            let holds = !self.appends.is_empty() || self.head.highest == after;
            if self.refused || !holds {
                return Err(conflict(&self.head));
            }
        }
        if atomic_write.first <= self.head.highest { Err(conflict(&self.head)) } else { Ok(standing) }
    }

    fn store(&mut self, atomic_write: &AtomicWrite, standing: Standing) -> WriteOutcome {
        if standing == Standing::TakesOver {
            supersede(&mut self.head, &self.write.writer);
        }
        let previous = self.head.highest;
        let position = self.next_position;
        let timestamp = self.head.timestamp.max(self.moment);
        self.head.highest = atomic_write.last;
        self.head.timestamp = timestamp;
        self.next_position = Position(position.0 + u64::from(atomic_write.count));
        self.appends.push(StoredWrite {
            journal: self.head.journal,
            previous,
            first: atomic_write.first,
            last: atomic_write.last,
            count: atomic_write.count,
            position,
            timestamp,
            writer: self.write.writer.clone(),
            body: atomic_write.body.clone(),
        });
        WriteOutcome::Stored { previous, position, timestamp }
    }

    fn finish(mut self, outcomes: Vec<WriteOutcome>) -> Decision {
        let reply = Reply::Write(WriteReply { highest: self.head.highest, check: None, outcomes });
        let Some(last) = self.appends.last() else {
            return unchanged(reply);
        };
        self.head.last_write = Some(LastWrite {
            first: last.first,
            last: last.last,
            previous: last.previous,
            position: last.position,
            timestamp: last.timestamp,
            digest: digest_of(&last.writer, &last.body),
        });
        let mut changes = Vec::with_capacity(1 + self.appends.len());
        changes.push(Change::Head { persistence_id: self.write.persistence_id.clone(), head: self.head });
        changes.extend(self.appends.into_iter().map(Change::Append));
        Decision { reply, changes }
    }
}

fn is_same(stored: &StoredWrite, writer: &WriterId, atomic_write: &AtomicWrite) -> bool {
    stored.last == atomic_write.last
        && stored.count == atomic_write.count
        && stored.writer == *writer
        && stored.body == atomic_write.body
}

fn digest(writer: &WriterId, atomic_write: &AtomicWrite) -> u128 {
    digest_of(writer, &atomic_write.body)
}

/// The digest that tells an atomic write from any other at the same numbers. Persisted in heads: never changes.
fn digest_of(writer: &WriterId, body: &[u8]) -> u128 {
    const BODY: usize = size_of::<u128>();
    let mut bytes = [0; BODY + WRITER_ID_BYTES_MAX];
    bytes[..BODY].copy_from_slice(&xxh3_128(body).to_le_bytes());
    let writer = writer.as_bytes();
    bytes[BODY..BODY + writer.len()].copy_from_slice(writer);
    xxh3_128(&bytes[..BODY + writer.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    // Heads on disk hold digests that later versions compare with.
    #[test]
    fn digest_is_the_one_of_version_1() {
        let writer = WriterId::new("writer").expect("a legal writer");
        assert_eq!(digest_of(&writer, b"body"), 125_175_375_420_009_929_229_757_487_933_796_716_695);
        assert_eq!(digest_of(&WriterId::default(), b""), 208_885_343_438_242_066_994_155_736_156_265_488_024);
    }
}
