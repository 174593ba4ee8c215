//! Changing the members of a cluster, and who is refused.

mod common;

use cairn_api::v1::{self, Reason};
use common::{Cluster, Disk, eventually, founder_settings, joining_settings, local, peer_address, reason, strong};

fn add(id: u64) -> v1::AddRequest {
    v1::AddRequest { peer_address: peer_address(id) }
}

fn voters(status: &v1::StatusResponse) -> Vec<Vec<u64>> {
    status
        .shard_states
        .iter()
        .map(|shard| {
            let mut voters = shard.voters.clone();
            voters.sort_unstable();
            voters
        })
        .collect()
}

async fn wait_for_voters(cluster: &Cluster, expected: &[u64]) {
    for id in cluster.running() {
        if !expected.contains(&id) {
            continue;
        }
        eventually("every node knows the voters", async || {
            voters(&cluster.status(id).await).iter().all(|voters| voters == expected).then_some(())
        })
        .await;
    }
}

async fn with_events(cluster: &Cluster) {
    for number in 1..=20 {
        cluster.write("account-1", number, &[number as u8]).await;
        cluster.write("account-2", number, &[number as u8]).await;
    }
}

async fn assert_events_on(cluster: &Cluster, id: u64) {
    let expected: Vec<_> = (1..=20u8).map(|number| vec![number]).collect();
    assert_eq!(cluster.payloads(id, "account-1").await, expected, "node {id}");
    assert_eq!(cluster.payloads(id, "account-2").await, expected, "node {id}");
}

#[tokio::test]
async fn a_waiting_node_is_added_and_serves_and_asking_again_changes_nothing() {
    let mut cluster = Cluster::of_founders(3, 2).await;
    with_events(&cluster).await;
    cluster.enlist(joining_settings(4, 2), Disk::memory());
    cluster.start(4).await;
    eventually("it waits", async || (cluster.node(4).not_ready() == ["waiting_for_cluster"]).then_some(())).await;
    for _ in 0..2 {
        // Any node may be asked, whoever leads.
        let asked = cluster.follower(0).await;
        let asked = if asked == 4 { 1 } else { asked };
        let done = cluster.admin(asked).add(add(4)).await.expect("is added").into_inner();
        assert!(!done.steps.is_empty());
        wait_for_voters(&cluster, &[1, 2, 3, 4]).await;
    }
    cluster.all_ready().await;
    assert_events_on(&cluster, 4).await;
    let status = cluster.status(4).await;
    assert!(status.nodes.iter().all(|node| node.voter) && status.nodes.len() == 4);
}

#[tokio::test]
async fn a_node_is_removed_also_when_it_leads_and_the_rest_goes_on() {
    let mut cluster = Cluster::of_founders(3, 2).await;
    with_events(&cluster).await;
    let leader = cluster.leader(0).await;
    let asked = cluster.follower(0).await;
    let request = v1::RemoveRequest { node_id: leader };
    cluster.admin(asked).remove(request).await.expect("is removed");
    let rest: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    wait_for_voters(&cluster, &rest).await;
    cluster.kill(leader);
    let response = cluster.write("account-1", 21, b"on").await;
    assert_eq!(response.highest, 21);
    let again = cluster.admin(asked).remove(request).await.expect("nothing to do").into_inner();
    assert!(again.steps[0].contains("not a member"), "{again:?}");
}

#[tokio::test]
async fn a_lost_node_is_replaced_under_a_new_identity_while_it_is_gone() {
    let mut cluster = Cluster::of_founders(3, 2).await;
    with_events(&cluster).await;
    let lost = cluster.follower(0).await;
    cluster.kill(lost);
    cluster.enlist(joining_settings(4, 2), Disk::memory());
    cluster.start(4).await;
    let asked = [1, 2, 3].into_iter().find(|id| *id != lost).expect("there is one");
    let request = v1::ReplaceRequest { node_id: lost, peer_address: peer_address(4) };
    eventually("the lost node is replaced", async || match cluster.admin(asked).replace(request.clone()).await {
        Ok(_) => Some(()),
        Err(status) if common::is_passing(&status) => None,
        Err(status) => panic!("{status}"),
    })
    .await;
    let mut expected: Vec<u64> = [1, 2, 3, 4].into_iter().filter(|id| *id != lost).collect();
    expected.sort_unstable();
    wait_for_voters(&cluster, &expected).await;
    cluster.all_ready().await;
    assert_events_on(&cluster, 4).await;
    assert_eq!(cluster.write("account-1", 21, b"on").await.highest, 21);
}

#[tokio::test]
async fn leadership_is_transferred_to_whom_is_asked_for() {
    let mut cluster = Cluster::of_nobody();
    for id in 1..=3 {
        let mut settings = founder_settings(id, 3, 2);
        settings.raft.spread_leaders = false;
        cluster.enlist(settings, Disk::memory());
        cluster.start(id).await;
    }
    cluster.all_ready().await;
    for target in [3, 1, 2] {
        let request = v1::TransferLeaderRequest { shard: Some(1), node_id: target };
        eventually("is transferred", async || match cluster.admin(1).transfer_leader(request).await {
            Ok(_) => Some(()),
            Err(status) if common::is_passing(&status) => None,
            Err(status) => panic!("{status}"),
        })
        .await;
        assert_eq!(cluster.leader(1).await, target);
    }
    let unknown = v1::TransferLeaderRequest { shard: Some(9), node_id: 1 };
    assert_eq!(reason(cluster.admin(1).transfer_leader(unknown).await), Reason::Invalid);
    let stranger = v1::TransferLeaderRequest { shard: Some(0), node_id: 77 };
    assert_eq!(reason(cluster.admin(1).transfer_leader(stranger).await), Reason::Unsafe);
}

#[tokio::test]
async fn nodes_that_do_not_fit_are_not_added() {
    let mut cluster = Cluster::of_founders(3, 2).await;
    // Another cluster's id.
    let mut foreign = joining_settings(4, 2);
    foreign.cluster.id = uuid::Uuid::from_u128(0xBAD);
    // Another number of shards.
    let shards = joining_settings(5, 4);
    // A founder of its own cluster.
    let mut founder = founder_settings(6, 3, 2);
    founder.cluster.founders.remove(0);
    founder.cluster.founders[0].node_id = 6;
    founder.cluster.founders[0].peer_address = peer_address(6);
    founder.cluster.founders[1].node_id = 7;
    founder.cluster.founders[1].peer_address = peer_address(7);
    // A node id that is taken.
    let mut taken = joining_settings(2, 2);
    taken.listen.peer = peer_address(8);
    taken.listen.client = common::client_address(8);
    taken.listen.http = String::new();
    for (at, settings) in [(4, foreign), (5, shards), (6, founder), (8, taken)] {
        let id = settings.node.id;
        if id == 2 {
            // Beside the real one: under another key of the test's table.
            let mut aside = Cluster { network: cluster.network.clone(), members: Default::default() };
            aside.enlist(settings, Disk::memory());
            aside.start(2).await;
            assert_eq!(reason(cluster.admin(1).add(add(at)).await), Reason::Unsafe, "node {at}");
            continue;
        }
        cluster.enlist(settings, Disk::memory());
        cluster.start(id).await;
        assert_eq!(reason(cluster.admin(1).add(add(at)).await), Reason::Unsafe, "node {at}");
    }
    assert_eq!(reason(cluster.admin(1).add(add(99)).await), Reason::Unavailable, "nobody is there");
    let malformed = v1::AddRequest { peer_address: "not an address".into() };
    let refused = reason(cluster.admin(1).add(malformed).await);
    assert!(matches!(refused, Reason::Invalid | Reason::Unavailable), "{refused:?}");
    wait_for_voters(&cluster, &[1, 2, 3]).await;
}

#[tokio::test]
async fn a_removed_node_id_is_never_used_again() {
    let mut cluster = Cluster::of_founders(3, 1).await;
    with_events(&cluster).await;
    let gone = cluster.follower(0).await;
    let asked = cluster.leader(0).await;
    cluster.admin(asked).remove(v1::RemoveRequest { node_id: gone }).await.expect("is removed");
    cluster.kill(gone);
    // The same id on an empty disk.
    cluster.enlist(joining_settings(gone, 1), Disk::memory());
    cluster.start(gone).await;
    assert_eq!(reason(cluster.admin(asked).add(add(gone)).await), Reason::Unsafe);
}

#[tokio::test]
async fn the_last_voter_is_not_removed() {
    let cluster = Cluster::of_founders(1, 1).await;
    assert_eq!(reason(cluster.admin(1).remove(v1::RemoveRequest { node_id: 1 }).await), Reason::Unsafe);
    assert_eq!(cluster.write("account-1", 1, b"x").await.highest, 1);
}

#[tokio::test]
async fn a_removal_that_would_stop_the_rest_is_refused() {
    let mut cluster = Cluster::of_founders(3, 1).await;
    let leader = cluster.leader(0).await;
    let followers: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    cluster.kill(followers[0]);
    // Only the leader would be left alive among two voters.
    let outcome = cluster.admin(leader).remove(v1::RemoveRequest { node_id: followers[1] }).await;
    assert_eq!(reason(outcome), Reason::Unsafe);
    assert_eq!(cluster.write("account-1", 1, b"x").await.highest, 1);
}

#[tokio::test]
async fn a_wiped_founder_does_not_form_a_second_cluster_and_its_old_self_is_refused() {
    let mut cluster = Cluster::of_founders(3, 1).await;
    with_events(&cluster).await;
    let expected: Vec<_> = (1..=20u8).map(|number| vec![number]).collect();
    // The lowest founder is the one that forms clusters.
    cluster.kill(1);
    cluster.enlist(founder_settings(1, 3, 1), Disk::memory());
    cluster.start(1).await;
    let failed = tokio::time::timeout(common::WAIT_MAX, cluster.node(1).failed()).await.expect("it says why it cannot go on");
    assert!(failed.to_string().contains("part of cluster"), "{failed}");
    let (events, _) = cluster.replay(1, "account-1", local()).await;
    assert_eq!(events.len(), 0, "nothing reached it");
    for id in [2, 3] {
        assert_eq!(cluster.payloads(id, "account-1").await, expected);
    }
}

#[tokio::test]
async fn a_node_of_a_foreign_cluster_neither_joins_nor_disturbs() {
    let mut cluster = Cluster::of_founders(3, 1).await;
    let mut foreign = founder_settings(4, 3, 1);
    foreign.cluster.id = uuid::Uuid::from_u128(0xBAD);
    foreign.cluster.founders[0] =
        cairn_node::FounderSettings { node_id: 4, peer_address: peer_address(4), client_address: common::client_address(4) };
    // It takes the nodes 2 and 3 for its own.
    foreign.cluster.founders.sort_by_key(|founder| founder.node_id);
    foreign.cluster.founders.rotate_right(1);
    foreign.cluster.founders[0].node_id = 1;
    foreign.node.id = 1;
    cluster.members.remove(&4);
    let mut aside = Cluster { network: cluster.network.clone(), members: Default::default() };
    aside.enlist(foreign, Disk::memory());
    aside.start(1).await;
    let failed = tokio::time::timeout(common::WAIT_MAX, aside.node(1).failed()).await.expect("it says why");
    assert!(failed.to_string().contains("does not fit") || failed.to_string().contains("cluster"), "{failed}");
    assert_eq!(cluster.write("account-1", 1, b"x").await.highest, 1);
    let (events, _) = cluster.replay(2, "account-1", strong()).await;
    assert_eq!(events.len(), 1);
}
