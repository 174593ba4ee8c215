//! Every metric that a node has, with its name, in one place.
//!
//! A node has a recorder of its own, so that several nodes of one process stay apart; nothing is registered globally. Base units;
//! never a persistence id as a label.

use std::sync::Arc;
use std::time::Duration;

use cairn_machine::ShardId;
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// From a command's arrival to its answer, in seconds.
const APPEND_DURATION: &str = "cairn_append_duration_seconds";
const APPEND_EVENTS: &str = "cairn_append_events_total";
const APPEND_CONFLICTS: &str = "cairn_append_conflicts_total";
const FENCED_WRITES: &str = "cairn_fenced_writes_total";
const BATCH_COMMANDS: &str = "cairn_batch_commands";
const OVERLOADED: &str = "cairn_overloaded_total";
const REPLAYED_EVENTS: &str = "cairn_replayed_events_total";
const SYNC_DURATION: &str = "cairn_sync_duration_seconds";
const SYNC_BYTES: &str = "cairn_sync_bytes_total";
const IN_FLIGHT_COMMANDS: &str = "cairn_in_flight_commands";
const IN_FLIGHT_BYTES: &str = "cairn_in_flight_bytes";
const RAFT_TERM: &str = "cairn_raft_term";
const RAFT_IS_LEADER: &str = "cairn_raft_is_leader";
const RAFT_COMMITTED: &str = "cairn_raft_committed_index";
const RAFT_APPLIED: &str = "cairn_raft_applied_index";
const RAFT_LEADER_CHANGES: &str = "cairn_raft_leader_changes_total";
const REPLICATION_LAG: &str = "cairn_replication_lag_entries";
const RECOVERY_DURATION: &str = "cairn_recovery_duration_seconds";
const DISK_FREE: &str = "cairn_disk_free_bytes";
const READ_ONLY: &str = "cairn_read_only";
const CORRUPTION: &str = "cairn_corruption_detected_total";
const GRPC_REQUESTS: &str = "cairn_grpc_requests_total";

/// Bounds of the buckets of durations, in seconds.
const DURATION_BUCKETS: [f64; 16] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Bounds of the buckets of commands in one entry.
const COMMANDS_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// How often samples are gathered into buckets.
pub(crate) const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The metrics of one node.
#[derive(Clone)]
pub(crate) struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    pub overloaded: Counter,
    pub replayed_events: Counter,
    pub in_flight_commands: Gauge,
    pub in_flight_bytes: Gauge,
    pub sync_duration: Histogram,
    pub sync_bytes: Counter,
    pub recovery_duration: Gauge,
    pub disk_free: Gauge,
    pub read_only: Gauge,
    pub corruption: Counter,
}

/// The metrics of one shard.
#[derive(Clone)]
pub(crate) struct ShardMetrics {
    pub append_duration: Histogram,
    pub append_events: Counter,
    pub append_conflicts: Counter,
    pub fenced_writes: Counter,
    pub batch_commands: Histogram,
    pub term: Gauge,
    pub is_leader: Gauge,
    pub committed: Gauge,
    pub applied: Gauge,
    pub leader_changes: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&DURATION_BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(BATCH_COMMANDS.into()), &COMMANDS_BUCKETS))
            .expect("the buckets are not empty")
            .build_recorder();
        let handle = recorder.handle();
        let recorder = Arc::new(recorder);
        describe(&recorder);
        let counter = |name| recorder.register_counter(&Key::from_static_name(name), &METADATA);
        let gauge = |name| recorder.register_gauge(&Key::from_static_name(name), &METADATA);
        let histogram = |name| recorder.register_histogram(&Key::from_static_name(name), &METADATA);
        Self {
            overloaded: counter(OVERLOADED),
            replayed_events: counter(REPLAYED_EVENTS),
            in_flight_commands: gauge(IN_FLIGHT_COMMANDS),
            in_flight_bytes: gauge(IN_FLIGHT_BYTES),
            sync_duration: histogram(SYNC_DURATION),
            sync_bytes: counter(SYNC_BYTES),
            recovery_duration: gauge(RECOVERY_DURATION),
            disk_free: gauge(DISK_FREE),
            read_only: gauge(READ_ONLY),
            corruption: counter(CORRUPTION),
            handle,
            recorder: Arc::clone(&recorder),
        }
    }

    /// The metrics of one shard.
    pub(crate) fn shard(&self, shard: ShardId) -> ShardMetrics {
        let key = |name: &'static str| Key::from_parts(name, vec![Label::new("shard", shard.to_string())]);
        let counter = |name| self.recorder.register_counter(&key(name), &METADATA);
        let gauge = |name| self.recorder.register_gauge(&key(name), &METADATA);
        let histogram = |name| self.recorder.register_histogram(&key(name), &METADATA);
        ShardMetrics {
            append_duration: histogram(APPEND_DURATION),
            append_events: counter(APPEND_EVENTS),
            append_conflicts: counter(APPEND_CONFLICTS),
            fenced_writes: counter(FENCED_WRITES),
            batch_commands: histogram(BATCH_COMMANDS),
            term: gauge(RAFT_TERM),
            is_leader: gauge(RAFT_IS_LEADER),
            committed: gauge(RAFT_COMMITTED),
            applied: gauge(RAFT_APPLIED),
            leader_changes: counter(RAFT_LEADER_CHANGES),
        }
    }

    /// How far a follower is behind, as its shard's leader sees it.
    pub(crate) fn replication_lag(&self, shard: ShardId, node_id: u64, entries: u64) {
        let labels = vec![Label::new("shard", shard.to_string()), Label::new("node", node_id.to_string())];
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.recorder.register_gauge(&Key::from_parts(REPLICATION_LAG, labels), &METADATA).set(entries as f64);
    }

    /// Counts one call of the public API by method and outcome. Both are from fixed sets.
    pub(crate) fn request(&self, method: &'static str, code: tonic::Code) {
        let labels = vec![Label::from_static_parts("method", method), Label::new("code", format!("{code:?}"))];
        self.recorder.register_counter(&Key::from_parts(GRPC_REQUESTS, labels), &METADATA).increment(1);
    }

    /// All metrics as Prometheus reads them.
    pub(crate) fn render(&self) -> String {
        self.handle.render()
    }

    /// Gathers samples into buckets: to be called every [`UPKEEP_INTERVAL`].
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

const METADATA: Metadata<'static> = Metadata::new("cairn", Level::INFO, None);

fn describe(recorder: &PrometheusRecorder) {
    let counter = |name: &'static str, text: &'static str| recorder.describe_counter(name.into(), None, text.into());
    let gauge = |name: &'static str, text: &'static str| recorder.describe_gauge(name.into(), None, text.into());
    let histogram = |name: &'static str, text: &'static str| {
        recorder.describe_histogram(name.into(), Some(Unit::Seconds), text.into());
    };
    histogram(APPEND_DURATION, "From a command's arrival at its proposer to its answer.");
    counter(APPEND_EVENTS, "Events that were stored.");
    counter(APPEND_CONFLICTS, "Atomic writes that were refused because their numbers were taken.");
    counter(FENCED_WRITES, "Atomic writes that were refused because a newer writer has the journal.");
    recorder.describe_histogram(BATCH_COMMANDS.into(), None, "Commands gathered into one Raft entry.".into());
    counter(OVERLOADED, "Commands that were refused because too much was in flight.");
    counter(REPLAYED_EVENTS, "Events that were sent to readers.");
    histogram(SYNC_DURATION, "One sync of the log.");
    counter(SYNC_BYTES, "Bytes that were written to the log.");
    gauge(IN_FLIGHT_COMMANDS, "Commands that wait for their answer.");
    gauge(IN_FLIGHT_BYTES, "Bytes of commands that wait for their answer.");
    gauge(RAFT_TERM, "The shard's term.");
    gauge(RAFT_IS_LEADER, "1 where this node leads the shard.");
    gauge(RAFT_COMMITTED, "The shard's committed index as this node knows it.");
    gauge(RAFT_APPLIED, "The shard's applied index on this node.");
    counter(RAFT_LEADER_CHANGES, "Changes of the shard's leader that this node has seen.");
    gauge(REPLICATION_LAG, "Entries that a follower is behind, where this node leads.");
    gauge(RECOVERY_DURATION, "How long the node took from its start until it had opened log and tables.");
    gauge(DISK_FREE, "Free bytes where the data is.");
    gauge(READ_ONLY, "1 while the node takes no writes because its disk is nearly full.");
    counter(CORRUPTION, "Damage that was found in stored data.");
    counter(GRPC_REQUESTS, "Calls of the public API by method and outcome; a stream counts when it is opened.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_of_one_process_count_apart() {
        let (first, second) = (Metrics::new(), Metrics::new());
        first.shard(ShardId(0)).append_events.increment(3);
        assert!(first.render().contains("cairn_append_events_total{shard=\"0\"} 3"));
        assert!(!second.render().contains("cairn_append_events_total{"));
    }

    #[test]
    fn durations_are_histograms_with_buckets() {
        let metrics = Metrics::new();
        metrics.sync_duration.record(0.0015);
        metrics.upkeep();
        let text = metrics.render();
        assert!(text.contains("cairn_sync_duration_seconds_bucket{le=\"0.002\"} 1"), "{text}");
    }
}
