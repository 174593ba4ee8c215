//! Snapshots: transfer in chunks, save, deletion.
//!
//! Chunks lie under their save's id and are seen by nobody until the save makes its record; a save at a number that has a
//! snapshot replaces it in the same step. So a snapshot is there whole or not at all, and a save that fails leaves the one before
//! it as it was.

use xxhash_rust::xxh3::xxh3_64;

use super::fencing::{conflict, fence_upkeep};
use super::{head_or_new, unchanged};
use crate::change::{Change, Decision, Head, RecentSave, SnapshotRecord, Upload};
use crate::codec::{bytes_field, option, put_payload, signed, varint};
use crate::command::{DeleteSnapshot, DeleteSnapshots, SaveSnapshot, SnapshotChunk, SnapshotData};
use crate::ids::{PersistenceId, SaveId, SaveNumber, SequenceNumber, Timestamp, WriterEpoch, WriterId};
use crate::limits::{RECENT_SAVES_MAX, SNAPSHOT_BYTES_MAX, SNAPSHOTS_MAX, UPLOAD_IDLE_MICROS_MAX, UPLOADS_MAX};
use crate::reply::{DeleteSnapshotsReply, Refusal, Reply, SaveReply, TooMany};
use crate::view::View;

/// Stores a chunk if it is the next one of its upload; chunk 0 begins one.
pub(super) fn decide_chunk<V: View>(view: &V, chunk: &SnapshotChunk, moment: Timestamp) -> Result<Decision, V::Error> {
    let known = view.head(&chunk.persistence_id)?;
    let after_it = chunk.index.saturating_add(1);
    if known.as_ref().is_some_and(|head| recent(head, chunk.save_id).is_some()) {
        return Ok(unchanged(Reply::SnapshotChunk(Ok(after_it))));
    }
    let chunks_there = match view.shard().uploads.get(&chunk.save_id) {
        None => 0,
        Some(upload) if known.as_ref().is_some_and(|head| head.journal == upload.journal) => {
            return Ok(continue_upload(upload, chunk, moment));
        }
        // The id names another journal's upload: for this one there is nothing.
        Some(_) => return Ok(incomplete(0)),
    };
    if chunk.index > chunks_there {
        return Ok(incomplete(chunks_there));
    }
    if let Some(head) = &known
        && is_saved(view, head, chunk.save_id)?
    {
        return Ok(unchanged(Reply::SnapshotChunk(Ok(after_it))));
    }
    Ok(begin_upload(view, known, chunk, moment))
}

fn continue_upload(upload: &Upload, chunk: &SnapshotChunk, moment: Timestamp) -> Decision {
    if chunk.index < upload.chunks {
        return unchanged(Reply::SnapshotChunk(Ok(upload.chunks)));
    }
    if chunk.index > upload.chunks {
        return incomplete(upload.chunks);
    }
    let bytes_total = upload.bytes_total.saturating_add(chunk.bytes.len() as u64);
    if bytes_total > SNAPSHOT_BYTES_MAX {
        return refuse_chunk(Refusal::TooMany { what: TooMany::SnapshotBytes });
    }
    let chunks = upload.chunks.saturating_add(1);
    let upload = Upload { journal: upload.journal, chunks, bytes_total, timestamp: upload.timestamp.max(moment) };
    Decision { reply: Reply::SnapshotChunk(Ok(chunks)), changes: put_chunk(chunk, upload).into() }
}

fn begin_upload<V: View>(view: &V, known: Option<Head>, chunk: &SnapshotChunk, moment: Timestamp) -> Decision {
    let bytes_total = chunk.bytes.len() as u64;
    if bytes_total > SNAPSHOT_BYTES_MAX {
        return refuse_chunk(Refusal::TooMany { what: TooMany::SnapshotBytes });
    }
    let mut changes = Vec::new();
    let journal = known.as_ref().map_or(view.shard().next_journal, |head| head.journal);
    if known.is_none() {
        changes.push(Change::Head { persistence_id: chunk.persistence_id.clone(), head: super::new_head(view.shard()) });
    }
    if view.shard().uploads.len() >= UPLOADS_MAX {
        let Some((save_id, idle)) = idle_longest(view, moment) else {
            return refuse_chunk(Refusal::TooMany { what: TooMany::Uploads });
        };
        changes.extend(drop_upload(save_id, idle));
    }
    changes.extend(put_chunk(chunk, Upload { journal, chunks: 1, bytes_total, timestamp: moment }));
    Decision { reply: Reply::SnapshotChunk(Ok(1)), changes }
}

/// The upload that has been idle for longest, if that is long enough to give it up.
fn idle_longest<V: View>(view: &V, moment: Timestamp) -> Option<(SaveId, &Upload)> {
    let (save_id, upload) = view.shard().uploads.iter().min_by_key(|(save_id, upload)| (upload.timestamp, **save_id))?;
    let idle_micros = moment.0.saturating_sub(upload.timestamp.0);
    (idle_micros > UPLOAD_IDLE_MICROS_MAX).then_some((*save_id, upload))
}

/// Whether a save that is long forgotten has made a snapshot that is still there. What comes under its id again, late or by mistake,
/// must not touch the bytes of that snapshot.
fn is_saved<V: View>(view: &V, head: &Head, save_id: SaveId) -> Result<bool, V::Error> {
    if !may_be_forgotten(head) {
        return Ok(false);
    }
    let snapshots = view.snapshots(head.journal, SequenceNumber(0), SequenceNumber::MAX)?;
    Ok(snapshots.iter().any(|snapshot| snapshot.save_id == save_id))
}

fn put_chunk(chunk: &SnapshotChunk, upload: Upload) -> [Change; 2] {
    let SnapshotChunk { save_id, index, ref bytes, .. } = *chunk;
    [Change::PutChunk { journal: upload.journal, save_id, index, bytes: bytes.clone() }, Change::PutUpload { save_id, upload }]
}

fn drop_upload(save_id: SaveId, upload: &Upload) -> [Change; 2] {
    [Change::DropChunks { journal: upload.journal, save_id, chunks: upload.chunks }, Change::DropUpload { save_id }]
}

fn incomplete(chunks: u32) -> Decision {
    refuse_chunk(Refusal::UploadIncomplete { chunks })
}

fn refuse_chunk(refusal: Refusal) -> Decision {
    unchanged(Reply::SnapshotChunk(Err(refusal)))
}

/// Makes a snapshot visible, once for each save id.
pub(super) fn decide_save<V: View>(view: &V, save: &SaveSnapshot, moment: Timestamp) -> Result<Decision, V::Error> {
    let mut head = head_or_new(view, &save.persistence_id)?;
    if let Some(earlier) = recent(&head, save.save_id) {
        if earlier.digest != digest(save) {
            return Ok(unchanged(Reply::SaveSnapshot(Err(conflict(&head)))));
        }
        let reply = SaveReply { timestamp: earlier.timestamp, save_number: earlier.number };
        return Ok(unchanged(Reply::SaveSnapshot(Ok(reply))));
    }
    if is_saved(view, &head, save.save_id)? {
        return Ok(unchanged(Reply::SaveSnapshot(Err(Refusal::Forgotten))));
    }
    let replaced = view.snapshot(head.journal, save.sequence_number)?;
    let upload = view.shard().uploads.get(&save.save_id).filter(|upload| upload.journal == head.journal);
    if let Err(refusal) = admit_save(&head, save, replaced.as_ref(), upload) {
        return Ok(unchanged(Reply::SaveSnapshot(Err(refusal))));
    }
    let record = record(&head, save, moment);
    let reply = SaveReply { timestamp: record.timestamp, save_number: record.save_number };
    remember(&mut head, &record, digest(save), replaced.is_some());
    let mut changes = vec![Change::Head { persistence_id: save.persistence_id.clone(), head }];
    changes.extend(replaced.as_ref().map(drop_chunks));
    changes.extend(settle_data(save, &record, upload));
    changes.push(Change::PutSnapshot(record));
    Ok(Decision { reply: Reply::SaveSnapshot(Ok(reply)), changes })
}

fn admit_save(
    head: &Head,
    save: &SaveSnapshot,
    replaced: Option<&SnapshotRecord>,
    upload: Option<&Upload>,
) -> Result<(), Refusal> {
    // A save that its sender began when there were `saves_read` of them got a number above that, if it was done. All such
    // numbers are remembered unless more saves than we remember came since. A sender that claims to have read more saves than
    // there are cannot be a retry of anything and is served.
    if head.saves.0.saturating_sub(save.saves_read.0) > RECENT_SAVES_MAX as u64 {
        return Err(Refusal::Forgotten);
    }
    fence_upkeep(head, &save.writer, save.epoch)?;
    if replaced.is_none() && head.snapshots as usize >= SNAPSHOTS_MAX {
        return Err(Refusal::TooMany { what: TooMany::Snapshots });
    }
    match save.data {
        SnapshotData::Inline(_) => Ok(()),
        SnapshotData::Uploaded { chunks, bytes_total } => match upload {
            Some(upload) if (upload.chunks, upload.bytes_total) == (chunks, bytes_total) => Ok(()),
            upload => Err(Refusal::UploadIncomplete { chunks: upload.map_or(0, |upload| upload.chunks) }),
        },
    }
}

fn record(head: &Head, save: &SaveSnapshot, moment: Timestamp) -> SnapshotRecord {
    let (chunks, bytes_total) = match &save.data {
        SnapshotData::Inline(bytes) => (u32::from(!bytes.is_empty()), bytes.len() as u64),
        SnapshotData::Uploaded { chunks, bytes_total } => (*chunks, *bytes_total),
    };
    SnapshotRecord {
        journal: head.journal,
        sequence_number: save.sequence_number,
        timestamp: save.timestamp.unwrap_or_else(|| moment.0.div_euclid(1_000)),
        save_id: save.save_id,
        save_number: SaveNumber(head.saves.0 + 1),
        writer: save.writer.clone(),
        payload: save.payload.clone(),
        metadata: save.metadata.clone(),
        chunks,
        bytes_total,
    }
}

fn remember(head: &mut Head, record: &SnapshotRecord, digest: u64, is_replacing: bool) {
    head.saves = record.save_number;
    head.snapshots += u32::from(!is_replacing);
    if head.recent_saves.len() >= RECENT_SAVES_MAX {
        head.recent_saves.remove(0);
    }
    let SnapshotRecord { save_id, save_number: number, timestamp, .. } = *record;
    head.recent_saves.push(RecentSave { save_id, number, timestamp, digest });
}

/// The digest that tells a save from any other under its id: over what its sender repeats in a retry. Persisted in heads: never
/// changes.
fn digest(save: &SaveSnapshot) -> u64 {
    let mut sent = Vec::new();
    varint(&mut sent, save.sequence_number.0);
    option(&mut sent, save.timestamp, signed);
    put_payload(&mut sent, &save.payload);
    option(&mut sent, save.metadata.as_ref(), put_payload);
    bytes_field(&mut sent, save.writer.as_bytes());
    match &save.data {
        SnapshotData::Inline(bytes) => {
            sent.push(0);
            sent.extend_from_slice(&xxh3_64(bytes).to_le_bytes());
        }
        SnapshotData::Uploaded { chunks, bytes_total } => {
            sent.push(1);
            varint(&mut sent, u64::from(*chunks));
            varint(&mut sent, *bytes_total);
        }
    }
    xxh3_64(&sent)
}

/// Puts the snapshot's bytes where its record says, and ends its upload.
fn settle_data(save: &SaveSnapshot, record: &SnapshotRecord, upload: Option<&Upload>) -> Vec<Change> {
    let save_id = save.save_id;
    match &save.data {
        SnapshotData::Uploaded { .. } => vec![Change::DropUpload { save_id }],
        SnapshotData::Inline(bytes) => {
            // Its sender began to transfer it and then changed its mind.
            let mut changes: Vec<Change> = upload.into_iter().flat_map(|upload| drop_upload(save_id, upload)).collect();
            if record.chunks > 0 {
                changes.push(Change::PutChunk { journal: record.journal, save_id, index: 0, bytes: bytes.clone() });
            }
            changes
        }
    }
}

/// Deletes the snapshot at one number.
pub(super) fn decide_delete_one<V: View>(view: &V, delete: &DeleteSnapshot) -> Result<Decision, V::Error> {
    let deletion = Deletion {
        persistence_id: &delete.persistence_id,
        from: delete.sequence_number,
        to: delete.sequence_number,
        saves_read: delete.saves_read,
        writer: &delete.writer,
        epoch: delete.epoch,
    };
    deletion.decide(view, |snapshot| delete.timestamp.is_none_or(|timestamp| timestamp == snapshot.timestamp))
}

/// Deletes every snapshot that matches.
pub(super) fn decide_delete_matching<V: View>(view: &V, delete: &DeleteSnapshots) -> Result<Decision, V::Error> {
    let deletion = Deletion {
        persistence_id: &delete.persistence_id,
        from: delete.criteria.sequence_number_min,
        to: delete.criteria.sequence_number_max,
        saves_read: delete.saves_read,
        writer: &delete.writer,
        epoch: delete.epoch,
    };
    deletion.decide(view, |snapshot| delete.criteria.matches(snapshot.sequence_number, snapshot.timestamp))
}

/// What both deletions have in common.
struct Deletion<'a> {
    persistence_id: &'a PersistenceId,
    from: SequenceNumber,
    to: SequenceNumber,
    saves_read: Option<SaveNumber>,
    writer: &'a WriterId,
    epoch: Option<WriterEpoch>,
}

impl Deletion<'_> {
    fn decide<V: View>(&self, view: &V, matches: impl Fn(&SnapshotRecord) -> bool) -> Result<Decision, V::Error> {
        let Some(mut head) = view.head(self.persistence_id)? else {
            return Ok(unchanged(deleted(0)));
        };
        let doomed = if head.snapshots == 0 || self.from > self.to {
            Vec::new()
        } else {
            let mut snapshots = view.snapshots(head.journal, self.from, self.to)?;
            snapshots.retain(|snapshot| self.saves_read.is_none_or(|read| snapshot.save_number <= read) && matches(snapshot));
            snapshots
        };
        // Nothing left to delete is what a retry finds, whoever became the writer since.
        if doomed.is_empty() {
            return Ok(unchanged(deleted(0)));
        }
        if let Err(refusal) = fence_upkeep(&head, self.writer, self.epoch) {
            return Ok(unchanged(Reply::DeleteSnapshots(Err(refusal))));
        }
        head.snapshots = head.snapshots.saturating_sub(u32::try_from(doomed.len()).unwrap_or(u32::MAX));
        let mut changes = vec![Change::Head { persistence_id: self.persistence_id.clone(), head }];
        for snapshot in &doomed {
            changes.push(Change::DropSnapshot { journal: snapshot.journal, sequence_number: snapshot.sequence_number });
            changes.push(drop_chunks(snapshot));
        }
        Ok(Decision { reply: deleted(doomed.len() as u64), changes })
    }
}

fn drop_chunks(snapshot: &SnapshotRecord) -> Change {
    Change::DropChunks { journal: snapshot.journal, save_id: snapshot.save_id, chunks: snapshot.chunks }
}

fn deleted(count: u64) -> Reply {
    Reply::DeleteSnapshots(Ok(DeleteSnapshotsReply { deleted: count }))
}

/// Whether there may be snapshots of saves that are not remembered.
fn may_be_forgotten(head: &Head) -> bool {
    head.snapshots > 0 && head.saves.0 > head.recent_saves.len() as u64
}

fn recent(head: &Head, save_id: SaveId) -> Option<&RecentSave> {
    head.recent_saves.iter().find(|save| save.save_id == save_id)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::event::Payload;

    // Heads on disk hold digests that later versions compare with.
    #[test]
    fn digest_of_a_save_is_the_one_of_version_1() {
        let save = SaveSnapshot {
            persistence_id: PersistenceId::new("cart").expect("a legal name"),
            sequence_number: SequenceNumber(7),
            timestamp: Some(-1),
            save_id: SaveId(Uuid::from_u128(1)),
            saves_read: SaveNumber(0),
            payload: Payload { serializer_id: 3, manifest: "state".to_owned(), bytes: Bytes::new() },
            data: SnapshotData::Inline(Bytes::from_static(b"body")),
            metadata: Some(Payload::default()),
            writer: WriterId::new("writer").expect("a legal writer"),
            epoch: None,
        };
        assert_eq!(digest(&save), 12_291_630_743_635_289_079);
        let uploaded = SaveSnapshot { data: SnapshotData::Uploaded { chunks: 2, bytes_total: 4 }, ..save };
        assert_eq!(digest(&uploaded), 3_941_228_303_063_590_595);
    }
}
