//! Members come and go: through the leader, checked there, and a node id only once.

use std::time::Duration;

use cairn_machine::NodeId;
use openraft::async_runtime::watch::WatchReceiver;
use uuid::Uuid;

use super::world::{Node, PATIENCE, SHARD, World, until};
use crate::group::take_change;
use crate::{Group, MembersError, NodeInfo, preferred_leader, proto};

/// Adds a node that runs and is in no cluster.
async fn stranger(world: &mut World, id: u64) -> usize {
    let mut node = Node::new(id, world.nodes[0].cluster_id);
    node.start(&world.network).await.expect("it starts");
    world.nodes.push(node);
    world.nodes.len() - 1
}

/// Adds a node that follows and has caught up; with who leads, and the group there.
async fn learner(world: &mut World, id: u64) -> (usize, Group, NodeInfo) {
    let added = stranger(world, id).await;
    let info = world.nodes[added].info.clone();
    let leader = world.leader().await;
    let group = world.nodes[leader].group().clone();
    group.add_learner(info.clone()).await.expect("it is added");
    until("it has caught up", || group.status().replication.get(&info.node_id).filter(|it| it.lag_entries == 0).copied()).await;
    (leader, group, info)
}

#[tokio::test]
async fn a_learner_catches_up_is_promoted_and_counts() {
    let mut world = World::born_calm(1).await;
    for number in 1..=10 {
        world.write("a", number).await;
    }
    for id in [2, 3] {
        let added = stranger(&mut world, id).await;
        let info = world.nodes[added].info.clone();
        world.nodes[0].group().add_learner(info.clone()).await.expect("it is added");
        // Asked of the learner itself, which forwards to the leader.
        until("the learner knows the leader", || world.nodes[added].group().leader()).await;
        let end = tokio::time::Instant::now() + PATIENCE;
        while let Err(error) = world.nodes[added].group().promote([info.node_id]).await {
            assert!(matches!(error, MembersError::Busy { .. }), "{error}");
            assert!(tokio::time::Instant::now() < end, "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let members = world.nodes[0].group().status().members;
    assert_eq!((members.voters.len(), members.learners.len(), members.changing), (3, 0, false));
    world.nodes[0].kill();
    world.write("a", 11).await;
    world.start(0).await;
    world.converge("a", &(1..=11).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_learner_far_behind_gets_a_checkpoint_and_then_the_log() {
    let mut world = World::new(1);
    world.found();
    world.nodes[0].settings.log_keep_entries = 10;
    world.nodes[0].settings.log_keep_bytes = 64 * 1024;
    world.nodes[0].memtable_bytes_max = 64 * 1024;
    world.start_all().await;
    world.leader().await;
    for number in 1..=600 {
        world.write_bytes("a", number, vec![b'x'; 1000].into()).await;
    }
    until("a purge", || world.nodes[0].group().status().purged).await;
    let added = stranger(&mut world, 2).await;
    let info = world.nodes[added].info.clone();
    world.nodes[0].group().add_learner(info).await.expect("it is added");
    world.write("a", 601).await;
    world.converge("a", &(1..=601).collect::<Vec<_>>()).await;
    until("it says that it began with a checkpoint", || world.nodes[added].group().status().purged).await;
    // It still has everything after it was killed.
    world.nodes[added].kill();
    world.start(added).await;
    world.write("a", 602).await;
    world.converge("a", &(1..=602).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_lost_node_is_replaced_and_its_id_is_never_given_again() {
    let mut world = World::born_calm(3).await;
    world.write("a", 1).await;
    let leader = world.leader().await;
    let lost = (leader + 1) % 3;
    let lost_info = world.nodes[lost].info.clone();
    world.nodes[lost].kill();
    let added = stranger(&mut world, 4).await;
    let info = world.nodes[added].info.clone();
    world.nodes[leader].group().replace(lost_info.node_id, info).await.expect("it is replaced");
    let members = world.nodes[leader].group().status().members;
    assert!(members.is_voter(NodeId(4)) && members.get(lost_info.node_id).is_none(), "{members:?}");
    world.write("a", 2).await;
    world.converge("a", &[1, 2]).await;

    let mut again = lost_info;
    again.birth_id = Uuid::from_u128(99);
    let refused = world.nodes[world.leader().await].group().add_learner(again).await;
    assert!(matches!(&refused, Err(MembersError::Refused { reason }) if reason.contains("used before")), "{refused:?}");
}

#[tokio::test]
async fn a_node_that_never_was_is_neither_removed_nor_replaced_and_one_that_is_gone_may_be_again() {
    let mut world = World::born_calm(3).await;
    let leader = world.leader().await;
    let voter = world.nodes[(leader + 1) % 3].info.clone();
    let group = world.nodes[leader].group().clone();
    for refused in [group.remove(NodeId(9)).await, group.replace(NodeId(9), voter).await] {
        let reason = refused.expect_err("there is no node 9").to_string();
        assert_eq!(reason, "node 9 was never a member");
    }
    let added = stranger(&mut world, 4).await;
    let (lost, new) = (world.nodes[(leader + 1) % 3].info.node_id, world.nodes[added].info.clone());
    group.replace(lost, new.clone()).await.expect("replaced");
    group.replace(lost, new).await.expect("it is so already");
    group.remove(lost).await.expect("it is so already");
}

#[tokio::test]
async fn a_change_that_would_stop_the_shard_is_refused() {
    let mut world = World::born_calm(3).await;
    let leader = world.leader().await;
    let (down, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let alone = world.nodes[leader].info.clone();
    let taken = world.nodes[leader].group().add_learner(NodeInfo { birth_id: Uuid::from_u128(5), ..alone }).await;
    assert!(matches!(taken, Err(MembersError::Refused { .. })), "{taken:?}");
    world.nodes[down].kill();
    let group = until_silent(&world, world.nodes[down].info.node_id).await;
    let removed = group.remove(world.nodes[other].info.node_id).await;
    assert!(matches!(removed, Err(MembersError::Refused { .. })), "{removed:?}");
    group.remove(world.nodes[down].info.node_id).await.expect("the dead one may go");
}

#[tokio::test]
async fn leadership_goes_where_it_is_sent_and_writes_go_on() {
    let world = World::born_calm(3).await;
    for round in 1..=6 {
        let leader = world.leader().await;
        let target = world.nodes[(leader + 1) % 3].info.node_id;
        world.nodes[leader].group().transfer_leader(target).await.expect("it takes over");
        let now = world.leader().await;
        assert_eq!(world.nodes[now].info.node_id, target);
        world.write("a", round).await;
    }
    let leader = world.leader().await;
    assert!(world.nodes[leader].group().hand_over(Duration::from_secs(5)).await, "a healthy follower takes over");
    world.write("a", 7).await;
    world.converge("a", &(1..=7).collect::<Vec<_>>()).await;
}

#[test]
fn preferred_leaders_are_spread_over_the_voters() {
    let voters = [NodeId(7), NodeId(2), NodeId(5)];
    let preferred = |shard| preferred_leader(cairn_machine::ShardId(shard), &voters);
    assert_eq!((0..4).map(preferred).collect::<Vec<_>>(), [2, 5, 7, 2].map(|id| Some(NodeId(id))));
    assert_eq!(preferred_leader(SHARD, &[]), None);
}

#[tokio::test]
async fn a_shard_returns_to_its_preferred_leader_by_itself() {
    let world = World::born_calm(3).await;
    let settings = crate::BalanceSettings {
        interval: Duration::from_millis(50),
        settle: Duration::from_millis(100),
        ..crate::BalanceSettings::default()
    };
    for node in &world.nodes {
        node.runtime().spawn(crate::balance_leaders(node.groups().clone(), settings));
    }
    until("node 1 leads, which shard 0 prefers", || world.nodes[0].group().is_leader().then_some(())).await;
}

/// Waits until the leader, whoever it is by then, has not heard of a node for so long that it counts as dead; one that never
/// answered it does at once. It has heard of all others.
async fn until_silent(world: &World, id: NodeId) -> Group {
    let knows = |group: &Group| {
        let replication = group.status().replication;
        let is_silent = |silent: Option<Duration>| silent.is_none_or(|silent| silent > group.silent_max());
        let as_it_is = replication.iter().all(|(other, follower)| is_silent(follower.silent) == (*other == id));
        (replication.contains_key(&id) && as_it_is).then(|| group.clone())
    };
    let running = || world.nodes.iter().filter(|node| node.is_running());
    // What it sent before it died has come by then.
    let silent_max = running().next().expect("somebody runs").group().silent_max();
    tokio::time::sleep(silent_max).await;
    until("the dead node is noticed", || running().find_map(|node| knows(node.group()))).await
}

#[tokio::test]
async fn a_learner_that_caught_up_and_died_gets_no_vote() {
    let mut world = World::born_calm(1).await;
    world.write("a", 1).await;
    let added = stranger(&mut world, 2).await;
    let id = world.nodes[added].info.node_id;
    let group = world.nodes[0].group().clone();
    group.add_learner(world.nodes[added].info.clone()).await.expect("it is added");
    until("it has caught up", || group.status().replication.get(&id).filter(|it| it.lag_entries == 0).copied()).await;
    world.nodes[added].kill();
    let group = until_silent(&world, id).await;
    let outcome = tokio::time::timeout(Duration::from_secs(5), group.promote([id])).await;
    assert!(matches!(outcome, Ok(Err(MembersError::Busy { .. } | MembersError::Refused { .. }))), "{outcome:?}");
    // With its vote the shard would need it.
    world.write("a", 2).await;
}

#[tokio::test]
async fn leadership_is_not_sent_to_a_node_that_does_not_answer() {
    let mut world = World::born_calm(3).await;
    let leader = world.leader().await;
    let dead = (leader + 1) % 3;
    world.nodes[dead].kill();
    let id = world.nodes[dead].info.node_id;
    let group = until_silent(&world, id).await;
    let term = group.status().term;
    let outcome = group.transfer_leader(id).await;
    assert!(matches!(outcome, Err(MembersError::Busy { .. })), "{outcome:?}");
    world.write("a", 1).await;
    assert_eq!((group.status().term, group.is_leader()), (term, true), "it still leads");
}

#[tokio::test]
async fn a_change_that_was_left_half_done_is_brought_to_its_end() {
    let mut world = World::born_calm(3).await;
    let (_, group, info) = learner(&mut world, 4).await;
    // The first of two steps is asked for, and whoever would ask for the second one is gone.
    let step = group.raft().change_membership(openraft::ChangeMembers::AddVoterIds([info.node_id.0].into()), false);
    assert!(futures::FutureExt::now_or_never(step).is_none(), "it waits for the quorum");
    until("it votes", || group.status().members.is_voter(info.node_id).then_some(())).await;
    until("the joint membership is left", || (!group.status().members.changing).then_some(())).await;
    let end = tokio::time::Instant::now() + PATIENCE;
    while let Err(error) = group.promote([info.node_id]).await {
        assert!(matches!(error, MembersError::Busy { .. }), "only until it is committed: {error}");
        assert!(tokio::time::Instant::now() < end, "{error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(group.status().members.voters.len(), 4);
}

#[tokio::test]
async fn a_leader_that_is_replaced_by_half_is_replaced_once() {
    let mut world = World::born_calm(3).await;
    let added = stranger(&mut world, 4).await;
    let new = world.nodes[added].info.clone();
    let leader = world.leader().await;
    let (group, old) = (world.nodes[leader].group().clone(), world.nodes[leader].info.node_id);
    group.add_learner(new.clone()).await.expect("it is added");
    until("it has caught up", || group.status().replication.get(&new.node_id).filter(|it| it.lag_entries == 0).copied()).await;
    // The first of two steps is asked for, and whoever would ask for the second one is gone.
    let swap = openraft::ChangeMembers::Batch(vec![
        openraft::ChangeMembers::AddVoterIds([new.node_id.0].into()),
        openraft::ChangeMembers::RemoveVoters([old.0].into()),
    ]);
    let step = group.raft().change_membership(swap, false);
    assert!(futures::FutureExt::now_or_never(step).is_none(), "it waits for the quorum");
    until("the membership is joint", || group.status().members.changing.then_some(())).await;
    let replaced = group.replace(old, new.clone()).await;
    assert!(!matches!(replaced, Err(MembersError::Refused { .. } | MembersError::Stopped)), "{replaced:?}");
    let running = || world.nodes.iter().filter(|node| node.is_running());
    let members = || {
        running()
            .map(|node| node.group().status())
            .find(|status| {
                status.role == crate::Role::Leader && status.leader.as_ref().is_some_and(|leader| leader.node_id != old)
            })
            .map(|status| status.members)
    };
    let members = until("another one leads", members).await;
    let voters: Vec<_> = members.voters.iter().map(|node| node.node_id).collect();
    assert_eq!((voters.len(), voters.contains(&old), voters.contains(&new.node_id)), (3, false, true), "{members:?}");
}

#[tokio::test]
async fn a_change_whose_leader_is_lost_between_its_steps_is_unknown() {
    let mut world = World::new(3);
    world.found();
    for node in &mut world.nodes {
        node.settings.timing = node.settings.timing.slower(4);
        // Nobody brings a half made change to its end.
        node.settings.upkeep_interval = Duration::from_secs(3600);
    }
    world.start_all().await;
    world.write("a", 1).await;
    let (leader, group, info) = learner(&mut world, 4).await;
    let promote = proto::NodeIds { node_ids: vec![info.node_id.0] };
    let change = proto::change_members_request::Change::Promote(promote);
    let change = take_change(proto::ChangeMembersRequest { shard: 0, change: Some(change) }).expect("a change");
    // The first step is asked for, and whoever asks for the second one sleeps until another one leads.
    let mut change = Box::pin(group.make_change(change));
    assert!(futures::poll!(&mut change).is_pending(), "it waits for the quorum");
    let is_committed = || {
        let metrics = group.raft().metrics().borrow_watched().clone();
        let members = metrics.membership_config;
        (members.get_joint_config().len() > 1 && *members.log_id() <= metrics.local_committed).then_some(())
    };
    until("the joint membership is committed", is_committed).await;
    let other = world.nodes[(leader + 1) % 3].info.node_id;
    group.transfer_leader(other).await.expect("it takes over");
    let outcome = change.await;
    assert!(matches!(outcome, Err(MembersError::Unknown { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_change_without_a_quorum_is_not_said_to_be_made_or_not_made() {
    let mut world = World::born_calm(3).await;
    let leader = world.leader().await;
    let group = world.nodes[leader].group().clone();
    let learner = NodeInfo { node_id: NodeId(9), birth_id: Uuid::from_u128(9), ..world.nodes[leader].info.clone() };
    for other in [(leader + 1) % 3, (leader + 2) % 3] {
        world.nodes[other].kill();
    }
    let first = tokio::time::timeout(Duration::from_millis(100), group.add_learner(learner.clone())).await;
    assert!(!matches!(first, Ok(Ok(()))), "{first:?}");
    // It is in the log of one node, and no answer says that this is enough.
    let again = tokio::time::timeout(Duration::from_secs(2), group.add_learner(learner)).await;
    assert!(!matches!(again, Ok(Ok(()))), "{again:?}");
}
