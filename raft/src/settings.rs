//! What a shard's core is set up with.

use std::time::Duration;

use cairn_machine::ShardId;

/// How long nodes wait for each other.
///
/// A follower campaigns when it has not heard from the leader for `election_max` plus a draw between `election_min` and
/// `election_max`: openraft lets the leader's lease, which is `election_max`, run out first. With the defaults a dead leader is
/// replaced some 420 to 510 ms after its last sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A leader gives a sign of life this often; whole milliseconds.
    pub heartbeat: Duration,
    /// Shortest draw; more than 1.25 heartbeats.
    pub election_min: Duration,
    /// Longest draw, and the leader's lease.
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(140),
            election_min: Duration::from_millis(180),
            election_max: Duration::from_millis(240),
        }
    }
}

impl Timing {
    /// Everything `factor` times slower: for slow machines and for links between sites.
    #[must_use]
    pub fn slower(self, factor: u32) -> Self {
        Self {
            heartbeat: self.heartbeat * factor,
            election_min: self.election_min * factor,
            election_max: self.election_max * factor,
        }
    }
}

/// Settings of one shard's core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Which shard.
    pub shard: ShardId,
    /// How long nodes wait for each other.
    pub timing: Timing,
    /// So many flushed entries stay in the log for followers that are a little behind.
    pub log_keep_entries: u64,
    /// At most so many bytes of flushed entries stay in the log, whatever `log_keep_entries` says.
    pub log_keep_bytes: u64,
    /// How often the log is looked over for entries that can go.
    pub upkeep_interval: Duration,
    /// Peer addresses that are asked for a checkpoint if the tables are lost.
    pub recovery_peers: Vec<String>,
    /// How long peers are asked for it before the start fails.
    pub recovery_deadline: Duration,
}

impl GroupSettings {
    /// The defaults for a shard.
    #[must_use]
    pub fn new(shard: ShardId) -> Self {
        Self {
            shard,
            timing: Timing::default(),
            log_keep_entries: 20_000,
            log_keep_bytes: 64 * 1024 * 1024,
            upkeep_interval: Duration::from_millis(1_000),
            recovery_peers: Vec::new(),
            recovery_deadline: Duration::from_secs(60),
        }
    }
}
