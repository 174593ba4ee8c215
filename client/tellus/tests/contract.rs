//! The contract of tellus for its stores, unchanged: in memory, in an embedded node, and on three nodes whose leader is killed.

#[path = "../../../node/tests/common/mod.rs"]
mod common;

use std::num::NonZeroUsize;

use cairn_client::memory::{Fault, MemoryCairn};
use cairn_client::{Cairn, Criteria};
use cairn_machine::Command;
use cairn_node::{Network, Node};
use cairn_tellus::{CairnStore, StoreError};
use common::{Cluster, client_address, client_of};
use tellus::persistence_tests::{event_store_contract, snapshot_store_contract, snapshot_with_event_tail};
use tellus::{AppendError, EncodedEvent, EncodedSnapshot, EventStore, PersistenceId, SchemaVersion, SeqNo, SnapshotStore};

async fn whole_contract(store: CairnStore) {
    event_store_contract(store.clone()).await;
    snapshot_store_contract(store.clone()).await;
    snapshot_with_event_tail(store.clone(), store).await;
}

#[tokio::test]
async fn the_store_in_memory_keeps_the_contract() {
    whole_contract(CairnStore::new(MemoryCairn::with_nodes(3).client())).await;
}

#[tokio::test]
async fn an_embedded_node_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::embedded(Some(folder.path().join("data"))).await.expect("starts");
    whole_contract(CairnStore::new(client_of(&node).await)).await;
    node.shutdown().await;
}

fn client_of_cluster(cluster: &Cluster) -> Cairn {
    let network = cluster.network.clone();
    let connector = move |address: String| {
        let network = network.clone();
        async move { network.connect(&address).await }
    };
    Cairn::builder().endpoints((1..=3).map(client_address)).connector(connector).build().expect("builds")
}

#[tokio::test]
async fn three_nodes_keep_the_contract_though_their_leader_is_killed_on_the_way() {
    let mut cluster = Cluster::of_founders(3, 2).await;
    let store = CairnStore::new(client_of_cluster(&cluster));
    whole_contract(store.clone()).await;
    for shard in [0, 1, 0] {
        let leader = cluster.leader(shard).await;
        cluster.kill(leader);
        whole_contract(store.clone()).await;
        cluster.start(leader).await;
        cluster.all_ready().await;
    }
}

fn id() -> PersistenceId {
    PersistenceId::new("device", "left").expect("the segments are valid")
}

fn event(text: &str) -> EncodedEvent {
    let schema_version = SchemaVersion::new(3);
    EncodedEvent { manifest: "a#b".into(), schema_version, payload: text.as_bytes().to_vec() }
}

#[tokio::test]
async fn the_same_events_of_two_incarnations_are_not_taken_for_one_append() {
    let store = CairnStore::with_seed(MemoryCairn::new().client(), 1);
    store.append(&id(), SeqNo::ZERO, vec![event("on")]).await.expect("is stored");
    let again = store.append(&id(), SeqNo::ZERO, vec![event("on")]).await;
    assert!(matches!(again, Err(AppendError::Conflict)), "{again:?}");
}

#[tokio::test]
async fn an_append_whose_answers_are_lost_is_stored_once_and_succeeds() {
    let cluster = MemoryCairn::new();
    let mut lost = 0;
    cluster.inject(move |command| {
        lost += 1;
        if matches!(command, Command::Write(_)) && lost <= 3 { Fault::LoseAnswer } else { Fault::None }
    });
    let store = CairnStore::with_seed(cluster.client(), 1);
    store.append(&id(), SeqNo::ZERO, vec![event("on"), event("off")]).await.expect("is stored");
    let read = store.read(&id(), SeqNo::ZERO, NonZeroUsize::new(9).expect("is not zero")).await.expect("is read");
    let read: Vec<_> = read.into_iter().map(|stored| (stored.seq_no, stored.event)).collect();
    assert_eq!(read, [(SeqNo::ZERO, event("on")), (SeqNo::new(1), event("off"))]);
}

#[tokio::test]
async fn only_the_newest_snapshot_is_kept() {
    let cairn = MemoryCairn::new().client();
    let store = CairnStore::with_seed(cairn.clone(), 1);
    for covered in [0, 3, 6] {
        let snapshot =
            EncodedSnapshot { manifest: "state".into(), schema_version: SchemaVersion::new(1), payload: vec![covered] };
        store.save(&id(), SeqNo::new(covered.into()), snapshot).await.expect("is saved");
        let left = cairn.journal("device/left").expect("a name").snapshots(Criteria::LATEST).await.expect("is listed");
        assert_eq!(left.iter().map(|info| info.sequence_number.0).collect::<Vec<_>>(), [u64::from(covered)]);
    }
}

#[tokio::test]
async fn events_that_others_wrote_are_an_error_and_not_read_as_something_else() {
    let cairn = MemoryCairn::new().client();
    cairn.journal("device/left").expect("a name").claim().await.expect("is claimed").append("foreign").await.expect("is stored");
    let store = CairnStore::with_seed(cairn, 1);
    let read = store.read(&id(), SeqNo::ZERO, NonZeroUsize::MIN).await;
    assert!(matches!(read, Err(StoreError::Foreign { .. })), "{read:?}");
}
