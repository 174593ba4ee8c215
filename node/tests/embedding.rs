//! A cluster of one inside a program, on files and in memory: the real client cannot tell the difference, and no port is opened.

#![allow(clippy::disallowed_methods, reason = "a test may use what is ambient")]

mod common;

use std::sync::Arc;

use cairn_client::Cairn;
use cairn_node::{Network, Node, Parts, Settings, StartError};
use common::{Cluster, Disk, founder_settings, strong};

/// The client of an embedded node: its connector is the node's network.
async fn client_of(node: &Node) -> Cairn {
    let network = node.network();
    let connector = move |address: String| {
        let network: Arc<dyn Network> = Arc::clone(&network);
        async move { network.connect(&address).await }
    };
    let address = node.addresses().client.clone();
    Cairn::builder().endpoints([address]).connector(connector).connect().await.expect("connects")
}

async fn payloads(cairn: &Cairn, persistence_id: &str) -> Vec<Vec<u8>> {
    let journal = cairn.journal(persistence_id).expect("a name");
    let mut events = journal.replay(..).start();
    let mut payloads = Vec::new();
    while let Some(stored) = events.next().await.expect("is replayed") {
        payloads.push(stored.event.payload.bytes.to_vec());
    }
    payloads
}

#[tokio::test]
async fn a_program_embeds_a_node_in_memory() {
    let node = Node::embedded(None).await.expect("starts");
    let cairn = client_of(&node).await;
    let mut writer = cairn.journal("account-1").expect("a name").claim().await.expect("is claimed");
    writer.append("opened").await.expect("is stored");
    writer.append_all(["deposited 100", "withdrew 30"]).await.expect("is stored");
    assert_eq!(payloads(&cairn, "account-1").await, [&b"opened"[..], b"deposited 100", b"withdrew 30"]);
    node.shutdown().await;
}

#[tokio::test]
async fn two_embedded_nodes_of_one_program_do_not_meet() {
    let (first, second) = (Node::embedded(None).await.expect("starts"), Node::embedded(None).await.expect("starts"));
    let (cairn_first, cairn_second) = (client_of(&first).await, client_of(&second).await);
    let mut writer = cairn_first.journal("account-1").expect("a name").claim().await.expect("is claimed");
    writer.append("opened").await.expect("is stored");
    assert_eq!(payloads(&cairn_second, "account-1").await, Vec::<Vec<u8>>::new());
}

#[tokio::test]
async fn an_embedded_node_on_files_comes_back_with_its_data_and_holds_its_folder_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = Some(folder.path().join("data"));
    for start in 0..3u8 {
        let node = Node::embedded(dir.clone()).await.expect("starts");
        let second = Node::start(Settings::embedded(dir.clone()), Parts::files().expect("parts")).await;
        assert!(matches!(second, Err(StartError::Directory { .. })), "the folder is held");
        let cairn = client_of(&node).await;
        assert_eq!(payloads(&cairn, "account-1").await, (0..start).map(|start| vec![start]).collect::<Vec<_>>());
        let mut writer = cairn.journal("account-1").expect("a name").claim().await.expect("is claimed");
        writer.append(vec![start]).await.expect("is stored");
        drop(cairn);
        node.shutdown().await;
    }
}

#[tokio::test]
async fn three_nodes_on_files_lose_nothing_when_all_are_killed_at_once_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::of_founders_on(3, 2, |id| Disk::Files { dir: folder.path().join(format!("node-{id}")) }).await;
    for round in 0..2 {
        for number in 1 + round * 20..=20 + round * 20 {
            cluster.write("account-1", number, &number.to_be_bytes()).await;
        }
        for id in [1, 2, 3] {
            cluster.kill(id);
        }
        for id in [1, 2, 3] {
            cluster.start(id).await;
        }
        cluster.all_ready().await;
        let expected: Vec<_> = (1..=20 + round * 20).map(|number: i64| number.to_be_bytes().to_vec()).collect();
        for id in [1, 2, 3] {
            assert_eq!(cluster.payloads(id, "account-1").await, expected, "round {round}, node {id}");
        }
    }
}

#[tokio::test]
async fn a_node_that_lost_its_tables_gets_them_from_a_peer() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = |id: u64| folder.path().join(format!("node-{id}"));
    let mut cluster = Cluster::of_nobody();
    for id in 1..=3 {
        let mut settings = founder_settings(id, 3, 1);
        settings.raft.log_keep_entries = 10;
        settings.storage.memtable_bytes = 64 * 1024;
        cluster.enlist(settings, Disk::Files { dir: dir(id) });
        cluster.start(id).await;
    }
    cluster.all_ready().await;
    for number in 1..=700 {
        cluster.write("account-1", number, &number.to_be_bytes().repeat(100)).await;
    }
    let victim = cluster.follower(0).await;
    common::eventually("its log was purged", async || {
        let status = cluster.status(victim).await;
        (status.shard_states[0].purged_index > 0).then_some(())
    })
    .await;
    cluster.kill(victim);
    std::fs::remove_dir_all(dir(victim).join("tables")).expect("are lost");
    cluster.start(victim).await;
    cluster.all_ready().await;
    let (events, end) = cluster.replay(victim, "account-1", strong()).await;
    assert_eq!((events.len(), end.highest), (700, 700));
}

/// It has no founders in its settings: it remembers who its peers were.
#[tokio::test]
async fn a_node_that_joined_and_lost_its_tables_gets_them_from_a_peer_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = |id: u64| folder.path().join(format!("node-{id}"));
    let mut cluster = Cluster::of_nobody();
    for (id, settings) in [(1, founder_settings(1, 1, 1)), (2, common::joining_settings(2, 1))] {
        let mut settings = settings;
        settings.raft.log_keep_entries = 10;
        settings.storage.memtable_bytes = 64 * 1024;
        cluster.enlist(settings, Disk::Files { dir: dir(id) });
        cluster.start(id).await;
    }
    let add = cairn_api::v1::AddRequest { peer_address: common::peer_address(2) };
    common::eventually("it is added", async || cluster.admin(1).add(add.clone()).await.ok().map(|_| ())).await;
    for number in 1..=700 {
        cluster.write("account-1", number, &number.to_be_bytes().repeat(100)).await;
    }
    common::eventually("its log was purged", async || {
        let status = cluster.status(2).await;
        (status.shard_states[0].purged_index > 0).then_some(())
    })
    .await;
    cluster.kill(2);
    std::fs::remove_dir_all(dir(2).join("tables")).expect("are lost");
    cluster.start(2).await;
    cluster.all_ready().await;
    let (events, end) = cluster.replay(2, "account-1", strong()).await;
    assert_eq!((events.len(), end.highest), (700, 700));
}

#[tokio::test]
async fn a_damaged_log_is_named_and_the_node_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::of_nobody();
    cluster.enlist(founder_settings(1, 1, 1), Disk::Files { dir: folder.path().join("node-1") });
    cluster.start(1).await;
    cluster.all_ready().await;
    for number in 1..=20 {
        cluster.write("account-1", number, b"some payload that is easy to find").await;
    }
    cluster.stop(1).await;
    let log = folder.path().join("node-1/log");
    let segment = std::fs::read_dir(&log).expect("a folder").filter_map(Result::ok).map(|entry| entry.path());
    let segment = segment.filter(|path| path.extension().is_some_and(|end| end == "segment")).min().expect("a segment");
    let mut bytes = std::fs::read(&segment).expect("is read");
    let at = bytes.windows(12).position(|window| window == b"some payload").expect("the first event");
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).expect("is written");
    let error = cluster.try_start(1).await.expect_err("does not start");
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[tokio::test]
async fn the_client_goes_on_when_the_leader_is_killed() {
    let mut cluster = Cluster::of_founders(3, 1).await;
    let network = cluster.network.clone();
    let connector = move |address: String| {
        let network = network.clone();
        async move { network.connect(&address).await }
    };
    let addresses: Vec<_> = (1..=3).map(common::client_address).collect();
    let cairn = Cairn::builder().endpoints(addresses).connector(connector).connect().await.expect("connects");
    let mut writer = cairn.journal("account-1").expect("a name").claim().await.expect("is claimed");
    let leader = cluster.leader(0).await;
    for number in 0..100u8 {
        if number == 50 {
            cluster.kill(leader);
        }
        writer.append(vec![number]).await.expect("is stored");
    }
    assert_eq!(payloads(&cairn, "account-1").await, (0..100u8).map(|number| vec![number]).collect::<Vec<_>>());
}

/// A rolling restart: each leader hands over first, and whoever writes meanwhile sees no error and no long wait.
#[tokio::test]
async fn a_client_sees_no_error_while_every_node_is_stopped_and_started_in_turn() {
    let mut cluster = Cluster::of_founders(3, 2).await;
    let network = cluster.network.clone();
    let connector = move |address: String| {
        let network = network.clone();
        async move { network.connect(&address).await }
    };
    let addresses: Vec<_> = (1..=3).map(common::client_address).collect();
    let cairn = Cairn::builder().endpoints(addresses).connector(connector).connect().await.expect("connects");
    let restarted = std::cell::Cell::new(false);
    let writes = async {
        let mut writers = Vec::new();
        for journal in 0..8 {
            writers.push(cairn.journal(format!("account-{journal}")).expect("a name").claim().await.expect("is claimed"));
        }
        let (mut number, mut longest) = (0u64, std::time::Duration::ZERO);
        while !restarted.get() {
            for writer in &mut writers {
                let begun = tokio::time::Instant::now();
                writer.append(number.to_be_bytes().to_vec()).await.expect("is stored");
                longest = longest.max(begun.elapsed());
            }
            number += 1;
        }
        (number, longest)
    };
    let restarts = async {
        for id in 1..=3 {
            cluster.stop(id).await;
            cluster.start(id).await;
            cluster.all_ready().await;
        }
        restarted.set(true);
    };
    let ((number, longest), ()) = tokio::join!(writes, restarts);
    // A debug build beside other tests: a leader that is killed without a word takes longer than this alone.
    assert!(longest < std::time::Duration::from_secs(2), "an append took {longest:?}");
    for journal in 0..8 {
        let expected: Vec<_> = (0..number).map(|number| number.to_be_bytes().to_vec()).collect();
        assert_eq!(payloads(&cairn, &format!("account-{journal}")).await, expected);
    }
}
