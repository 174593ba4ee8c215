//! Tables that are lost are fetched from a peer before the shard opens; a cluster of one says that it cannot.

use std::time::Duration;

use super::world::{World, until};
use crate::StartError;

/// A cluster whose nodes purge early, with 400 events.
async fn purged(count: u64) -> World {
    let mut world = World::new(count);
    world.found();
    for node in &mut world.nodes {
        node.settings.log_keep_entries = 10;
        node.settings.log_keep_bytes = 32 * 1024;
        node.settings.recovery_deadline = Duration::from_secs(10);
        node.memtable_bytes_max = 32 * 1024;
    }
    world.start_all().await;
    world.leader().await;
    for number in 1..=400 {
        world.write_bytes("a", number, vec![b'x'; 1000].into()).await;
    }
    until("all purge", || world.nodes.iter().all(|node| node.group().status().purged > Some(100)).then_some(())).await;
    world
}

#[tokio::test]
async fn lost_tables_are_fetched_from_a_peer_and_the_node_serves_again() {
    let mut world = purged(3).await;
    for index in 0..3 {
        world.nodes[index].kill();
        world.nodes[index].lose_tables();
        world.start(index).await;
        assert!(world.nodes[index].events("a").await.len() > 100, "it opened with a checkpoint");
    }
    world.write("a", 401).await;
    world.converge("a", &(1..=401).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_node_without_its_tables_and_without_a_peer_does_not_open() {
    let mut world = purged(1).await;
    world.nodes[0].kill();
    world.nodes[0].lose_tables();
    let network = world.network.clone();
    let refused = world.nodes[0].start(&network).await;
    assert!(matches!(refused, Err(StartError::TablesLost { applied: None, .. })), "{refused:?}");
}

#[tokio::test]
async fn tables_that_are_merely_behind_are_made_good_by_the_log() {
    let mut world = World::born(1).await;
    for number in 1..=20 {
        world.write("a", number).await;
    }
    world.nodes[0].kill();
    world.nodes[0].lose_tables();
    world.start(0).await;
    world.leader().await;
    world.converge("a", &(1..=20).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_shard_that_holds_back_the_log_lets_it_go() {
    let mut world = World::new(1);
    world.found();
    world.start_all().await;
    world.leader().await;
    for number in 1..=3_000 {
        world.write_bytes("a", number, vec![b'x'; 1000].into()).await;
    }
    let log = world.nodes[0].log().clone();
    until("segments pile up", || (log.segment_count() > 2).then_some(())).await;
    let node = &world.nodes[0];
    let interval = Duration::from_millis(20);
    node.runtime().spawn(crate::release_log_pins(log.clone(), node.groups().clone(), 1, interval));
    until("segments are given back", || (log.segment_count() <= 2).then_some(())).await;
    world.write("a", 3_001).await;
    world.converge("a", &(1..=3_001).collect::<Vec<_>>()).await;
}
