//! A node ends within its time, whatever hangs, and a start that fails leaves nothing behind.

mod common;

use std::time::Duration;

use common::{Cluster, Disk, eventually, founder_settings};
use tokio::time::Instant;

/// Enough that those whose cores hang would take long one after the other.
const SHARDS: u16 = 16;

#[tokio::test]
async fn a_node_whose_disk_hangs_stops_within_its_time() {
    let mut cluster = Cluster::of_nobody();
    for id in 1..=3 {
        let mut settings = founder_settings(id, 3, SHARDS);
        settings.shutdown_deadline_ms = 500;
        cluster.enlist(settings, Disk::memory());
        cluster.start(id).await;
    }
    cluster.all_ready().await;
    let Disk::Memory { fs, .. } = cluster.members[&3].disk.clone() else { unreachable!("as it was made") };
    eventually("node 1 leads its share", async || (cluster.node(1).leads().len() > 4).then_some(())).await;
    fs.hold_syncs(true);
    cluster.kill(1);
    // Several elections, of which none succeeds: in what the dead one led node 3 votes, for itself or for node 2, and waits for its disk.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let begun = Instant::now();
    tokio::time::timeout(common::WAIT_MAX, cluster.stop(3)).await.expect("it stops");
    // The deadline, a second each for cores, log and tasks, and what the end of a runtime takes.
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}
