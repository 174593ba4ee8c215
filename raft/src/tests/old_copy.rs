//! A node that comes back with an older copy of its files has lost what it acknowledged, and is stopped before it does harm.

use std::time::Duration;

use tonic::Code;

use super::world::{SHARD, World};
use crate::acknowledged::missing;
use crate::type_config::{Ballot, log_id};

/// The followers of a cluster's leader.
async fn followers(world: &World) -> Vec<usize> {
    let leader = world.leader().await;
    (0..world.nodes.len()).filter(|index| *index != leader).collect()
}

#[tokio::test]
async fn a_follower_with_an_older_copy_of_its_log_stops_and_the_others_go_on() {
    let mut world = World::born_calm(3).await;
    world.write("a", 1).await;
    world.converge("a", &[1]).await;
    let old = followers(&world).await[0];
    let copy = world.nodes[old].copy_log();
    for number in 2..=20 {
        world.write("a", number).await;
    }
    world.converge("a", &(1..=20).collect::<Vec<_>>()).await;
    world.nodes[old].kill();
    world.nodes[old].put_log_back(copy);
    world.start(old).await;

    let mut failed = world.nodes[old].group().failed();
    let told = tokio::time::timeout(Duration::from_secs(10), failed.wait_for(Option::is_some)).await;
    let fatal = told.expect("in time").expect("told").clone().expect("some");
    assert_eq!(fatal.shard, SHARD);
    assert!(fatal.reason.contains("older copy"), "{fatal}");
    let refused = world.nodes[old].group().check_sound().expect_err("it answers no peer any more");
    assert_eq!(refused.code(), Code::DataLoss);

    world.nodes[old].kill();
    for number in 21..=25 {
        world.write("a", number).await;
    }
    let others: Vec<usize> = (0..3).filter(|index| *index != old).collect();
    world.converge_on(&others, "a", &(1..=25).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_node_that_comes_back_with_its_own_files_holds_what_it_acknowledged() {
    let mut world = World::born_calm(3).await;
    for number in 1..=20 {
        world.write("a", number).await;
    }
    for index in followers(&world).await {
        world.nodes[index].kill();
        world.start(index).await;
    }
    world.write("a", 21).await;
    world.converge("a", &(1..=21).collect::<Vec<_>>()).await;
    assert!(world.nodes.iter().all(|node| node.group().failed().borrow().is_none()));
}

#[tokio::test]
async fn what_is_missing_is_told_apart_from_what_another_leader_may_have_cut() {
    let world = World::born_calm(1).await;
    world.write("a", 1).await;
    let group = world.nodes[0].group();
    let status = group.status();
    let (log, tables) = (world.nodes[0].log().shard(SHARD), group.tables());
    let (term, last) = (status.term, status.last.expect("something was written"));
    let own = Ballot::new_committed(term, 1);
    let missing = |ballot: &Ballot, index: u64| missing(&log, tables, ballot, &log_id(term, 1, index));
    assert_eq!(missing(&own, last), None, "it is there");
    assert!(missing(&own, last + 1).is_some(), "it is not");
    assert_eq!(
        missing(&Ballot::new_committed(term - 1, 2), last + 1),
        None,
        "the leader of an older ballot is refused by its ballot"
    );
    let later = missing(&Ballot::new_committed(term + 1, 2), last);
    assert!(later.is_some(), "who has acknowledged to a later ballot has voted in it");
}
