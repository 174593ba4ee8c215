//! L1, R15: once a healed cluster is left alone, all nodes come to the same applied entry, and hold the same: by a full scan of what each
//! stores of a shard.
//!
//! The list of invariants; a replica that an installed checkpoint brought up is held to it like any other.

use std::time::Duration;

use cairn_machine::ShardId;
use cairn_node::ShardDigest;

use crate::machine::Machine;
use crate::watch::Broken;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// Compares what all machines hold, as soon as they have come to the same entry; waits for that without end.
pub(super) async fn compare(machines: &[Machine], shards: u16) -> Result<(), Broken> {
    for shard in (0..shards).map(ShardId) {
        let digests = loop {
            match digests(machines, shard).await {
                Some(digests) if digests.windows(2).all(|pair| pair[0].1.applied == pair[1].1.applied) => break digests,
                _ => tokio::time::sleep(PAUSE).await,
            }
        };
        if let Some(pair) = digests.windows(2).find(|pair| pair[0].1.hash != pair[1].1.hash) {
            let (one, other, applied) = (pair[0].0, pair[1].0, pair[0].1.applied);
            return Err(("R15", format!("nodes {one} and {other} hold different states of {shard} at entry {applied:?}")));
        }
    }
    Ok(())
}

/// None while a node is not there to be asked.
async fn digests(machines: &[Machine], shard: ShardId) -> Option<Vec<(u64, ShardDigest)>> {
    // Whoever lags is waited for before anybody scans.
    let applied = |machine: &Machine| {
        let node = machine.node()?;
        node.status().into_iter().find(|status| status.shard == shard)?.applied
    };
    let first = applied(machines.first()?)?;
    if machines.iter().any(|machine| applied(machine) != Some(first)) {
        return None;
    }
    let mut digests = Vec::with_capacity(machines.len());
    for machine in machines {
        digests.push((machine.id(), machine.node()?.shard_digest(shard).await.ok()?));
    }
    Some(digests)
}
