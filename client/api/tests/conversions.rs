//! What goes over the wire comes back as it was, whatever it was.

use bytes::Bytes;
use cairn_api::{Follow, FollowShard, Freshness, HighestReply, Listing, Recover, Replay, SnapshotInfo, reply, v1};
use cairn_machine::{
    AtomicWrite, Claim, ClaimReply, Criteria, DeleteReply, DeleteSnapshot, DeleteSnapshots, DeleteTo, Event, Payload,
    PersistenceId, Position, Refusal, SaveId, SaveNumber, SaveReply, SaveSnapshot, SequenceNumber, ShardId, SnapshotChunk,
    SnapshotData, StoredEvent, Timestamp, Write, WriteOutcome, WriteReply, WriterEpoch, WriterId,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Sends a message through its encoding.
fn travel<M: prost::Message + Default>(message: M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..10, Just(i64::MAX as u64), 0..=i64::MAX as u64]
}

fn persistence_id() -> impl Strategy<Value = PersistenceId> {
    "[a-z|\u{e9}\u{1f600}\0]{1,20}".prop_map(|text| PersistenceId::new(text).unwrap())
}

fn writer() -> impl Strategy<Value = WriterId> {
    "[a-z\u{e9}]{0,30}".prop_map(|text| WriterId::new(text).unwrap())
}

fn payload() -> impl Strategy<Value = Payload> {
    (any::<i32>(), ".{0,12}", vec(any::<u8>(), 0..40)).prop_map(|(serializer_id, manifest, bytes)| Payload {
        serializer_id,
        manifest,
        bytes: bytes.into(),
    })
}

fn event(sequence_number: u64) -> impl Strategy<Value = Event> {
    (payload(), ".{0,12}", option::of(payload()), vec(".{1,8}", 0..4)).prop_map(
        move |(payload, adapter_manifest, metadata, tags)| Event {
            sequence_number: SequenceNumber(sequence_number),
            payload,
            adapter_manifest,
            metadata,
            tags,
        },
    )
}

fn criteria() -> impl Strategy<Value = Criteria> {
    (number(), number(), any::<i64>(), any::<i64>()).prop_map(|(min, max, timestamp_min, timestamp_max)| Criteria {
        sequence_number_min: SequenceNumber(min),
        sequence_number_max: SequenceNumber(max),
        timestamp_min,
        timestamp_max,
    })
}

fn known() -> impl Strategy<Value = HighestReply> {
    (number(), number(), number(), number(), writer(), number()).prop_map(
        |(highest, deleted_to, removed_to, epoch, writer, saves)| HighestReply {
            highest: SequenceNumber(highest),
            deleted_to: SequenceNumber(deleted_to),
            removed_to: SequenceNumber(removed_to),
            epoch: WriterEpoch(epoch),
            writer,
            saves: SaveNumber(saves),
        },
    )
}

proptest! {
    #[test]
    fn events_travel(stored in (event(9), number(), any::<i64>(), writer(), number(), any::<bool>())) {
        let (event, position, timestamp, writer, write_first, deleted) = stored;
        let stored = StoredEvent {
            event,
            position: Position(position),
            timestamp: Timestamp(timestamp),
            writer,
            write_first: SequenceNumber(write_first),
            deleted,
        };
        prop_assert_eq!(&StoredEvent::try_from(travel(v1::StoredEvent::from(stored.clone()))).unwrap(), &stored);
    }

    #[test]
    fn writes_travel(
        head in (persistence_id(), writer(), option::of(number()), option::of(number())),
        events in (event(1), event(2), event(7)),
    ) {
        let (persistence_id, writer, epoch, after) = head;
        let atomic_writes = vec![vec![events.0, events.1], vec![events.2]];
        let expected = Write {
            persistence_id: persistence_id.clone(),
            writer: writer.clone(),
            epoch: epoch.map(WriterEpoch),
            after: after.map(SequenceNumber),
            atomic_writes: atomic_writes.iter().map(|events| AtomicWrite::new(events).unwrap()).collect(),
        };
        let wire = v1::WriteRequest {
            persistence_id: persistence_id.to_string(),
            writer_id: writer.to_string(),
            epoch: epoch.map(|epoch| epoch as i64),
            after: after.map(|after| after as i64),
            atomic_writes: atomic_writes
                .into_iter()
                .map(|events| v1::AtomicWrite { events: events.into_iter().map(Into::into).collect() })
                .collect(),
        };
        prop_assert_eq!(Write::try_from(travel(wire)).unwrap(), expected);
    }

    #[test]
    fn journal_commands_travel(
        persistence_id in persistence_id(),
        writer in "[a-z]{1,9}",
        numbers in (number(), option::of(number())),
        permanent in any::<bool>(),
    ) {
        let writer = WriterId::new(writer).unwrap();
        let claim = Claim { persistence_id: persistence_id.clone(), writer: writer.clone(), epoch_read: WriterEpoch(numbers.0) };
        prop_assert_eq!(Claim::try_from(travel(v1::ClaimRequest::from(claim.clone()))).unwrap(), claim);
        let to = SequenceNumber(numbers.0);
        let delete = DeleteTo { persistence_id, to, permanent, writer, epoch: numbers.1.map(WriterEpoch) };
        prop_assert_eq!(DeleteTo::try_from(travel(v1::DeleteToRequest::from(delete.clone()))).unwrap(), delete);
    }

    #[test]
    fn snapshot_commands_travel(
        head in (persistence_id(), writer(), option::of(number()), number(), number()),
        save_id in 1u128..,
        body in (payload(), option::of(payload()), option::of(any::<i64>()), criteria()),
        uploaded in option::of((1u32.., 0..=cairn_machine::limits::SNAPSHOT_BYTES_MAX)),
    ) {
        let (persistence_id, writer, epoch, sequence_number, saves) = head;
        let (payload, metadata, timestamp, criteria) = body;
        let (sequence_number, epoch) = (SequenceNumber(sequence_number), epoch.map(WriterEpoch));
        let save_id = SaveId(uuid::Uuid::from_u128(save_id));
        let bytes = if payload.bytes.is_empty() { Bytes::from_static(b"x") } else { payload.bytes.clone() };
        let chunk = SnapshotChunk { persistence_id: persistence_id.clone(), save_id, index: 3, bytes: bytes.clone() };
        prop_assert_eq!(SnapshotChunk::try_from(travel(v1::UploadRequest::from(chunk.clone()))).unwrap(), chunk);
        let save = SaveSnapshot {
            persistence_id: persistence_id.clone(),
            sequence_number,
            timestamp,
            save_id,
            saves_read: SaveNumber(saves),
            payload: Payload { bytes: Bytes::new(), ..payload },
            data: uploaded.map_or(SnapshotData::Inline(bytes), |(chunks, bytes_total)| SnapshotData::Uploaded { chunks, bytes_total }),
            metadata,
            writer: writer.clone(),
            epoch,
        };
        prop_assert_eq!(SaveSnapshot::try_from(travel(v1::SaveRequest::from(save.clone()))).unwrap(), save);
        let delete = DeleteSnapshot {
            persistence_id: persistence_id.clone(),
            sequence_number,
            timestamp: timestamp.filter(|timestamp| *timestamp != 0),
            saves_read: Some(SaveNumber(saves)),
            writer: writer.clone(),
            epoch,
        };
        prop_assert_eq!(DeleteSnapshot::try_from(travel(v1::DeleteSnapshotRequest::from(delete.clone()))).unwrap(), delete);
        let delete = DeleteSnapshots { persistence_id, criteria, saves_read: None, writer, epoch };
        prop_assert_eq!(DeleteSnapshots::try_from(travel(v1::DeleteSnapshotsRequest::from(delete.clone()))).unwrap(), delete);
    }

    #[test]
    fn reads_travel(
        persistence_id in persistence_id(),
        numbers in (1..=i64::MAX as u64, number(), number()),
        freshness in prop_oneof![Just(Freshness::Strong), Just(Freshness::Local), number().prop_map(Freshness::AtLeast)],
        include_deleted in any::<bool>(),
        criteria in option::of(criteria()),
        writer in writer(),
        slices in option::of((0u16..1024).prop_flat_map(|min| (Just(min), min.max(1)..1024))),
        tag in option::of(".{1,9}"),
    ) {
        let (from, to, max) = (SequenceNumber(numbers.0), SequenceNumber(numbers.1), numbers.2);
        let replay = Replay { persistence_id: persistence_id.clone(), from, to, max, include_deleted, freshness };
        prop_assert_eq!(Replay::try_from(travel(v1::ReplayRequest::from(replay.clone()))).unwrap(), replay);
        let writer = (!writer.is_empty()).then_some(writer);
        let recover = Recover { persistence_id: persistence_id.clone(), writer, criteria, to, max };
        prop_assert_eq!(Recover::try_from(travel(v1::RecoverRequest::from(recover.clone()))).unwrap(), recover);
        let follow = v1::FollowRequest { persistence_id: persistence_id.to_string(), from: from.to_wire() };
        prop_assert_eq!(Follow::try_from(travel(follow)).unwrap(), Follow { persistence_id, from });
        let follow = FollowShard { shard: ShardId(3), after: Position(numbers.1), tag, slices, current: include_deleted };
        prop_assert_eq!(FollowShard::try_from(travel(v1::FollowShardRequest::from(follow.clone()))).unwrap(), follow);
    }

    #[test]
    fn answers_travel(
        known in known(),
        persistence_id in persistence_id(),
        numbers in (number(), number(), any::<i64>()),
        snapshots in any::<u32>(),
        metadata in option::of(payload()),
    ) {
        prop_assert_eq!(&HighestReply::try_from(travel(v1::HighestResponse::from(known.clone()))).unwrap(), &known);
        let listing = Listing {
            persistence_id: persistence_id.clone(),
            known: known.clone(),
            snapshots,
            shard: ShardId(9),
            timestamp: Timestamp(numbers.2),
        };
        prop_assert_eq!(Listing::try_from(travel(v1::JournalInfo::from(listing.clone()))).unwrap(), listing);
        let info = SnapshotInfo {
            persistence_id,
            sequence_number: known.highest,
            timestamp: numbers.2,
            serializer_id: 5,
            manifest: "m".to_owned(),
            metadata,
            bytes_total: numbers.0,
            writer: known.writer.clone(),
            save_number: known.saves,
        };
        prop_assert_eq!(SnapshotInfo::try_from(travel(v1::SnapshotInfo::from(info.clone()))).unwrap(), info);
        let claimed = ClaimReply { epoch: known.epoch, highest: known.highest };
        prop_assert_eq!(ClaimReply::try_from(travel(v1::ClaimResponse::from(claimed.clone()))).unwrap(), claimed);
        let deleted = DeleteReply { deleted_to: known.deleted_to, highest: known.highest };
        prop_assert_eq!(DeleteReply::try_from(travel(v1::DeleteToResponse::from(deleted.clone()))).unwrap(), deleted);
        let saved = SaveReply { timestamp: numbers.2, save_number: known.saves };
        prop_assert_eq!(SaveReply::try_from(travel(v1::SaveResponse::from(saved.clone()))).unwrap(), saved);
        let stored = WriteOutcome::Stored {
            previous: known.highest,
            position: Position(numbers.1),
            timestamp: Timestamp(numbers.2),
        };
        let refusal = Refusal::Conflict { highest: known.highest, writer: known.writer, epoch: known.epoch };
        let refused = WriteOutcome::Refused(refusal.clone());
        let written = WriteReply { highest: known.highest, check: None, outcomes: vec![stored, refused] };
        let wire = travel(reply::write_response(written.clone()).unwrap());
        prop_assert_eq!(WriteReply::try_from(wire).unwrap(), written);
        let checked = WriteReply { highest: known.highest, check: Some(refusal.clone()), outcomes: Vec::new() };
        prop_assert_eq!(reply::write_response(checked).unwrap_err().refusal(), Some(refusal));
    }
}
