//! Tables that were lost are fetched from a peer before the shard opens.
//!
//! Tables are lost if they are empty or end below the log's purge point: then neither they nor the log hold what was acknowledged.
//!
//! Invariants
//! - Until this is done the shard neither votes nor answers, as its group is not open.
//! - What is fetched reaches the log's purge point at least.
//! - Of the own log only what contradicts the checkpoint is cut: those entries were never committed.

use cairn_storage::log::ShardLog;
use cairn_storage::{EntryId, Tables};
use tokio::time::Instant;
use tonic::Status;

use super::{ROUND_PAUSE, take_frames, take_head};
use crate::error::StartError;
use crate::identity::Party;
use crate::limits::QUESTION_MAX;
use crate::log_store::entry_id;
use crate::peers::Peers;
use crate::proto;
use crate::settings::GroupSettings;
use crate::wire::take_log_id;

/// Fetches the tables from a peer if they are lost, and cuts what contradicts them from the log.
pub(crate) async fn make_good(
    settings: &GroupSettings,
    log: &ShardLog,
    tables: &Tables,
    peers: &Peers,
) -> Result<(), StartError> {
    let applied = tables.applied().map(|id| id.index);
    if let Some(purged) = log.state().purged
        && applied < Some(purged.index)
    {
        tracing::warn!(shard = %settings.shard, ?applied, purged = purged.index, "the tables are lost");
        fetch_from_any(settings, tables, peers, purged.index).await.map_err(|reason| StartError::TablesLost {
            shard: settings.shard,
            applied,
            purged: purged.index,
            reason,
        })?;
    }
    // Also after a crash between the switch to a checkpoint and the cut.
    match tables.applied() {
        Some(applied) => cut_contradiction(settings, log, applied).await,
        None => Ok(()),
    }
}

/// Asks peers in turn until one gives a checkpoint.
async fn fetch_from_any(settings: &GroupSettings, tables: &Tables, peers: &Peers, index_min: u64) -> Result<(), String> {
    let shard = settings.shard;
    let end = Instant::now() + settings.recovery_deadline;
    let mut reason = "there is no peer to ask".to_owned();
    loop {
        for address in &settings.recovery_peers {
            match fetch(settings, tables, peers, address, index_min).await {
                Ok(fetched) => {
                    tracing::warn!(%shard, %address, %fetched, "fetched the tables from a peer");
                    return Ok(());
                }
                Err(status) => {
                    reason = format!("{address}: {}", status.message());
                    tracing::info!(%shard, %address, %status, "a peer gave no checkpoint");
                }
            }
        }
        if settings.recovery_peers.is_empty() || Instant::now() >= end {
            return Err(reason);
        }
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

async fn fetch(
    settings: &GroupSettings,
    tables: &Tables,
    peers: &Peers,
    address: &str,
    index_min: u64,
) -> Result<EntryId, Status> {
    let hello = peers.hello(address, &[]).await?;
    let to = Party::from(&hello.node);
    if to.node_id == peers.identity().node_id {
        return Err(Status::invalid_argument("that is this node"));
    }
    let message = proto::FetchCheckpointRequest { shard: u32::from(settings.shard.0), index_min };
    let request = peers.request(message, Some(to));
    let mut client = peers.link(address)?.client();
    let response = tokio::time::timeout(QUESTION_MAX, client.fetch_checkpoint(request));
    let mut parts = response.await.map_err(|_| Status::deadline_exceeded("it did not answer in time"))??.into_inner();
    let head = take_head(&mut parts).await?;
    let applied = head.applied.as_ref().map(take_log_id).ok_or_else(|| Status::invalid_argument("applied is missing"))?;
    if applied.index < index_min {
        return Err(Status::failed_precondition(format!("its checkpoint ends at {}", applied.index)));
    }
    let installed = take_frames(tables, &mut parts).await?;
    if installed.applied() != Some(entry_id(&applied)) {
        return Err(Status::data_loss("its checkpoint does not end where its head says"));
    }
    tables.switch(installed).await.map_err(|error| Status::internal(error.to_string()))?;
    Ok(entry_id(&applied))
}

/// Cuts the own log where it holds another entry than the last one applied: that one was committed, so ours was not.
async fn cut_contradiction(settings: &GroupSettings, log: &ShardLog, applied: EntryId) -> Result<(), StartError> {
    let state = log.state();
    let is_held = state.last.is_some_and(|last| last.index >= applied.index)
        && state.purged.is_none_or(|purged| purged.index < applied.index);
    if !is_held || log.entry_id(applied.index) == Some(applied) {
        return Ok(());
    }
    let cut = log.truncate_after(applied.index.checked_sub(1)).await;
    cut.map_err(|error| StartError::Broken { shard: settings.shard, reason: format!("cut the log: {error}") })
}
