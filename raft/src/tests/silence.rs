//! A node whose disk hangs, and a core that waits: for the disk as long as that takes, and for anything else not for ever.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::world::{Node, World, assert_stored, write};
use crate::Group;

/// A cluster of one on the test's own runtime, whose clock jumps when all wait.
async fn alone() -> (Node, Group) {
    let mut node = Node::new(1, Uuid::from_u128(0xca1));
    node.settings.upkeep_interval = Duration::from_secs(1);
    let group = node.start_here().await;
    (node, group)
}

/// Waits in the time that jumps.
async fn until(what: &str, mut look: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !look() {
        assert!(Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_voter_whose_disk_hangs_in_a_vote_for_hours_goes_on_after() {
    let (node, group) = alone().await;
    node.hold_syncs(true);
    let (birth, info) = (group.clone(), node.info.clone());
    let born = tokio::spawn(async move { birth.initialize(vec![info]).await });
    // More ticks than there is room for wherever they wait.
    tokio::time::sleep(Duration::from_secs(10 * 3600)).await;
    assert!(!group.is_leader(), "its vote is not synced");
    assert_eq!(*group.failed().borrow(), None, "whoever waits for the disk is not dead");
    node.hold_syncs(false);
    until("the election", || group.is_leader()).await;
    born.await.expect("no panic").expect("it is born");
    assert_stored(&group.propose(write("a", 1)).await.expect("it is stored"));
    // The ticks come again: without them there is no lease, and no election.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_stored(&group.propose(write("a", 2)).await.expect("it is stored"));
    assert_eq!(*group.failed().borrow(), None);
}

#[tokio::test(start_paused = true)]
async fn a_core_that_is_silent_beside_a_disk_that_works_is_told_as_fatal() {
    let (node, group) = alone().await;
    group.initialize(vec![node.info.clone()]).await.expect("it is born");
    until("the election", || group.is_leader()).await;
    // Nothing is applied any more; what is committed piles up before the tables, until the core waits for room there.
    let stuck = group.clone();
    let _stuck = tokio::spawn(async move {
        let hung = stuck.raft().with_state_machine(|_| Box::pin(std::future::pending::<()>()));
        let _ = hung.await;
    });
    let mut proposals = Vec::new();
    for number in 1..=1100 {
        proposals.push(group.propose_start(write("a", number)));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stuck_since = Instant::now();
    let mut failed = group.failed();
    let told = tokio::time::timeout(Duration::from_secs(120), failed.wait_for(Option::is_some)).await;
    let fatal = told.expect("in time").expect("told").clone().expect("a reason");
    assert!(fatal.reason.contains("no sign of life") && !fatal.is_lasting, "{fatal}");
    assert!(stuck_since.elapsed() >= Duration::from_secs(60), "{:?}", stuck_since.elapsed());
}

/// The followers are a quorum: but for the hand-over the leader would lead on, and hold everything in memory.
#[tokio::test]
async fn a_leader_whose_disk_hangs_hands_over_and_follows_when_it_goes_on() {
    let world = World::born_calm(3).await;
    world.write("a", 1).await;
    world.converge("a", &[1]).await;
    let old = world.leader().await;
    let others = [(old + 1) % 3, (old + 2) % 3];
    let election_max = world.nodes[old].settings.timing.election_max;
    world.nodes[old].hold_syncs(true);
    // A leader that has nothing to sync is not known to hang.
    tokio::time::sleep(election_max * 6).await;
    assert_eq!(world.leader().await, old);
    let held = Instant::now();
    let _uncertain = world.nodes[old].group().propose_start(write("a", 2));
    super::world::until("another one leads", || others.iter().find(|index| world.nodes[**index].group().is_leader())).await;
    assert!(held.elapsed() < election_max * 10, "{:?}", held.elapsed());
    world.write_among(&others, "a", 2, "a/2".into()).await;
    world.write_among(&others, "a", 3, "a/3".into()).await;
    world.nodes[old].hold_syncs(false);
    world.converge("a", &[1, 2, 3]).await;
    assert!(!world.nodes[old].group().is_leader());
}

/// It is needed for the election, too: reads go on only if there is none.
#[tokio::test]
async fn a_leader_whose_disk_hangs_and_without_whom_there_is_no_quorum_leads_on() {
    let mut world = World::born_calm(3).await;
    world.write("a", 1).await;
    world.converge("a", &[1]).await;
    let leader = world.leader().await;
    let (term, election_max) = (world.nodes[leader].group().status().term, world.nodes[leader].settings.timing.election_max);
    world.nodes[(leader + 1) % 3].kill();
    world.nodes[leader].hold_syncs(true);
    let waiting = world.nodes[leader].group().propose_start(write("a", 2));
    tokio::time::sleep(election_max * 10).await;
    let group = world.nodes[leader].group();
    group.read_barrier(election_max).await.expect("reads need no disk");
    world.nodes[leader].hold_syncs(false);
    assert_stored(&waiting.await.expect("the disk goes on"));
    assert_eq!((group.is_leader(), group.status().term), (true, term));
}

#[tokio::test]
async fn a_leader_whose_disk_is_slow_leads_on() {
    let world = World::born_calm(3).await;
    world.write("a", 1).await;
    let leader = world.leader().await;
    let (node, term) = (&world.nodes[leader], world.nodes[leader].group().status().term);
    let election_max = node.settings.timing.election_max;
    let begun = Instant::now();
    let mut number = 1;
    // There is always something to sync, and a sync takes two elections.
    while begun.elapsed() < election_max * 12 {
        node.hold_syncs(true);
        for _ in 0..2 {
            number += 1;
            world.write("a", number).await;
            tokio::time::sleep(election_max).await;
        }
        node.hold_syncs(false);
        let all = node.group().status().last;
        super::world::until("a sync", || (node.log().shard(super::world::SHARD).durable_index() >= all).then_some(())).await;
    }
    assert_eq!((node.group().is_leader(), node.group().status().term), (true, term));
}
