//! Recovery: everything an actor needs at start in one call: claim, newest snapshot, the events after it, highest number.
//!
//! Invariant: snapshot and events are of one state, however long the snapshot travels and whatever is deleted meanwhile.

use std::sync::Arc;

use cairn_api::SnapshotInfo;
use cairn_api::reply::answer;
use cairn_api::v1::{self, Failure, recover_response};
use cairn_machine::{Claim, Command, PersistenceId, Refusal, Reply, SequenceNumber, SnapshotRecord, WriterId};
use cairn_storage::tables::Watermarks;
use tokio::time::Instant;

use super::replay::{self, Range};
use super::snapshots;
use super::stream::{Answers, End, Sink, produce};
use crate::core::{Core, Shard};
use crate::failure::unexpected;

/// How often a claim is tried when others claim at the same time.
const CLAIM_TRIES_MAX: usize = 5;

type Kind = recover_response::Kind;

/// Opens a recovery: when this returns, the journal is claimed and the replica is fresh.
pub(super) async fn open(
    core: &Arc<Core>,
    recover: cairn_api::Recover,
    deadline: Instant,
) -> Result<Answers<v1::RecoverResponse>, Failure> {
    let place = core.replay_place()?;
    let shard = core.shard_of(&recover.persistence_id).clone();
    let claimed = match &recover.writer {
        Some(writer) => Some(claim(core, &shard, &recover.persistence_id, writer, deadline).await?),
        None => None,
    };
    // What the claim saw is applied at the leader when it is answered; a read without one must ask.
    if claimed.is_none() {
        core.barrier(&shard, deadline).await?;
    }
    let shared = Arc::clone(core);
    Ok(produce(core, |sink| async move {
        let _place = place;
        if let Some(claimed) = claimed {
            sink.send(response(Kind::Claimed(claimed))).await?;
        }
        let Beginning { snapshot, state } = beginning(&shared, &shard, &recover).await?;
        let from = from(snapshot.as_ref());
        if let Some(record) = snapshot {
            send_snapshot(&shared, &shard, &recover.persistence_id, record, &sink).await?;
        }
        let (to, max) = (recover.to, recover.max);
        let range = Range { persistence_id: recover.persistence_id, from, to, max, include_deleted: false, state: Some(state) };
        replay::events(&shared, &shard, range, &sink, |events| response(Kind::Events(events))).await
    }))
}

/// Claims the journal for a writer. The same writer, asking again, gets its first answer, or hears that it was superseded since.
async fn claim(
    core: &Core,
    shard: &Shard,
    persistence_id: &PersistenceId,
    writer: &WriterId,
    deadline: Instant,
) -> Result<v1::ClaimResponse, Failure> {
    core.may_propose(shard)?;
    let mut tries = 0;
    loop {
        tries += 1;
        core.barrier(shard, deadline).await?;
        let head = core.head(shard, persistence_id).await?;
        let epoch_read = head.epoch_to_claim(writer)?;
        let claim = Claim { persistence_id: persistence_id.clone(), writer: writer.clone(), epoch_read };
        match core.command(Command::Claim(claim), deadline).await? {
            // Another claim came between the read and this one: it is the older one now.
            Reply::Claim(Err(Refusal::EpochMoved { .. })) if tries < CLAIM_TRIES_MAX => {}
            Reply::Claim(reply) => return answer(reply),
            other => return Err(unexpected(&other)),
        }
    }
}

/// Where a recovery begins.
struct Beginning {
    snapshot: Option<SnapshotRecord>,
    /// What the events behind the snapshot are of.
    state: Watermarks,
}

/// The newest snapshot that matches, and a state that still has the events behind it. One that was superseded while it was looked at,
/// by a newer one with a deletion up to that, is not taken.
async fn beginning(core: &Core, shard: &Shard, recover: &cairn_api::Recover) -> Result<Beginning, Failure> {
    let persistence_id = &recover.persistence_id;
    let newest = async || match recover.criteria {
        None => Ok(None),
        Some(criteria) => {
            let snapshot = shard.tables().latest_snapshot(persistence_id, criteria).await;
            snapshot.map_err(|error| core.tables_failure(&error))
        }
    };
    let mut snapshot = newest().await?;
    loop {
        let state = Watermarks::from(&core.head(shard, persistence_id).await?);
        if state.deleted_to < from(snapshot.as_ref()) {
            return Ok(Beginning { snapshot, state });
        }
        let newer = newest().await?;
        if from(newer.as_ref()) == from(snapshot.as_ref()) {
            return Ok(Beginning { snapshot, state });
        }
        snapshot = newer;
    }
}

/// The number from which events are replayed.
fn from(snapshot: Option<&SnapshotRecord>) -> SequenceNumber {
    SequenceNumber(snapshot.map_or(0, |record| record.sequence_number.0) + 1)
}

async fn send_snapshot(
    core: &Core,
    shard: &Shard,
    persistence_id: &PersistenceId,
    record: SnapshotRecord,
    sink: &Sink<v1::RecoverResponse>,
) -> Result<(), End> {
    let info = SnapshotInfo::new(persistence_id.clone(), record.clone());
    sink.send(response(Kind::Snapshot(info.into()))).await?;
    snapshots::send_bytes(core, shard, &record, sink, |bytes| response(Kind::SnapshotData(bytes))).await
}

fn response(kind: Kind) -> v1::RecoverResponse {
    v1::RecoverResponse { kind: Some(kind) }
}
