//! What types cannot check: each finding names its key, and all are found at once.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use cairn_machine::limits::SHARDS_MAX;

use super::Settings;

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, as in the file: `limits.replays_max`.
    pub key: String,
    /// What is wrong with it, with the value found.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

impl Settings {
    /// Everything that is wrong with these settings; empty = they can be started with.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        self.validate_cluster(&mut problems);
        self.validate_addresses(&mut problems);
        self.validate_limits(&mut problems);
        self.validate_raft(&mut problems);
        self.validate_storage(&mut problems);
        problems.0
    }

    fn validate_cluster(&self, problems: &mut Problems) {
        let cluster = &self.cluster;
        problems.unless(!cluster.id.is_nil(), "cluster.id", "must be set: choose a UUID once and give it to every node");
        problems.unless(
            cluster.shards.is_power_of_two() && cluster.shards <= SHARDS_MAX,
            "cluster.shards",
            format_args!("must be a power of two from 1 to {SHARDS_MAX}, not {}", cluster.shards),
        );
        problems.unless(self.node.id != 0, "node.id", "must be at least 1");
        if cluster.join {
            problems.unless(cluster.founders.is_empty(), "cluster.founders", "must be empty for a node that joins");
            return;
        }
        problems.unless(
            !cluster.founders.is_empty(),
            "cluster.founders",
            "must name the nodes that form the cluster, or set cluster.join",
        );
        let mut ids = BTreeSet::new();
        for (index, founder) in cluster.founders.iter().enumerate() {
            let key = |name: &str| format!("cluster.founders[{index}].{name}");
            problems.unless(founder.node_id != 0, &key("node_id"), "must be at least 1");
            problems.unless(ids.insert(founder.node_id), &key("node_id"), format_args!("{} is there twice", founder.node_id));
            problems.address(&key("peer_address"), &founder.peer_address);
            problems.address(&key("client_address"), &founder.client_address);
        }
        if !cluster.founders.is_empty() {
            problems.unless(
                ids.contains(&self.node.id),
                "node.id",
                format_args!("{} is not among cluster.founders; a later node sets cluster.join", self.node.id),
            );
        }
    }

    fn validate_addresses(&self, problems: &mut Problems) {
        problems.address("listen.client", &self.listen.client);
        problems.address("listen.peer", &self.listen.peer);
        if !self.listen.http.is_empty() {
            problems.address("listen.http", &self.listen.http);
        }
        for (key, address) in [("advertise.client", &self.advertise.client), ("advertise.peer", &self.advertise.peer)] {
            if let Some(address) = address {
                problems.address(key, address);
            }
        }
        problems.unless(
            self.insecure || is_loopback(&self.listen.peer),
            "listen.peer",
            format_args!(
                "{} can be reached from other machines, and peers are not authenticated: listen on loopback or set insecure",
                self.listen.peer
            ),
        );
    }

    fn validate_limits(&self, problems: &mut Problems) {
        let limits = &self.limits;
        for (key, value) in [
            ("limits.in_flight_commands_max", limits.in_flight_commands_max),
            ("limits.pipeline_requests_max", limits.pipeline_requests_max),
            ("limits.replays_max", limits.replays_max),
            ("limits.follows_max", limits.follows_max),
            ("limits.connections_max", limits.connections_max),
            ("limits.proposals_in_flight_max", limits.proposals_in_flight_max),
            ("storage.heads_cached_max", self.storage.heads_cached_max),
        ] {
            problems.unless(value >= 1, key, "must be at least 1");
        }
        problems.at_least("limits.in_flight_bytes_max", limits.in_flight_bytes_max as u64, 8 * 1024 * 1024);
        problems.at_least("limits.streams_per_connection_max", u64::from(limits.streams_per_connection_max), 1);
        problems.at_least("limits.header_bytes_max", u64::from(limits.header_bytes_max), 1024);
        for (key, value) in [
            ("limits.request_deadline_ms", limits.request_deadline_ms),
            ("limits.handshake_deadline_ms", limits.handshake_deadline_ms),
            ("limits.keepalive_interval_ms", limits.keepalive_interval_ms),
            ("limits.keepalive_timeout_ms", limits.keepalive_timeout_ms),
            ("limits.stalled_reader_ms", limits.stalled_reader_ms),
            ("disk.check_interval_ms", self.disk.check_interval_ms),
            ("shutdown_deadline_ms", self.shutdown_deadline_ms),
        ] {
            problems.at_least(key, value, 1);
        }
    }

    fn validate_raft(&self, problems: &mut Problems) {
        let raft = &self.raft;
        problems.at_least("raft.heartbeat_interval_ms", raft.heartbeat_interval_ms, 5);
        for (key, value) in [
            ("raft.heartbeat_interval_ms", raft.heartbeat_interval_ms),
            ("raft.election_timeout_ms_min", raft.election_timeout_ms_min),
            ("raft.election_timeout_ms_max", raft.election_timeout_ms_max),
        ] {
            problems.unless(value <= RAFT_MS_MAX, key, format_args!("must be at most {RAFT_MS_MAX}, not {value}"));
        }
        problems.unless(
            raft.election_timeout_ms_min.saturating_mul(4) > raft.heartbeat_interval_ms.saturating_mul(5),
            "raft.election_timeout_ms_min",
            format_args!("{} must be more than 1.25 times raft.heartbeat_interval_ms", raft.election_timeout_ms_min),
        );
        problems.unless(
            raft.election_timeout_ms_max > raft.election_timeout_ms_min,
            "raft.election_timeout_ms_max",
            format_args!("{} must be above raft.election_timeout_ms_min", raft.election_timeout_ms_max),
        );
    }

    fn validate_storage(&self, problems: &mut Problems) {
        problems.at_least("storage.segment_bytes", u64::from(self.storage.segment_bytes), 8 * 1024 * 1024);
        problems.at_least("storage.memtable_bytes", self.storage.memtable_bytes as u64, 64 * 1024);
        problems.unless(
            self.disk.writable_above_bytes >= self.disk.read_only_below_bytes,
            "disk.writable_above_bytes",
            format_args!("{} must not be below disk.read_only_below_bytes", self.disk.writable_above_bytes),
        );
    }
}

/// Longest time that consensus may be told to wait, in milliseconds: an hour.
const RAFT_MS_MAX: u64 = 3_600_000;

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn unless(&mut self, holds: bool, key: &str, reason: impl fmt::Display) {
        if !holds {
            self.0.push(Problem { key: key.to_owned(), reason: reason.to_string() });
        }
    }

    fn at_least(&mut self, key: &str, value: u64, least: u64) {
        self.unless(value >= least, key, format_args!("must be at least {least}, not {value}"));
    }

    fn address(&mut self, key: &str, address: &str) {
        let legal = address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        self.unless(legal, key, format_args!("{address:?} is not host:port"));
    }
}

/// Whether an address is reachable from this machine only.
fn is_loopback(address: &str) -> bool {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::FounderSettings;

    fn good() -> Settings {
        let mut settings = Settings::default();
        settings.cluster.id = uuid::Uuid::from_u128(7);
        settings.cluster.founders =
            vec![FounderSettings { node_id: 1, peer_address: "127.0.0.1:7201".into(), client_address: "127.0.0.1:7101".into() }];
        settings
    }

    fn check(change: impl FnOnce(&mut Settings), key: &str) {
        let mut settings = good();
        change(&mut settings);
        let problems = settings.validate();
        assert!(problems.iter().any(|problem| problem.key == key), "{key} is not among {problems:?}");
    }

    #[test]
    fn good_settings_have_no_problem() {
        assert_eq!(good().validate(), vec![]);
    }

    #[test]
    fn each_problem_names_its_key() {
        check(|s| s.cluster.id = uuid::Uuid::nil(), "cluster.id");
        check(|s| s.cluster.shards = 3, "cluster.shards");
        check(|s| s.cluster.shards = 128, "cluster.shards");
        check(|s| s.node.id = 0, "node.id");
        check(|s| s.node.id = 9, "node.id");
        check(|s| s.cluster.founders.clear(), "cluster.founders");
        check(|s| s.cluster.join = true, "cluster.founders");
        check(|s| s.cluster.founders[0].peer_address = "nowhere".into(), "cluster.founders[0].peer_address");
        check(|s| s.cluster.founders.push(s.cluster.founders[0].clone()), "cluster.founders[1].node_id");
        check(|s| s.listen.client = "127.0.0.1:99999".into(), "listen.client");
        check(|s| s.limits.replays_max = 0, "limits.replays_max");
        check(|s| s.raft.election_timeout_ms_min = 10, "raft.election_timeout_ms_min");
        check(|s| s.raft.election_timeout_ms_max = 10, "raft.election_timeout_ms_max");
        check(|s| s.disk.writable_above_bytes = 1, "disk.writable_above_bytes");
        check(|s| s.storage.segment_bytes = 1, "storage.segment_bytes");
    }

    #[test]
    fn an_absurd_time_is_named_and_does_not_overflow() {
        check(|s| s.raft.heartbeat_interval_ms = u64::MAX, "raft.heartbeat_interval_ms");
        check(|s| s.raft.heartbeat_interval_ms = u64::MAX, "raft.election_timeout_ms_min");
        check(|s| s.raft.election_timeout_ms_min = u64::MAX, "raft.election_timeout_ms_min");
        check(|s| s.raft.election_timeout_ms_min = u64::MAX, "raft.election_timeout_ms_max");
        check(|s| s.raft.election_timeout_ms_max = u64::MAX, "raft.election_timeout_ms_max");
    }

    #[test]
    fn a_peer_port_that_others_reach_needs_the_word_insecure() {
        for address in ["0.0.0.0:7201", "10.1.2.3:7201", "[::]:7201", "db-1.example:7201"] {
            check(|s| s.listen.peer = address.into(), "listen.peer");
            let mut settings = good();
            settings.listen.peer = address.into();
            settings.insecure = true;
            assert_eq!(settings.validate(), vec![], "{address}");
        }
        for address in ["127.0.0.1:1", "[::1]:1", "localhost:1"] {
            let mut settings = good();
            settings.listen.peer = address.into();
            assert_eq!(settings.validate(), vec![], "{address}");
        }
    }
}
