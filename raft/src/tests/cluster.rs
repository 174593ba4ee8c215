//! A cluster elects, stores, and survives what happens to its nodes.

use std::time::Duration;

use tokio::time::Instant;

use super::world::{SHARD, World, until};
use crate::{ProposeError, ReadError};

#[tokio::test]
async fn three_founders_form_one_cluster_and_store_on_every_node() {
    let world = World::born(3).await;
    for number in 1..=20 {
        world.write("a", number).await;
    }
    world.converge("a", &(1..=20).collect::<Vec<_>>()).await;
    let terms: Vec<u64> = world.nodes.iter().map(|node| node.group().status().term).collect();
    assert!(terms.iter().all(|term| *term == terms[0]), "{terms:?}");
}

#[tokio::test]
async fn a_killed_leader_is_replaced_within_a_second_and_a_half_and_nothing_acknowledged_is_lost() {
    let mut world = World::born(3).await;
    for number in 1..=5 {
        world.write("a", number).await;
    }
    let leader = world.leader().await;
    world.nodes[leader].kill();
    let killed = Instant::now();
    world.write("a", 6).await;
    let gap = killed.elapsed();
    assert!(gap < Duration::from_millis(1_500), "writes went on after {gap:?} only");
    world.start(leader).await;
    world.write("a", 7).await;
    world.converge("a", &(1..=7).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn all_nodes_killed_at_once_come_back_with_everything_acknowledged() {
    let mut world = World::born(3).await;
    for number in 1..=30 {
        world.write("a", number).await;
    }
    for node in &mut world.nodes {
        node.kill();
    }
    world.start_all().await;
    world.write("a", 31).await;
    world.converge("a", &(1..=31).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_follower_serves_a_read_that_sees_every_write_acknowledged_before() {
    let world = World::born(3).await;
    let leader = world.leader().await;
    let follower = (leader + 1) % 3;
    for number in 1..=50 {
        world.write("a", number).await;
        world.nodes[follower].group().read_barrier(Duration::from_secs(5)).await.expect("a barrier is reached");
        let seen = world.nodes[follower].events("a").await.len() as u64;
        assert_eq!(seen, number);
    }
}

#[tokio::test]
async fn a_leader_cut_off_serves_no_strong_read_and_its_old_writes_do_not_come_back() {
    let world = World::born(3).await;
    world.write("a", 1).await;
    let leader = world.leader().await;
    world.network.isolate(&world.nodes[leader].info.peer_address);
    let refused = world.nodes[leader].group().read_barrier(Duration::from_millis(500)).await;
    assert!(matches!(refused, Err(ReadError::NoLeader { .. } | ReadError::Deadline)), "{refused:?}");
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    let new_leader =
        until("another leader", || others.iter().copied().find(|index| world.nodes[*index].group().is_leader())).await;
    assert_ne!(new_leader, leader);
    world.network.heal();
    world.write("a", 2).await;
    world.converge("a", &[1, 2]).await;
}

#[tokio::test]
async fn a_cluster_of_one_serves_strong_reads_and_comes_back_at_once() {
    let mut world = World::born(1).await;
    world.write("a", 1).await;
    world.nodes[0].group().read_barrier(Duration::from_secs(5)).await.expect("a barrier is reached");
    world.nodes[0].kill();
    let killed = Instant::now();
    world.start(0).await;
    world.nodes[0].group().read_barrier(Duration::from_secs(5)).await.expect("it leads again");
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    assert_eq!(world.nodes[0].events("a").await.len(), 1, "a read after a restart sees what was acknowledged before it");
}

#[tokio::test]
async fn a_failed_sync_is_told_as_fatal_and_the_others_go_on() {
    let mut world = World::born_calm(3).await;
    world.write("a", 1).await;
    let leader = world.leader().await;
    let mut failed = world.nodes[leader].group().failed();
    world.nodes[leader].fail_next_sync();
    let batch = super::world::write("a", 2);
    let outcome = world.nodes[leader].group().propose(batch).await;
    assert!(matches!(outcome, Err(ProposeError::Unknown) | Ok(_)), "what others may have is unknown, not failed: {outcome:?}");
    let told = tokio::time::timeout(Duration::from_secs(10), failed.wait_for(Option::is_some)).await;
    assert_eq!(told.expect("in time").expect("told").as_ref().map(|fatal| fatal.shard), Some(SHARD));
    world.nodes[leader].kill();
    world.write("a", 2).await;
    world.write("a", 3).await;
    world.start(leader).await;
    world.converge("a", &[1, 2, 3]).await;
}

/// Each writer repeats a write until it is acknowledged, as clients do, while one node after the other is killed and comes back.
#[tokio::test]
async fn writes_go_on_while_nodes_are_killed_in_turn_and_each_is_stored_once() {
    let mut world = World::born(3).await;
    let mut number = 0;
    for round in 0..6 {
        let down = round % 3;
        world.nodes[down].kill();
        for _ in 0..20 {
            number += 1;
            world.write("a", number).await;
        }
        world.start(down).await;
        for _ in 0..20 {
            number += 1;
            world.write("a", number).await;
        }
    }
    world.converge("a", &(1..=number).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn what_is_handed_over_first_stands_first() {
    let world = World::born_calm(3).await;
    // A leader takes nothing before a quorum has answered it.
    world.write("b", 1).await;
    let group = world.nodes[world.leader().await].group().clone();
    let proposals: Vec<_> = (1..=200).map(|number| group.propose_start(super::world::write("a", number))).collect();
    for (proposal, number) in proposals.into_iter().zip(1..) {
        let replies = proposal.await.unwrap_or_else(|error| panic!("event {number}: {error}"));
        super::world::assert_stored(&replies);
    }
    world.converge("a", &(1..=200).collect::<Vec<_>>()).await;
}

/// The most valuable check: an answer means that a quorum has synced.
#[tokio::test]
async fn nothing_is_answered_before_a_quorum_has_synced_it() {
    let world = World::born_calm(3).await;
    world.write("a", 1).await;
    let leader = world.leader().await;
    let (first, second) = ((leader + 1) % 3, (leader + 2) % 3);
    // The leader alone, and one follower alone, are no quorum.
    for (number, held) in [(2, [first, second]), (3, [leader, second])] {
        // Who has not applied what came before would hear of it only with what is held back now.
        world.converge("a", &(1..number).collect::<Vec<_>>()).await;
        held.iter().for_each(|index| world.nodes[*index].hold_syncs(true));
        let mut proposal = Box::pin(world.nodes[leader].group().propose_start(super::world::write("a", number)));
        let early = tokio::time::timeout(Duration::from_millis(500), &mut proposal).await;
        assert!(early.is_err(), "answered while {held:?} have not synced: {early:?}");
        for node in &world.nodes {
            assert_eq!(node.events("a").await.len() as u64, number - 1, "applied while {held:?} have not synced");
        }
        // One more is enough.
        world.nodes[held[0]].hold_syncs(false);
        super::world::assert_stored(&proposal.await.expect("a quorum has it"));
        world.nodes[held[1]].hold_syncs(false);
    }
    world.converge("a", &[1, 2, 3]).await;
}

#[tokio::test]
async fn a_leader_that_stands_still_is_replaced_and_follows_when_it_goes_on() {
    let world = World::born(3).await;
    world.write("a", 1).await;
    let leader = world.leader().await;
    world.network.hold(&world.nodes[leader].info.peer_address);
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    world.write_among(&others, "a", 2, "2".into()).await;
    world.network.release();
    world.write("a", 3).await;
    world.converge("a", &[1, 2, 3]).await;
}

/// Both followers answer, elect another leader and write under it; only then does the old one, asked for a read meanwhile, hear them. The
/// first answer commits its entry, and the news of that is made after the read, and covered by the second answer as openraft counts.
#[tokio::test]
async fn an_answer_from_before_a_read_does_not_confirm_it() {
    let world = World::born_slower(3, 2).await;
    world.write("a", 1).await;
    world.converge("a", &[1]).await;
    let old = world.leader().await;
    let others = [(old + 1) % 3, (old + 2) % 3];
    let (group, address) = (world.nodes[old].group(), |index: usize| world.nodes[index].info.peer_address.as_str());
    let before = group.status().last;
    others.iter().for_each(|index| world.nodes[*index].hold_syncs(true));
    let _uncertain = group.propose_start(super::world::write("a", 2));
    let has_entry = |index: &usize| world.nodes[*index].group().status().last > before;
    until("they have it and have not answered", || others.iter().all(has_entry).then_some(())).await;
    for other in others {
        world.network.hold_calls(address(old), address(other));
        world.network.hold_calls(address(other), address(old));
        world.nodes[other].hold_syncs(false);
    }
    world.write_among(&others, "a", 3, "3".into()).await;
    let written =
        until("it is committed", || others.iter().filter_map(|index| world.nodes[*index].group().status().committed).max()).await;
    let mut read = Box::pin(group.read_barrier(super::world::PATIENCE));
    for other in others {
        let early = tokio::time::timeout(Duration::from_millis(50), &mut read).await;
        assert!(early.is_err(), "nobody has said a word since it was asked: {early:?}");
        world.network.release_answers(address(old), address(other));
    }
    let early = tokio::time::timeout(Duration::from_millis(50), &mut read).await;
    assert!(early.is_err(), "answers from before it say nothing about it: {early:?}");
    assert!(group.is_leader() && group.status().committed > before, "it has taken the answers in");
    world.network.release();
    let read = read.await;
    assert!(read.as_ref().is_ok_and(|index| *index >= written), "{read:?} is not behind {written}");
    world.converge("a", &[1, 2, 3]).await;
}

/// The stream to it is given up although no connection breaks, and a new one brings everything.
#[tokio::test]
async fn a_follower_that_stands_still_holds_up_nobody_and_catches_up() {
    let world = World::born(3).await;
    world.write("a", 1).await;
    let follower = (world.leader().await + 1) % 3;
    world.network.hold(&world.nodes[follower].info.peer_address);
    let held = Instant::now();
    let mut number = 1;
    while held.elapsed() < 3 * crate::limits::STREAM_STALL_MAX {
        number += 1;
        world.write("a", number).await;
    }
    world.network.release();
    world.converge("a", &(1..=number).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn five_nodes_go_on_without_two_and_stop_without_three() {
    let mut world = World::born(5).await;
    world.write("a", 1).await;
    let leader = world.leader().await;
    world.nodes[leader].kill();
    world.nodes[(leader + 1) % 5].kill();
    world.write("a", 2).await;
    world.nodes[(leader + 2) % 5].kill();
    for index in [(leader + 3) % 5, (leader + 4) % 5] {
        let group = world.nodes[index].group();
        let outcome = tokio::time::timeout(Duration::from_millis(500), group.propose(super::world::write("a", 3))).await;
        assert!(!matches!(outcome, Ok(Ok(_))), "two of five are no quorum: {outcome:?}");
    }
    for index in [leader, (leader + 1) % 5, (leader + 2) % 5] {
        world.start(index).await;
    }
    world.write("a", 3).await;
    world.converge("a", &[1, 2, 3]).await;
}

/// Many entries and large ones: no message to a peer is above what it takes.
#[tokio::test]
async fn the_largest_writes_reach_every_node_also_one_that_lags() {
    let mut world = World::new(3);
    world.found();
    for node in &mut world.nodes {
        node.settings.timing = node.settings.timing.slower(4);
        node.segment_bytes = 8 << 20;
    }
    world.start_all().await;
    let large = bytes::Bytes::from(vec![b'x'; 4 * 1024 * 1024 - 1024]);
    let follower = (world.leader().await + 1) % 3;
    world.nodes[follower].kill();
    for number in 1..=4 {
        world.write_bytes("a", number, large.clone()).await;
    }
    world.start(follower).await;
    world.write_bytes("a", 5, large.clone()).await;
    world.converge("a", &[1, 2, 3, 4, 5]).await;
}

#[tokio::test]
async fn a_follower_knows_how_much_it_lacks() {
    let world = World::born_calm(3).await;
    world.write("a", 1).await;
    world.converge("a", &[1]).await;
    let leader = world.leader().await;
    let follower = &world.nodes[(leader + 1) % 3];
    let group = follower.group();
    assert_eq!(group.lag(Duration::from_secs(5)).await, Ok(0));
    world.network.hold_calls(&world.nodes[leader].info.peer_address, &follower.info.peer_address);
    for number in 2..=20 {
        world.write("a", number).await;
    }
    let lacks = group.lag(Duration::from_secs(5)).await.expect("the leader answers");
    assert!((19..=20).contains(&lacks), "{lacks}");
    world.network.release();
    world.converge("a", &(1..=20).collect::<Vec<_>>()).await;
}

/// Nothing of the sort passes admission; but a core that stops must never leave a node that looks alive.
#[tokio::test]
async fn an_entry_that_cannot_be_applied_is_told_as_fatal_and_never_acknowledged() {
    let world = World::born(1).await;
    world.write("a", 1).await;
    let garbage = bytes::Bytes::from_static(&[1, 1, 0xff, 0xff, 0xff]);
    let Ok(openraft::EntryPayload::Normal(record)) = crate::entry::decode_payload(&garbage) else {
        panic!("a batch by its header")
    };
    let group = world.nodes[0].group();
    let outcome = group.raft().client_write(record).await;
    assert!(outcome.is_err(), "it has no reply");
    let mut failed = group.failed();
    let told = tokio::time::timeout(super::world::PATIENCE, failed.wait_for(Option::is_some)).await;
    assert_eq!(told.expect("in time").expect("told").as_ref().map(|fatal| fatal.shard), Some(SHARD));
    let refused = group.propose(super::world::write("a", 2)).await;
    assert!(matches!(refused, Err(ProposeError::Stopped | ProposeError::Unknown)), "{refused:?}");
}
