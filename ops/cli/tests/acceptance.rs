//! The main job, end to end, with processes that are killed: what was imported is exported byte for byte, each event once, from
//! every node.
//!
//! Runs on the built-in sample, and beside it an atomic write as large as the largest of its source; `CAIRN_ACCEPTANCE_FILE` names another
//! file of JSON lines to run it on.

mod support;

use std::io::Write;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::{Cluster, Ended, now, pause, wait_for};

/// How long the import is stretched to at least, so that both kills come while lines are written.
const IMPORT_TIME: Duration = Duration::from_secs(8);
/// Events of the large atomic write: as many as the largest commit of the history that the sample is taken from has in one folder.
const LARGE_WRITE_EVENTS: u64 = 4_151;
/// A leader is killed when this share of the events is stored; lines beyond the other share, of their bytes, wait until it is back.
const KILLS: [(f64, f64); 2] = [(0.1, 0.3), (0.8, 0.97)];
/// Behind which share of the sample's lines the large atomic write comes: between the kills.
const LARGE_WRITE_BEHIND: f64 = 0.6;
/// How often lines are handed to the import.
const FEED_INTERVAL: Duration = Duration::from_millis(5);

#[test]
fn every_imported_event_is_exported_once_though_two_leaders_and_then_all_nodes_are_killed() {
    let text = match std::env::var_os("CAIRN_ACCEPTANCE_FILE") {
        Some(path) => std::fs::read_to_string(&path).expect("the file is there"),
        None => with_a_large_write(include_str!("../data/sample.jsonl")),
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

    let allowed = Arc::new(AtomicUsize::new(0));
    let mut import = spawn_import(&cluster, &text, allowed.clone());
    for (share, held_at) in KILLS {
        allowed.store((held_at * text.len() as f64) as usize, Ordering::SeqCst);
        let stored = wait_for_position(&cluster, &mut import, (share * total as f64) as u64);
        let leader = leader_of_most(&cluster);
        assert!(import.try_wait().expect("it is our child").is_none(), "the import still runs when a leader is killed");
        cluster.kill_node(leader);
        wait_for_position(&cluster, &mut import, stored + total / 10);
        cluster.start_node(leader);
        cluster.ready();
    }
    allowed.store(text.len(), Ordering::SeqCst);
    let imported: Ended = import.wait_with_output().expect("it is our child").into();
    let imported = imported.json();
    assert_eq!(imported["events"].as_u64(), Some(total));
    exported_from_every_node(&cluster, &text);

    (1..=3).for_each(|node| cluster.kill_node(node));
    (1..=3).for_each(|node| cluster.start_node(node));
    cluster.ready();
    exported_from_every_node(&cluster, &text);
}

/// The same lines, and one large atomic write among them.
fn with_a_large_write(sample: &str) -> String {
    let lines: Vec<&str> = sample.lines().collect();
    let begins_a_write = |line: &&str| {
        let read: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        read["write"] == read["sequence_number"]
    };
    let least = (lines.len() as f64 * LARGE_WRITE_BEHIND) as usize;
    let at = least + lines[least..].iter().position(begins_a_write).expect("a write begins there");
    let (before, after) = lines.split_at(at);
    let line = |number: u64| {
        let event = format!(r#"{{"file":"{number}.cs","change":"A","blob":"{number:010x}","commit":"17d0f5e4f0"}}"#);
        format!(
            r#"{{"persistence_id":"large","sequence_number":{number},"write":1,"timestamp_ms":1388326658000,"event":{event}}}"#
        )
    };
    let large: Vec<String> = (1..=LARGE_WRITE_EVENTS).map(line).collect();
    let all = before.iter().copied().chain(large.iter().map(String::as_str)).chain(after.iter().copied());
    all.flat_map(|line| [line, "\n"]).collect()
}

/// An import that gets its lines little by little, as far as is allowed, in bytes.
fn spawn_import(cluster: &Cluster, text: &str, allowed: Arc<AtomicUsize>) -> Child {
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
                let end = (due as usize).min(allowed.load(Ordering::SeqCst)).clamp(sent, text.len());
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
