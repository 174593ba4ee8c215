//! Recovery: everything an actor needs at start in one call: claim, newest snapshot, the events after it, highest number.

use std::sync::Arc;

use cairn_api::SnapshotInfo;
use cairn_api::reply::answer;
use cairn_api::v1::{self, Failure, recover_response};
use cairn_machine::{Claim, Command, PersistenceId, Refusal, Reply, SequenceNumber, WriterId};
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
        let from = send_snapshot(&shared, &shard, &recover, &sink).await?;
        let range =
            Range { persistence_id: recover.persistence_id, from, to: recover.to, max: recover.max, include_deleted: false };
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

/// Sends the newest snapshot that matches, and gives the number from which events are replayed.
async fn send_snapshot(
    core: &Core,
    shard: &Shard,
    recover: &cairn_api::Recover,
    sink: &Sink<v1::RecoverResponse>,
) -> Result<SequenceNumber, End> {
    let first = SequenceNumber(1);
    let Some(criteria) = recover.criteria else { return Ok(first) };
    let snapshot = shard.tables().latest_snapshot(&recover.persistence_id, criteria).await;
    let Some(record) = snapshot.map_err(|error| core.tables_failure(&error))? else { return Ok(first) };
    let from = SequenceNumber(record.sequence_number.0 + 1);
    let info = SnapshotInfo::new(recover.persistence_id.clone(), record.clone());
    sink.send(response(Kind::Snapshot(info.into()))).await?;
    snapshots::send_bytes(core, shard, &record, sink, |bytes| response(Kind::SnapshotData(bytes))).await?;
    Ok(from)
}

fn response(kind: Kind) -> v1::RecoverResponse {
    v1::RecoverResponse { kind: Some(kind) }
}
