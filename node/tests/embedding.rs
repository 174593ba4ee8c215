//! A cluster of one inside a program, on files and in memory: the real client cannot tell the difference, and no port is opened.

#![allow(clippy::disallowed_methods, reason = "a test may use what is ambient")]

mod common;

use std::path::{Path, PathBuf};

use cairn_client::Cairn;
use cairn_node::{Network, Node, Parts, Settings, StartError};
use common::{Cluster, Disk, client_of, founder_settings, payloads, strong};

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
async fn a_directory_that_lost_its_log_or_its_identity_is_not_taken_for_a_new_one() {
    type Loss = fn(&Path) -> std::io::Result<()>;
    let losses: [(&str, Loss); 3] = [
        ("the log", |dir| std::fs::remove_dir_all(dir.join("log"))),
        ("all files of the log", |dir| {
            std::fs::remove_dir_all(dir.join("log"))?;
            std::fs::create_dir(dir.join("log"))
        }),
        ("the identity", |dir| std::fs::remove_file(dir.join("identity"))),
    ];
    for (what, lose) in losses {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("data");
        let node = Node::embedded(Some(dir.clone())).await.expect("starts");
        let mut writer = client_of(&node).await.journal("account-1").expect("a name").claim().await.expect("is claimed");
        writer.append("opened").await.expect("is stored");
        node.shutdown().await;
        drop(node);
        lose(&dir).unwrap_or_else(|error| panic!("{what}: {error}"));
        let refused = Node::start(Settings::embedded(Some(dir)), Parts::files().expect("parts")).await;
        assert!(matches!(refused, Err(StartError::Log(_))), "{what}: {:?}", refused.err());
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

/// Events of a journal that are more than the tables' memory and the log keep.
const EVENTS: i64 = 700;

/// A node whose tables and log keep little in memory.
fn enlist_frugal(cluster: &mut Cluster, mut settings: Settings, dir: PathBuf) {
    settings.raft.log_keep_entries = 10;
    settings.storage.memtable_bytes = 64 * 1024;
    cluster.enlist(settings, Disk::Files { dir });
}

/// Founders on files whose logs hold not all that was written any more.
async fn with_purged_logs(founders: u64, dir: impl Fn(u64) -> PathBuf) -> Cluster {
    let mut cluster = Cluster::of_nobody();
    for id in 1..=founders {
        enlist_frugal(&mut cluster, founder_settings(id, founders, 1), dir(id));
        cluster.start(id).await;
    }
    cluster.all_ready().await;
    write_until_purged(&cluster).await;
    cluster
}

async fn write_until_purged(cluster: &Cluster) {
    for number in 1..=EVENTS {
        cluster.write("account-1", number, &number.to_be_bytes().repeat(100)).await;
    }
    for id in cluster.running() {
        common::eventually("its log was purged", async || {
            let status = cluster.status(id).await;
            (status.shard_states[0].purged_index > 0).then_some(())
        })
        .await;
    }
}

/// The node has all events itself.
async fn assert_complete(cluster: &Cluster, id: u64) {
    let (events, end) = cluster.replay(id, "account-1", strong()).await;
    let expected: Vec<_> = (1..=EVENTS).map(|number| number.to_be_bytes().repeat(100)).collect();
    let payloads: Vec<_> = events.iter().map(common::payload).collect();
    assert_eq!((payloads, end.highest), (expected, EVENTS), "node {id}");
}

/// Cuts the file that says which files of a table belong together.
fn cut_pointer(tables: &Path) {
    std::fs::File::create(tables.join("keyspaces/0/current")).expect("is cut");
}

/// Cuts every sorted run of every table in half.
fn cut_runs(tables: &Path) {
    let folders = std::fs::read_dir(tables.join("keyspaces")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let runs = folders.flat_map(|folder| std::fs::read_dir(folder.join("tables")).into_iter().flatten());
    let runs: Vec<_> = runs.map(|entry| entry.expect("an entry").path()).collect();
    assert!(!runs.is_empty(), "there are runs");
    for run in runs {
        let file = std::fs::OpenOptions::new().write(true).open(&run).expect("opens");
        file.set_len(file.metadata().expect("is measured").len() / 2).expect("is cut");
    }
}

#[tokio::test]
async fn a_node_whose_tables_are_lost_or_damaged_gets_them_from_a_peer() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = |id: u64| folder.path().join(format!("node-{id}"));
    let mut cluster = with_purged_logs(3, dir).await;
    let victim = cluster.follower(0).await;
    type Loss = fn(&Path);
    let losses: [(Loss, usize); 3] =
        [(|tables| std::fs::remove_dir_all(tables).expect("are lost"), 0), (cut_pointer, 1), (cut_runs, 2)];
    for (lose, aside) in losses {
        cluster.kill(victim);
        lose(&dir(victim).join("tables"));
        cluster.start(victim).await;
        cluster.all_ready().await;
        assert_complete(&cluster, victim).await;
        let exists = |number: usize| dir(victim).join(format!("tables.damaged-{number}")).exists();
        assert!((1..=aside).all(exists) && !exists(aside + 1), "{aside} are aside");
    }
}

#[tokio::test]
async fn a_cluster_of_one_whose_tables_are_damaged_says_that_they_are_lost_and_keeps_what_there_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("node-1");
    let mut cluster = with_purged_logs(1, |_| dir.clone()).await;
    cluster.kill(1);
    let runs = |tables: &str| std::fs::read_dir(dir.join(tables).join("keyspaces/1/tables")).expect("a folder").count();
    let before = runs("tables");
    cut_pointer(&dir.join("tables"));
    // However often it is tried: nothing is taken for a shard that is merely empty, and nothing more goes aside.
    for _ in 0..2 {
        let refused = cluster.try_start(1).await.expect_err("does not start");
        let StartError::Shard(cairn_raft::StartError::TablesLost { applied: None, purged, .. }) = &refused else {
            panic!("{refused}");
        };
        assert!(*purged > 0 && refused.to_string().contains("lost"), "{refused}");
        assert_eq!(runs("tables.damaged-1"), before);
        assert!(!dir.join("tables.damaged-2").exists());
    }
}

/// It has no founders in its settings: it remembers who its peers were.
#[tokio::test]
async fn a_node_that_joined_and_lost_its_tables_gets_them_from_a_peer_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = |id: u64| folder.path().join(format!("node-{id}"));
    let mut cluster = Cluster::of_nobody();
    for (id, settings) in [(1, founder_settings(1, 1, 1)), (2, common::joining_settings(2, 1))] {
        enlist_frugal(&mut cluster, settings, dir(id));
        cluster.start(id).await;
    }
    let add = cairn_api::v1::AddRequest { peer_address: common::peer_address(2) };
    common::eventually("it is added", async || cluster.admin(1).add(add.clone()).await.ok().map(|_| ())).await;
    write_until_purged(&cluster).await;
    cluster.kill(2);
    std::fs::remove_dir_all(dir(2).join("tables")).expect("are lost");
    cluster.start(2).await;
    cluster.all_ready().await;
    assert_complete(&cluster, 2).await;
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

/// The client library, on the network of a cluster of three.
async fn client_of_three(cluster: &Cluster) -> Cairn {
    let network = cluster.network.clone();
    let connector = move |address: String| {
        let network = network.clone();
        async move { network.connect(&address).await }
    };
    let addresses: Vec<_> = (1..=3).map(common::client_address).collect();
    Cairn::builder().endpoints(addresses).connector(connector).connect().await.expect("connects")
}

#[tokio::test]
async fn the_client_goes_on_when_the_leader_is_killed() {
    let mut cluster = Cluster::of_founders(3, 1).await;
    let cairn = client_of_three(&cluster).await;
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
    let cairn = client_of_three(&cluster).await;
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
