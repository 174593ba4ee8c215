//! What operators see: health, metrics, and disks that fill up.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use cairn_api::v1::{self, Reason};
use cairn_node::{Network, StartError};
use common::{Cluster, Disk, eventually, founder_settings, http_address, write_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Free bytes of a disk that is nearly full, and of one that is not.
const FULL: u64 = 1024;
const ROOMY: u64 = 1 << 40;

async fn cluster_of_three() -> Cluster {
    let mut cluster = Cluster::of_nobody();
    for id in 1..=3 {
        let mut settings = founder_settings(id, 3, 1);
        settings.disk.check_interval_ms = 20;
        cluster.enlist(settings, Disk::memory());
        cluster.start(id).await;
    }
    cluster.all_ready().await;
    cluster
}

fn set_room(cluster: &Cluster, id: u64, bytes: u64) {
    cluster.members[&id].room.store(bytes, Ordering::Relaxed);
}

/// One request of HTTP/1.1, and the whole answer.
async fn http(cluster: &Cluster, id: u64, request: &str) -> String {
    let mut io = cluster.network.connect(&http_address(id)).await.expect("connects");
    io.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = Vec::new();
    tokio::time::timeout(common::WAIT_MAX, io.read_to_end(&mut answer)).await.expect("in time").expect("reads");
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_ready_node_says_so_and_one_without_a_leader_says_why_not() {
    let mut cluster = cluster_of_three().await;
    assert!(http(&cluster, 1, &get("/livez")).await.starts_with("HTTP/1.1 200"));
    assert!(http(&cluster, 1, &get("/readyz")).await.starts_with("HTTP/1.1 200"));
    for id in [2, 3] {
        cluster.kill(id);
    }
    eventually("it is not ready", async || {
        let answer = http(&cluster, 1, &get("/readyz")).await;
        (answer.starts_with("HTTP/1.1 503") && answer.contains("no_leader")).then_some(())
    })
    .await;
    assert!(http(&cluster, 1, &get("/livez")).await.starts_with("HTTP/1.1 200"), "it lives");
    assert!(http(&cluster, 1, &get("/nothing")).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_connection_that_never_ends_its_headers_is_closed_after_its_time() {
    let mut cluster = Cluster::of_nobody();
    let mut settings = founder_settings(1, 1, 1);
    settings.limits.handshake_deadline_ms = 300;
    cluster.enlist(settings, Disk::memory());
    cluster.start(1).await;
    let mut io = cluster.network.connect(&http_address(1)).await.expect("connects");
    io.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\nX: ").await.expect("more than a first few bytes");
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(common::WAIT_MAX, io.read_to_end(&mut answer)).await.expect("in time");
    assert!(closed.is_err() || !answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert!(http(&cluster, 1, &get("/livez")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn grpc_health_follows_readiness() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    let mut cluster = cluster_of_three().await;
    let check = async |cluster: &Cluster| {
        let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
        HealthClient::new(cluster.channel(1)).check(request).await.expect("an answer").into_inner().status()
    };
    eventually("it serves", async || (check(&cluster).await == ServingStatus::Serving).then_some(())).await;
    for id in [2, 3] {
        cluster.kill(id);
    }
    eventually("it does not", async || (check(&cluster).await == ServingStatus::NotServing).then_some(())).await;
}

#[tokio::test]
async fn metrics_carry_the_names_that_dashboards_use() {
    let cluster = cluster_of_three().await;
    for number in 1..=3 {
        cluster.write("account-1", number, b"x").await;
    }
    cluster.payloads(1, "account-1").await;
    let leader = cluster.leader(0).await;
    let text = eventually("the samples are gathered", async || {
        let text = http(&cluster, leader, &get("/metrics")).await;
        text.contains("cairn_append_events_total{shard=\"0\"} 3").then_some(text)
    })
    .await;
    for name in [
        "cairn_append_duration_seconds_bucket",
        "cairn_append_events_total",
        "cairn_append_conflicts_total",
        "cairn_fenced_writes_total",
        "cairn_sync_duration_seconds_bucket",
        "cairn_raft_term",
        "cairn_raft_is_leader{shard=\"0\"} 1",
        "cairn_raft_committed_index",
        "cairn_raft_applied_index",
        "cairn_raft_leader_changes_total",
        "cairn_replication_lag_entries",
        "cairn_recovery_duration_seconds",
        "cairn_disk_free_bytes",
        "cairn_read_only 0",
        "cairn_corruption_detected_total 0",
        "cairn_grpc_requests_total{method=\"Journal/Write\",code=\"Ok\"}",
    ] {
        assert!(text.contains(name), "{name} is missing in:\n{text}");
    }
    assert!(!text.contains("account-1"), "no persistence id is a label");
}

#[tokio::test]
async fn a_leader_whose_disk_fills_hands_over_and_writes_go_on() {
    let cluster = cluster_of_three().await;
    let leader = cluster.leader(0).await;
    set_room(&cluster, leader, FULL);
    eventually("another node leads", async || {
        let now = cluster.leader(0).await;
        (now != leader).then_some(())
    })
    .await;
    assert_eq!(cluster.write("account-1", 1, b"x").await.highest, 1);
    eventually("it says so", async || {
        let status = cluster.status(leader).await;
        (status.read_only && status.not_ready.contains(&"read_only".to_owned())).then_some(())
    })
    .await;
    set_room(&cluster, leader, ROOMY);
    eventually("it clears by itself", async || (!cluster.status(leader).await.read_only).then_some(())).await;
}

/// Writes behind event `number` until the cluster is read-only: writes pass until every node has looked. Gives the last number.
async fn write_until_read_only(cluster: &Cluster, mut number: i64) -> i64 {
    eventually("writes are refused", async || {
        let leader = cluster.leader(0).await;
        match cluster.journal(leader).write(write_request("account-1", number + 1, b"x")).await {
            Ok(_) => {
                number += 1;
                None
            }
            Err(status) => {
                let failure = v1::Failure::from_status(&status).expect("a failure");
                (failure.reason() == Reason::ReadOnly).then_some(())
            }
        }
    })
    .await;
    number
}

#[tokio::test]
async fn without_a_quorum_of_roomy_nodes_writes_are_refused_and_deletions_and_reads_go_on() {
    let cluster = cluster_of_three().await;
    for number in 1..=5 {
        cluster.write("account-1", number, b"x").await;
    }
    for id in [1, 2, 3] {
        set_room(&cluster, id, FULL);
    }
    let number = write_until_read_only(&cluster, 5).await;
    assert_eq!(cluster.payloads(1, "account-1").await.len() as i64, number);
    let delete = v1::DeleteToRequest {
        persistence_id: "account-1".into(),
        to: 3,
        permanent: true,
        writer_id: "writer".into(),
        epoch: None,
    };
    eventually("deletions work", async || {
        let leader = cluster.leader(0).await;
        cluster.journal(leader).delete_to(delete.clone()).await.ok().map(|_| ())
    })
    .await;
    for id in [1, 2, 3] {
        set_room(&cluster, id, ROOMY);
    }
    eventually("writes work again", async || {
        let leader = cluster.leader(0).await;
        cluster.journal(leader).write(write_request("account-1", number + 1, b"x")).await.ok().map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn a_roomy_leader_with_two_full_followers_takes_no_writes_and_is_not_ready_until_it_does() {
    let cluster = cluster_of_three().await;
    let leader = cluster.leader(0).await;
    for id in [1, 2, 3] {
        if id != leader {
            set_room(&cluster, id, FULL);
        }
    }
    let number = write_until_read_only(&cluster, 0).await;
    eventually("the leader says so", async || {
        let leader = cluster.leader(0).await;
        let is_told = cluster.node(leader).not_ready().contains(&"read_only".to_owned());
        (cluster.members[&leader].room.load(Ordering::Relaxed) != FULL && is_told).then_some(())
    })
    .await;
    for id in [1, 2, 3] {
        set_room(&cluster, id, ROOMY);
    }
    cluster.all_ready().await;
    // Ready means that it takes writes.
    let leader = cluster.leader(0).await;
    cluster.journal(leader).write(write_request("account-1", number + 1, b"x")).await.expect("is taken");
}

#[tokio::test]
async fn a_failed_sync_ends_the_node_and_the_others_go_on() {
    let mut cluster = cluster_of_three().await;
    cluster.write("account-1", 1, b"x").await;
    let follower = cluster.follower(0).await;
    let Disk::Memory { fs, .. } = &cluster.members[&follower].disk else { panic!("in memory") };
    fs.fail_sync_after(0);
    for number in 2..=5 {
        cluster.write("account-1", number, b"x").await;
    }
    let failed = tokio::time::timeout(common::WAIT_MAX, cluster.node(follower).failed()).await.expect("it says so");
    tracing::info!(%failed, "as it should");
    cluster.kill(follower);
    cluster.start(follower).await;
    cluster.all_ready().await;
    assert_eq!(cluster.payloads(follower, "account-1").await.len(), 5);
}

#[tokio::test]
async fn a_node_on_an_older_copy_of_its_files_fails_and_its_directory_is_refused_from_then_on() {
    let mut cluster = cluster_of_three().await;
    cluster.write("account-1", 1, b"one").await;
    let old = cluster.follower(0).await;
    eventually("it has the event", async || (cluster.payloads(old, "account-1").await.len() == 1).then_some(())).await;
    let Disk::Memory { fs, .. } = &cluster.members[&old].disk else { panic!("a disk in memory") };
    let copy = fs.duplicate();
    for number in 2..=10 {
        cluster.write("account-1", number, b"more").await;
    }
    cluster.kill(old);
    let Disk::Memory { fs, .. } = &mut cluster.members.get_mut(&old).expect("is enlisted").disk else { panic!("in memory") };
    *fs = copy;
    cluster.start(old).await;
    let failed = tokio::time::timeout(common::WAIT_MAX, cluster.node(old).failed()).await.expect("in time");
    assert!(failed.to_string().contains("older copy"), "{failed}");
    cluster.kill(old);
    let refused = cluster.try_start(old).await.expect_err("it is condemned");
    assert!(matches!(refused, StartError::Condemned { .. }) && refused.to_string().contains("older copy"), "{refused}");
    cluster.write("account-1", 11, b"the others go on").await;
}

#[tokio::test]
async fn a_disk_that_has_room_again_takes_writes_at_once_also_while_leadership_is_handed_over() {
    let mut cluster = Cluster::of_nobody();
    for id in 1..=3 {
        let mut settings = founder_settings(id, 3, 8);
        settings.disk.check_interval_ms = 20;
        cluster.enlist(settings, Disk::memory());
        cluster.start(id).await;
    }
    cluster.all_ready().await;
    eventually("node 1 leads its share", async || (cluster.node(1).leads().len() > 1).then_some(())).await;
    let led = cluster.node(1).leads().len();
    // Nobody takes over: a vote waits for the disk.
    for id in [2, 3] {
        let Disk::Memory { fs, .. } = &cluster.members[&id].disk else { unreachable!("as it was made") };
        fs.hold_syncs(true);
    }
    set_room(&cluster, 1, FULL);
    eventually("it is read-only", async || cluster.status(1).await.read_only.then_some(())).await;
    set_room(&cluster, 1, ROOMY);
    let begun = tokio::time::Instant::now();
    eventually("it is not any more", async || (!cluster.status(1).await.read_only).then_some(())).await;
    assert!(begun.elapsed() < Duration::from_millis(1_500), "after {:?}, with {led} shards to hand over", begun.elapsed());
}
