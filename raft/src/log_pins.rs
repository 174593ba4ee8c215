//! Gives the log's segments back although shards move at different speeds.
//!
//! One log serves all shards of a node, and its files go oldest first: one shard that is idle holds all of them. Such a shard is
//! flushed and its flushed entries leave the log; what is still live is copied forward.

use std::sync::Arc;
use std::time::Duration;

use cairn_storage::log::Log;

use crate::groups::Groups;

/// Frees segments for as long as it runs; the node spawns it. A shard is acted upon when it holds more than `segments_max`
/// segments behind the current one.
pub async fn release_log_pins(log: Log, groups: Arc<Groups>, segments_max: u32, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        for pin in log.pins() {
            if pin.segments_behind > segments_max {
                release(&log, &groups, pin.shard).await;
            }
        }
    }
}

async fn release(log: &Log, groups: &Groups, shard: cairn_machine::ShardId) {
    let Some(group) = groups.get(shard) else { return };
    if let Err(reason) = group.compact_log().await {
        tracing::warn!(%shard, reason, "the shard's log was not compacted");
        return;
    }
    match log.copy_forward(shard).await {
        Ok(entries) => tracing::debug!(%shard, entries, "the shard's log moved forward"),
        Err(error) => tracing::warn!(%shard, %error, "the shard's log was not copied forward"),
    }
}
