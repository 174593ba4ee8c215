//! The hash over every decision of a shard: replicas that applied the same entries and do not agree on it have diverged.
//!
//! It covers every answer and every change, cheaply: bodies are covered by the digest that the head keeps anyway.

use xxhash_rust::xxh3::xxh3_128;

use crate::change::{Change, Decision, Head, SnapshotRecord, StoredWrite, Upload};
use crate::codec::{Sink, bytes_field, option, signed, varint};
use crate::event::Payload;
use crate::ids::SaveId;
use crate::reply::{Refusal, Reply, TooMany, WriteOutcome, WriteReply};

/// Takes in the decisions of one batch.
pub(super) struct Chain(Vec<u8>);

impl Chain {
    /// Goes on from the hash after the batch before.
    pub(super) fn after(previous: u128) -> Self {
        Self(previous.to_le_bytes().to_vec())
    }

    /// Takes in one decision.
    pub(super) fn add(&mut self, decision: &Decision) {
        put_reply(&mut self.0, &decision.reply);
        varint(&mut self.0, decision.changes.len() as u64);
        let mut head = None;
        for change in &decision.changes {
            if let Change::Head { head: changed, .. } = change {
                head = Some(changed);
            }
            put_change(&mut self.0, change, head);
        }
    }

    /// The hash after this batch.
    pub(super) fn seal(self) -> u128 {
        xxh3_128(&self.0)
    }
}

fn put_reply(out: &mut Vec<u8>, reply: &Reply) {
    match reply {
        Reply::Write(reply) => {
            out.push(0);
            put_write_reply(out, reply);
        }
        Reply::Claim(answer) => put_answer(out, 1, answer, |out, granted| {
            varint(out, granted.epoch.0);
            varint(out, granted.highest.0);
        }),
        Reply::DeleteTo(answer) => put_answer(out, 2, answer, |out, deleted| {
            varint(out, deleted.deleted_to.0);
            varint(out, deleted.highest.0);
        }),
        Reply::SnapshotChunk(answer) => put_answer(out, 3, answer, |out, chunks| varint(out, u64::from(*chunks))),
        Reply::SaveSnapshot(answer) => put_answer(out, 4, answer, |out, saved| {
            signed(out, saved.timestamp);
            varint(out, saved.save_number.0);
        }),
        Reply::DeleteSnapshots(answer) => put_answer(out, 5, answer, |out, deleted| varint(out, deleted.deleted)),
    }
}

fn put_answer<T>(out: &mut Vec<u8>, kind: u8, answer: &Result<T, Refusal>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    out.push(kind);
    match answer {
        Ok(value) => {
            out.push(0);
            put(out, value);
        }
        Err(refusal) => {
            out.push(1);
            put_refusal(out, refusal);
        }
    }
}

fn put_write_reply(out: &mut Vec<u8>, reply: &WriteReply) {
    varint(out, reply.highest.0);
    option(out, reply.check.as_ref(), put_refusal);
    varint(out, reply.outcomes.len() as u64);
    for outcome in &reply.outcomes {
        match outcome {
            WriteOutcome::Stored { previous, position, timestamp } => {
                out.push(0);
                varint(out, previous.0);
                varint(out, position.0);
                signed(out, timestamp.0);
            }
            WriteOutcome::Refused(refusal) => {
                out.push(1);
                put_refusal(out, refusal);
            }
        }
    }
}

fn put_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    match refusal {
        Refusal::Conflict { highest, writer, epoch } => {
            out.push(0);
            varint(out, highest.0);
            bytes_field(out, writer.as_bytes());
            varint(out, epoch.0);
        }
        Refusal::Fenced { epoch, writer, highest } => {
            out.push(1);
            varint(out, epoch.0);
            bytes_field(out, writer.as_bytes());
            varint(out, highest.0);
        }
        Refusal::EpochMoved { epoch, writer } => {
            out.push(2);
            varint(out, epoch.0);
            bytes_field(out, writer.as_bytes());
        }
        Refusal::Forgotten => out.push(3),
        Refusal::UploadIncomplete { chunks } => {
            out.push(4);
            varint(out, u64::from(*chunks));
        }
        Refusal::TooMany { what } => {
            out.push(5);
            out.push(match what {
                TooMany::Uploads => 0,
                TooMany::Snapshots => 1,
                TooMany::SnapshotBytes => 2,
            });
        }
    }
}

fn put_change(out: &mut Vec<u8>, change: &Change, head: Option<&Head>) {
    match change {
        Change::Head { persistence_id, head } => {
            out.push(0);
            bytes_field(out, persistence_id.as_bytes());
            put_head(out, head);
        }
        Change::Append(write) => {
            out.push(1);
            put_append(out, write, head);
        }
        Change::PutSnapshot(record) => {
            out.push(2);
            put_snapshot(out, record);
        }
        Change::DropSnapshot { journal, sequence_number } => {
            out.push(3);
            varint(out, journal.0);
            varint(out, sequence_number.0);
        }
        Change::PutChunk { journal, save_id, index, bytes } => {
            out.push(4);
            varint(out, journal.0);
            put_save_id(out, *save_id);
            varint(out, u64::from(*index));
            out.put(&xxh3_128(bytes).to_le_bytes());
        }
        Change::DropChunks { journal, save_id, chunks } => {
            out.push(5);
            varint(out, journal.0);
            put_save_id(out, *save_id);
            varint(out, u64::from(*chunks));
        }
        Change::PutUpload { save_id, upload } => {
            out.push(6);
            put_save_id(out, *save_id);
            put_upload(out, upload);
        }
        Change::DropUpload { save_id } => {
            out.push(7);
            put_save_id(out, *save_id);
        }
    }
}

/// What a decision can change in a head. Lists only grow at their end, and their end is here; earlier decisions cover the rest.
fn put_head(out: &mut Vec<u8>, head: &Head) {
    varint(out, head.journal.0);
    varint(out, head.highest.0);
    varint(out, head.deleted_to.0);
    varint(out, head.removed_to.0);
    varint(out, head.epoch.0);
    bytes_field(out, head.writer.as_bytes());
    signed(out, head.timestamp.0);
    varint(out, head.saves.0);
    varint(out, u64::from(head.snapshots));
    option(out, head.last_write.as_ref(), |out, last| {
        varint(out, last.first.0);
        varint(out, last.last.0);
        out.put(&last.digest.to_le_bytes());
    });
    varint(out, head.former_writers.len() as u64);
    option(out, head.former_writers.last(), |out, former| {
        bytes_field(out, former.writer.as_bytes());
        varint(out, former.epoch.0);
    });
    varint(out, head.recent_saves.len() as u64);
    option(out, head.recent_saves.last(), |out, save| put_save_id(out, save.save_id));
}

fn put_append(out: &mut Vec<u8>, write: &StoredWrite, head: Option<&Head>) {
    varint(out, write.journal.0);
    varint(out, write.previous.0);
    varint(out, write.first.0);
    varint(out, write.last.0);
    varint(out, u64::from(write.count));
    varint(out, write.position.0);
    signed(out, write.timestamp.0);
    // The last one's writer and body are covered by the digest in the head.
    let last = head.and_then(|head| head.last_write.as_ref());
    if last.is_none_or(|last| last.first != write.first) {
        out.put(&xxh3_128(&write.body).to_le_bytes());
    }
}

fn put_snapshot(out: &mut Vec<u8>, record: &SnapshotRecord) {
    varint(out, record.journal.0);
    varint(out, record.sequence_number.0);
    signed(out, record.timestamp);
    put_save_id(out, record.save_id);
    varint(out, record.save_number.0);
    bytes_field(out, record.writer.as_bytes());
    put_payload(out, &record.payload);
    option(out, record.metadata.as_ref(), put_payload);
    varint(out, u64::from(record.chunks));
    varint(out, record.bytes_total);
}

fn put_payload(out: &mut Vec<u8>, payload: &Payload) {
    signed(out, i64::from(payload.serializer_id));
    bytes_field(out, payload.manifest.as_bytes());
    bytes_field(out, &payload.bytes);
}

fn put_upload(out: &mut Vec<u8>, upload: &Upload) {
    varint(out, upload.journal.0);
    varint(out, u64::from(upload.chunks));
    varint(out, upload.bytes_total);
    signed(out, upload.timestamp.0);
}

fn put_save_id(out: &mut Vec<u8>, save_id: SaveId) {
    out.put(save_id.0.as_bytes());
}
