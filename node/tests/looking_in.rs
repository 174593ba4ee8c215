//! What a program that holds nodes sees of them.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cairn_api::v1::journal_client::JournalClient;
use cairn_machine::{Command, Decision, ShardId, Timestamp};
use cairn_node::{
    AppliedEntry, AppliedObserver, Applying, CairnRules, DigestError, DuplexNetwork, Node, Parts, Role, Rules, Settings,
};
use cairn_storage::TablesError;
use common::{Cluster, eventually};

#[tokio::test]
async fn replicas_have_equal_digests_and_the_leader_says_what_they_have() {
    let cluster = Cluster::of_founders(3, 2).await;
    for number in 1..=20 {
        cluster.write("a", number, b"data").await;
    }
    let leader = cluster.leader(0).await;
    let shards = cluster.node(leader).status();
    assert_eq!(shards.iter().map(|status| status.shard).collect::<Vec<_>>(), [ShardId(0), ShardId(1)]);
    for shard in [ShardId(0), ShardId(1)] {
        let digests = eventually("all have applied the same", async || {
            let mut digests = Vec::new();
            for id in 1..=3 {
                digests.push(cluster.node(id).shard_digest(shard).await.expect("reads"));
            }
            digests.iter().all(|digest| digest.applied == digests[0].applied).then_some(digests)
        });
        let digests = digests.await;
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    }
    let status = eventually("everything is acknowledged by everybody", async || {
        let status = cluster.node(leader).status().swap_remove(0);
        let all_have = status.replication.values().all(|follower| follower.matched == status.last);
        (status.role == Role::Leader && status.replication.len() == 2 && all_have).then_some(status)
    });
    let status = status.await;
    assert_eq!((status.vote.term, status.vote.node_id.0, status.vote.is_elected), (status.term, leader, true));
    let unknown = cluster.node(leader).shard_digest(ShardId(2)).await;
    assert_eq!(unknown, Err(DigestError::NoSuchShard(ShardId(2))));
}

/// Counts what it decides and what was applied.
#[derive(Default)]
struct Counting {
    decided: AtomicU64,
    applied: Mutex<Vec<u64>>,
}

impl Rules for Counting {
    fn decide(&self, view: &Applying<'_>, command: &Command, moment: Timestamp) -> Result<Decision, TablesError> {
        self.decided.fetch_add(1, Ordering::Relaxed);
        CairnRules.decide(view, command, moment)
    }
}

impl AppliedObserver for Counting {
    fn applied(&self, applied: &AppliedEntry<'_>) {
        self.applied.lock().unwrap().push(applied.entry.index);
    }
}

fn settings() -> Settings {
    let mut settings = common::founder_settings(1, 1, 1);
    settings.listen.http.clear();
    settings
}

#[tokio::test]
async fn a_node_decides_with_the_rules_that_it_was_given_and_tells_what_it_applied() {
    let (counting, network) = (Arc::new(Counting::default()), DuplexNetwork::new());
    let parts = Parts {
        rules: counting.clone(),
        applied: Some(counting.clone()),
        network: Arc::new(network.clone()),
        ..Parts::memory().expect("parts")
    };
    let node = Node::start(settings(), parts).await.expect("starts");
    node.ready().await;
    let mut journal = JournalClient::new(common::channel(&network, &node.addresses().client));
    journal.write(common::timed(common::write_request("a", 1, b"data"))).await.expect("is stored");
    assert_eq!(counting.decided.load(Ordering::Relaxed), 1);
    let applied = counting.applied.lock().unwrap().clone();
    assert_eq!(Some(applied.len() as u64), node.status()[0].applied.map(|index| index + 1), "{applied:?}");
    assert!(applied.is_sorted());
    node.shutdown().await;
}
