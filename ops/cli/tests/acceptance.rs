//! The main job, end to end, with processes that are killed: what was imported is exported byte for byte, each event once, from
//! every node.
//!
//! Runs on the built-in sample; `CAIRN_ACCEPTANCE_FILE` names another file of JSON lines to run it on.

mod support;

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Duration;

use support::{Cluster, Ended, now, pause, wait_for};

/// How long the import is stretched to, so that both kills come while it runs.
const IMPORT_TIME: Duration = Duration::from_secs(8);
/// How often lines are handed to the import.
const FEED_INTERVAL: Duration = Duration::from_millis(5);

#[test]
fn every_imported_event_is_exported_once_though_two_leaders_and_then_all_nodes_are_killed() {
    let text = match std::env::var_os("CAIRN_ACCEPTANCE_FILE") {
        Some(path) => std::fs::read_to_string(&path).expect("the file is there"),
        None => include_str!("../data/sample.jsonl").to_owned(),
    };
    let total = text.lines().count() as u64;
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let dir = temporary.path().join("cluster");
    // Laid out by `cairn dev`, then run as single nodes, so that each can be killed.
    let laid_out = Cluster::dev(&dir, &[]);
    let endpoints = laid_out.endpoints.clone();
    assert_eq!(laid_out.stop(), 0);
    let mut cluster = Cluster::nodes_of(&dir, &endpoints, 3);
    cluster.ready();

    let mut import = spawn_import(&cluster, &text);
    for share in [0.2, 0.6] {
        let stored = wait_for_position(&cluster, &mut import, (share * total as f64) as u64);
        let leader = leader_of_most(&cluster);
        assert!(import.try_wait().expect("it is our child").is_none(), "the import still runs when a leader is killed");
        cluster.kill_node(leader);
        wait_for_position(&cluster, &mut import, stored + total / 10);
        cluster.start_node(leader);
        cluster.ready();
    }
    let imported: Ended = import.wait_with_output().expect("it is our child").into();
    let imported = imported.json();
    assert_eq!(imported["events"].as_u64(), Some(total));
    exported_from_every_node(&cluster, &text);

    (1..=3).for_each(|node| cluster.kill_node(node));
    (1..=3).for_each(|node| cluster.start_node(node));
    cluster.ready();
    exported_from_every_node(&cluster, &text);
}

/// An import that gets its lines little by little.
fn spawn_import(cluster: &Cluster, text: &str) -> Child {
    let mut import = cluster
        .command(&["-o", "json", "journal", "import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut pipe = import.stdin.take().expect("a pipe");
    let text = text.to_owned();
    std::thread::Builder::new()
        .spawn(move || {
            let (begun, mut sent) = (now(), 0);
            while sent < text.len() {
                let due = (now() - begun).as_secs_f64() / IMPORT_TIME.as_secs_f64() * text.len() as f64;
                let end = (due as usize).clamp(sent, text.len());
                // An import that failed reads no more; its exit code tells.
                if pipe.write_all(&text.as_bytes()[sent..end]).is_err() {
                    return;
                }
                sent = end;
                pause(FEED_INTERVAL);
            }
        })
        .expect("a thread");
    import
}

/// Waits until so many events are stored; returns how many are.
fn wait_for_position(cluster: &Cluster, import: &mut Child, events: u64) -> u64 {
    wait_for(&format!("{events} events are stored"), || {
        if let Some(ended) = import.try_wait().expect("it is our child") {
            let said = import.stderr.take().map(support::read_to_end);
            assert!(ended.success(), "the import failed: {said:?}");
        }
        let status = cluster.status()?;
        let shards = status["shards"].as_array().expect("shards is a list");
        let stored = shards.iter().filter_map(|shard| shard["position"].as_u64()).sum();
        (stored >= events).then_some(stored)
    })
}

fn leader_of_most(cluster: &Cluster) -> usize {
    wait_for("a leader is known", || {
        let status = cluster.status()?;
        let nodes = status["nodes"].as_array().expect("nodes is a list");
        let leads = |node: &serde_json::Value| node["leads"].as_array().map_or(0, Vec::len);
        let most = nodes.iter().max_by_key(|node| leads(node)).filter(|node| leads(node) > 0)?;
        usize::try_from(most["node_id"].as_u64()?).ok()
    })
}

fn exported_from_every_node(cluster: &Cluster, text: &str) {
    let mut lines: Vec<_> = text
        .lines()
        .map(|line| {
            let read: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
            let id = read["persistence_id"].as_str().expect("an id").to_owned();
            (id, read["sequence_number"].as_u64().expect("a number"), line)
        })
        .collect();
    lines.sort();
    let expected: String = lines.into_iter().flat_map(|(_, _, line)| [line, "\n"]).collect();
    for node in cluster.endpoints.split(',') {
        let exported = cluster.run(&["journal", "export", "--from-node", node]).ok();
        assert!(exported == expected, "the export from {node} differs: {} bytes of {}", exported.len(), expected.len());
    }
}
