//! Settings: plain data that a person writes, each with its unit, default and reason.
//!
//! Nothing here does work; the objects that do are [`crate::Parts`]. Every value has a default, so that a file holds only what
//! differs. Unknown names are refused, so that a misspelt one is never silently the default. [`Settings::validate`] checks what
//! types cannot, names each key, and finds everything that is wrong at once.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod validate;

pub use validate::Problem;

/// Everything about one node that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The cluster that the node belongs to.
    pub cluster: ClusterSettings,
    /// This node.
    pub node: NodeSettings,
    /// Where it listens.
    pub listen: ListenSettings,
    /// Where others reach it, if that is not where it listens.
    pub advertise: AdvertiseSettings,
    /// Where its files are. Default: none, everything is kept in memory and gone with the process.
    pub data_dir: Option<PathBuf>,
    /// What clients may use up.
    pub limits: LimitSettings,
    /// The timing of consensus.
    pub raft: RaftSettings,
    /// The log and the tables.
    pub storage: StorageSettings,
    /// When a disk counts as nearly full.
    pub disk: DiskSettings,
    /// What the process writes about itself.
    pub telemetry: TelemetrySettings,
    /// Lets the peer port listen where other machines reach it, although peers are not authenticated yet. Default: false.
    pub insecure: bool,
    /// How long a stop may take to hand leadership over and to finish what is in flight, in milliseconds. Default: 10000.
    pub shutdown_deadline_ms: u64,
}

/// The cluster that a node belongs to; the same on every founder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// The cluster's id: a UUID that you choose once. Nodes of another id are refused. Default: all zeros, which is refused.
    pub id: Uuid,
    /// The nodes that form the cluster, the same list on each of them. Only used until it is born. Default: empty.
    pub founders: Vec<FounderSettings>,
    /// Into how many shards the journals are spread: a power of two from 1 to 64, fixed when the cluster is born. Default: 2.
    /// More shards use more cores, and cost more while idle: each has heartbeats of its own.
    pub shards: u16,
    /// This node was not there from the start: it waits until somebody adds it to the cluster. Default: false.
    pub join: bool,
}

/// One founder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FounderSettings {
    /// Its node id.
    pub node_id: u64,
    /// Where other nodes reach it: host:port.
    pub peer_address: String,
    /// Where clients reach it: host:port.
    pub client_address: String,
}

/// This node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSettings {
    /// Its id: from 1, never used again for another node. Default: 1.
    pub id: u64,
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenSettings {
    /// For clients (gRPC): host:port. Default: 127.0.0.1:7101.
    pub client: String,
    /// For the other nodes (gRPC): host:port. Default: 127.0.0.1:7201.
    pub peer: String,
    /// For operators (HTTP: `/livez`, `/readyz`, `/metrics`): host:port, or empty for none. Default: 127.0.0.1:7301.
    pub http: String,
}

/// Where others reach a node, where that differs from where it listens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdvertiseSettings {
    /// For clients: host:port. Default: none, the same as `listen.client`.
    pub client: Option<String>,
    /// For the other nodes: host:port. Default: none, the same as `listen.peer`.
    pub peer: Option<String>,
}

/// What clients may use up; beyond it they are refused early, and told when to try again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Commands that wait for their answer, on the whole node. Default: 65536.
    pub in_flight_commands_max: usize,
    /// Bytes of commands that wait for their answer, on the whole node. Default: 256 MiB.
    pub in_flight_bytes_max: usize,
    /// Requests that wait for their answer on one pipeline; the node reads no more of it until some are answered. Default: 8192.
    pub pipeline_requests_max: usize,
    /// Replays, recoveries and snapshot loads that run at the same time, on the whole node. Default: 1024.
    pub replays_max: usize,
    /// Follows that run at the same time, on the whole node. Default: 4096.
    pub follows_max: usize,
    /// Connections to the client port at the same time; more are closed at once. Default: 4096.
    pub connections_max: usize,
    /// Streams of one connection at the same time. Default: 1024.
    pub streams_per_connection_max: u32,
    /// Header bytes of one request. Default: 16 KiB.
    pub header_bytes_max: u32,
    /// Raft entries of one shard that are proposed and not yet answered. Default: 2.
    pub proposals_in_flight_max: usize,
    /// How long a read may wait for its freshness, and a command for its answer, if the caller sets no deadline, in
    /// milliseconds. Default: 10000.
    pub request_deadline_ms: u64,
    /// How long a new connection may take to say hello, in milliseconds. Default: 10000.
    pub handshake_deadline_ms: u64,
    /// How long a connection may be silent before it is asked whether it is still there, in milliseconds. Default: 10000.
    pub keepalive_interval_ms: u64,
    /// How long it may take to answer that, in milliseconds. Default: 10000.
    pub keepalive_timeout_ms: u64,
    /// How long a reader of a stream may take nothing before the stream is ended, in milliseconds. Default: 300000.
    pub stalled_reader_ms: u64,
}

/// The timing of consensus: no time above an hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RaftSettings {
    /// How often a leader says that it is there, in milliseconds. Default: 140.
    pub heartbeat_interval_ms: u64,
    /// Shortest draw of the time that a follower waits, beyond `election_timeout_ms_max`, before it stands for election, in
    /// milliseconds; more than 1.25 heartbeats. Default: 180.
    pub election_timeout_ms_min: u64,
    /// Longest draw, and how long a leader's lease lasts, in milliseconds. Default: 240.
    pub election_timeout_ms_max: u64,
    /// Entries kept in the log behind the tables, so that a slow follower needs no checkpoint. Default: 20000.
    pub log_keep_entries: u64,
    /// Bytes of such entries at most, in each shard. Default: 64 MiB.
    pub log_keep_bytes: u64,
    /// Whether leaders of shards spread over the nodes by themselves. Default: true.
    pub spread_leaders: bool,
}

/// The log and the tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// Size of one file of the log, in bytes: at least 8 MiB, so that the largest entry fits. Default: 16 MiB.
    pub segment_bytes: u32,
    /// Recent log entries kept in memory over all shards, in bytes. Default: 8 MiB.
    pub log_cache_bytes_max: usize,
    /// Size at which one shard's events in memory are written to the tables, in bytes; up to three times as much is
    /// in memory while it is written. Default: 8 MiB.
    pub memtable_bytes: usize,
    /// Memory of the tables for blocks read from disk, in bytes. Default: 16 MiB.
    pub table_cache_bytes: u64,
    /// Heads of journals kept in memory, for each shard. Default: 16384.
    pub heads_cached_max: usize,
}

/// When a disk counts as nearly full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskSettings {
    /// Free bytes below which the node takes no more writes: what is left is reserved for deletions and checkpoints.
    /// Default: 512 MiB.
    pub read_only_below_bytes: u64,
    /// Free bytes above which it takes them again. Default: 768 MiB.
    pub writable_above_bytes: u64,
    /// How often it looks, in milliseconds. Default: 2000.
    pub check_interval_ms: u64,
}

/// What the process writes about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// How log lines look. Default: text.
    pub format: LogFormat,
    /// Which log lines are written, as `tracing` filters are: `info`, or `info,cairn_raft=debug`. Default:
    /// `info,openraft=error`, since openraft warns of every heartbeat that does not reach a node that is down.
    pub filter: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: ClusterSettings::default(),
            node: NodeSettings::default(),
            listen: ListenSettings::default(),
            advertise: AdvertiseSettings::default(),
            data_dir: None,
            limits: LimitSettings::default(),
            raft: RaftSettings::default(),
            storage: StorageSettings::default(),
            disk: DiskSettings::default(),
            telemetry: TelemetrySettings::default(),
            insecure: false,
            shutdown_deadline_ms: 10_000,
        }
    }
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self { id: Uuid::nil(), founders: Vec::new(), shards: 2, join: false }
    }
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self { id: 1 }
    }
}

impl Default for ListenSettings {
    fn default() -> Self {
        Self { client: "127.0.0.1:7101".into(), peer: "127.0.0.1:7201".into(), http: "127.0.0.1:7301".into() }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            in_flight_commands_max: 65_536,
            in_flight_bytes_max: 256 * 1024 * 1024,
            pipeline_requests_max: 8_192,
            replays_max: 1_024,
            follows_max: 4_096,
            connections_max: 4_096,
            streams_per_connection_max: 1_024,
            header_bytes_max: 16 * 1024,
            proposals_in_flight_max: 2,
            request_deadline_ms: 10_000,
            handshake_deadline_ms: 10_000,
            keepalive_interval_ms: 10_000,
            keepalive_timeout_ms: 10_000,
            stalled_reader_ms: 300_000,
        }
    }
}

impl Default for RaftSettings {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 140,
            election_timeout_ms_min: 180,
            election_timeout_ms_max: 240,
            log_keep_entries: 20_000,
            log_keep_bytes: 64 * 1024 * 1024,
            spread_leaders: true,
        }
    }
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 16 * 1024 * 1024,
            log_cache_bytes_max: 8 * 1024 * 1024,
            memtable_bytes: 8 * 1024 * 1024,
            table_cache_bytes: 16 * 1024 * 1024,
            heads_cached_max: 16_384,
        }
    }
}

impl Default for DiskSettings {
    fn default() -> Self {
        Self { read_only_below_bytes: 512 * 1024 * 1024, writable_above_bytes: 768 * 1024 * 1024, check_interval_ms: 2_000 }
    }
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info,openraft=error".into() }
    }
}

impl Settings {
    /// Where clients reach this node.
    #[must_use]
    pub fn client_address(&self) -> &str {
        self.advertise.client.as_deref().unwrap_or(&self.listen.client)
    }

    /// Where the other nodes reach this node.
    #[must_use]
    pub fn peer_address(&self) -> &str {
        self.advertise.peer.as_deref().unwrap_or(&self.listen.peer)
    }

    /// The deadline of a request whose caller sets none.
    #[must_use]
    pub fn request_deadline(&self) -> Duration {
        Duration::from_millis(self.limits.request_deadline_ms)
    }
}
