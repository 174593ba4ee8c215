//! The operator's commands against a real cluster of three processes.

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use support::Cluster;

fn first_lines(text: &str, count: usize) -> String {
    text.lines().take(count).flat_map(|line| [line, "\n"]).collect()
}

/// The lines in the order of an export.
fn sorted(text: &str) -> String {
    let key = |line: &&str| {
        let read: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        (read["persistence_id"].as_str().expect("an id").to_owned(), read["sequence_number"].as_u64().expect("a number"))
    };
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_by_key(key);
    lines.into_iter().flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn events_are_appended_read_deleted_and_never_numbered_again() {
    let cluster = Cluster::start();
    let appended = cluster.run(&["-o", "json", "journal", "append", "order-1", "one", "two", "--tag", "blue"]).json();
    assert_eq!((appended["first"].as_u64(), appended["last"].as_u64()), (Some(1), Some(2)));
    let appended = cluster.run_with_input(&["-o", "json", "journal", "append", "order-1", "--atomic"], b"three\nfour\n").json();
    assert_eq!((appended["first"].as_u64(), appended["last"].as_u64()), (Some(3), Some(4)));

    let events = cluster.run(&["-o", "json", "journal", "read", "order-1"]).ok();
    let events: Vec<serde_json::Value> = events.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let texts: Vec<_> = events.iter().map(|event| event["payload"]["text"].as_str().expect("text")).collect();
    assert_eq!(texts, ["one", "two", "three", "four"]);
    assert_eq!(events[0]["tags"], serde_json::json!(["blue"]));
    assert_eq!((events[2]["write"].as_u64(), events[3]["write"].as_u64()), (Some(3), Some(3)));
    assert_eq!(cluster.run(&["journal", "read", "order-1", "--from", "2", "--to", "3"]).ok().lines().count(), 2);
    assert_eq!(cluster.run(&["journal", "read", "order-1", "--max", "1"]).ok().lines().count(), 1);

    let epoch = || cluster.run(&["-o", "json", "journal", "highest", "order-1"]).json()["epoch"].clone();
    let epoch_before = epoch();
    let refused = cluster.run(&["journal", "append", "order-1", "x", "--after", "7"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert_eq!(epoch(), epoch_before, "what is refused fences nobody");

    let deleted = cluster.run(&["-o", "json", "journal", "delete-to", "order-1", "2"]).json();
    assert_eq!((deleted["deleted_to"].as_u64(), deleted["highest"].as_u64()), (Some(2), Some(4)));
    assert_eq!(cluster.run(&["journal", "read", "order-1"]).ok().lines().count(), 2);
    let with_deleted = cluster.run(&["journal", "read", "order-1", "--deleted"]).ok();
    assert_eq!(with_deleted.lines().filter(|line| line.contains("DELETED")).count(), 2, "{with_deleted}");

    cluster.run(&["journal", "delete-to", "order-1", "all", "--permanent"]).ok();
    assert_eq!(cluster.run(&["journal", "read", "order-1", "--deleted"]).ok(), "");
    let highest = cluster.run(&["-o", "json", "journal", "highest", "order-1"]).json();
    assert_eq!((highest["highest"].as_u64(), highest["removed_to"].as_u64()), (Some(4), Some(4)));
    let appended = cluster.run(&["-o", "json", "journal", "append", "order-1", "five"]).json();
    assert_eq!(appended["first"].as_u64(), Some(5));

    let listed = cluster.run(&["-o", "json", "journal", "ls", "order-"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!(listed[0]["highest"].as_u64(), Some(5));
    assert_eq!(cluster.run(&["-o", "json", "journal", "ls", "nobody"]).json(), serde_json::json!([]));
}

#[test]
fn an_append_that_was_stored_in_part_says_how_far() {
    let cluster = Cluster::start();
    let too_large = "x".repeat(5 * 1024 * 1024);
    let ended = cluster.run_with_input(&["journal", "append", "part"], format!("one\ntwo\n{too_large}\nfour\n").as_bytes());
    assert_eq!(ended.code, 1, "not `nothing was done`, and not `try again`");
    assert!(ended.err.contains("2 of 4 events are stored, up to number 2"), "{}", first_lines(&ended.err, 1));
    assert_eq!(cluster.run(&["journal", "read", "part"]).ok().lines().count(), 2);
    let ended = cluster.run_with_input(&["journal", "append", "none"], format!("{too_large}\ntwo\n").as_bytes());
    assert_eq!(ended.code, 3, "nothing is stored");
    assert_eq!(cluster.run(&["journal", "read", "none"]).ok(), "");
}

#[test]
fn an_import_is_exported_byte_for_byte_from_every_node_and_again_after_a_restart() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let dir = temporary.path().join("cluster");
    let text = first_lines(include_str!("../data/sample.jsonl"), 800);
    let file = temporary.path().join("events.jsonl");
    std::fs::write(&file, &text).expect("the directory is ours");
    let file = file.to_str().expect("a temporary path is text");

    let cluster = Cluster::dev(&dir, &["--shards", "2"]);
    let imported = cluster.run(&["-o", "json", "journal", "import", file]).json();
    assert_eq!(imported["events"].as_u64(), Some(800));
    // The same again is the same writes: nothing is stored twice.
    cluster.run_with_input(&["journal", "import", "-"], text.as_bytes()).ok();
    exported_everywhere(&cluster, &text);
    let to = temporary.path().join("exported.jsonl");
    let exported = cluster.run(&["-o", "json", "journal", "export", to.to_str().expect("a temporary path is text")]).json();
    assert_eq!(exported["events"].as_u64(), Some(800));
    assert!(std::fs::read_to_string(&to).expect("it is there") == sorted(&text));
    let by_position = cluster.run(&["journal", "export", "--order", "position"]).ok();
    assert_eq!(sorted(&by_position), sorted(&text));

    assert_eq!(cluster.stop(), 0);
    let cluster = Cluster::dev(&dir, &[]);
    exported_everywhere(&cluster, &text);

    let missing = cluster.run(&["journal", "import", "/nowhere/events.jsonl"]);
    assert_eq!(missing.code, 3, "{missing:?}");
    let wrong = cluster.run_with_input(&["journal", "import", "-"], b"{\"persistence_id\":\"a\"}\n");
    assert_eq!(wrong.code, 3, "{wrong:?}");
    assert!(wrong.err.contains("line 1"), "{}", wrong.err);
    let first = text.lines().next().expect("there are lines").replace("README", "readme");
    let refused = cluster.run_with_input(&["journal", "import", "-"], first.as_bytes());
    assert_eq!(refused.code, 4, "another event at a number that is taken: {refused:?}");
    exported_everywhere(&cluster, &text);
}

fn exported_everywhere(cluster: &Cluster, text: &str) {
    assert_eq!(cluster.run(&["journal", "export"]).ok(), sorted(text));
    for node in cluster.endpoints.split(',') {
        let exported = cluster.run(&["journal", "export", "--from-node", node]).ok();
        assert!(exported == sorted(text), "the export from {node} differs");
    }
}

#[test]
fn a_tail_shows_what_is_there_and_what_comes() {
    let cluster = Cluster::start();
    cluster.run(&["journal", "append", "t", "one"]).ok();
    let mut tail = cluster.command(&["journal", "tail", "t"]).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut lines = BufReader::new(tail.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line comes").expect("output is text");
    assert!(next().ends_with("one"));
    cluster.run(&["journal", "append", "t", "two"]).ok();
    assert!(next().ends_with("two"));
    std::process::Command::new("kill").args(["-INT", &tail.id().to_string()]).status().expect("kill runs");
    assert_eq!(tail.wait().expect("it is our child").code(), Some(130));
}

#[test]
fn snapshots_are_saved_loaded_listed_and_deleted() {
    let cluster = Cluster::start();
    let large: Vec<u8> = (0..64 * 1024 * 1024 + 17).map(|index: u32| (index % 251) as u8).collect();
    cluster.run_with_input(&["snapshot", "save", "s", "7", "-"], b"small").ok();
    cluster.run_with_input(&["snapshot", "save", "s", "9", "-", "--timestamp", "123"], &large).ok();
    let listed = cluster.run(&["-o", "json", "snapshot", "ls", "s"]).json();
    let numbers: Vec<_> = listed.as_array().expect("a list").iter().map(|each| each["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, [Some(7), Some(9)]);
    assert_eq!(listed[1]["timestamp"].as_i64(), Some(123));

    let loaded = cluster.command(&["snapshot", "load", "s"]).output().expect("the binary runs");
    assert!(loaded.stdout == large, "the latest comes back byte for byte");
    assert_eq!(cluster.run(&["snapshot", "load", "s", "--to", "8"]).ok(), "small");
    assert_eq!(cluster.run(&["snapshot", "load", "s", "--to", "6"]).code, 7);

    let both = cluster.run(&["snapshot", "delete", "s", "--number", "9", "--from", "20"]);
    assert_eq!(both.code, 2, "bounds that would mean nothing: {both:?}");
    let above = cluster.run_with_input(&["snapshot", "save", "s", "9223372036854775808", "-"], b"x");
    assert_eq!(above.code, 3, "saved at no other number than was said: {above:?}");
    cluster.run(&["snapshot", "delete", "s", "--number", "9"]).ok();
    assert_eq!(cluster.run(&["snapshot", "load", "s"]).ok(), "small");
    cluster.run(&["snapshot", "delete", "s", "--all"]).ok();
    assert_eq!(cluster.run(&["snapshot", "load", "s"]).code, 7);
}

#[test]
fn the_status_shows_every_node_and_leadership_is_handed_over() {
    let cluster = Cluster::start();
    let status = cluster.ready();
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(3));
    assert_eq!(status["diverged"], serde_json::json!([]));
    let leader = status["shards"][0]["leader"].as_u64().expect("shard 0 has a leader");
    let target = if leader == 1 { 2 } else { 1 };
    cluster.run(&["cluster", "transfer-leader", "--shard", "0", "--to", &target.to_string()]).ok();
    support::wait_for("shard 0 is led by the target", || {
        (cluster.status()?["shards"][0]["leader"].as_u64() == Some(target)).then_some(())
    });
    let text = cluster.run(&["cluster", "status"]).ok();
    assert!(text.contains("ready") && text.contains("leader"), "{text}");
    let refused = cluster.run(&["cluster", "transfer-leader", "--shard", "0", "--to", "99"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    let wrong = cluster.run(&["cluster", "add", "nonsense"]);
    assert_eq!(wrong.code, 3, "{wrong:?}");
    let clients = cluster.endpoints.split(',').next().expect("there are endpoints");
    let wrong = cluster.run(&["cluster", "add", clients]);
    assert_eq!(wrong.code, 3, "{wrong:?}");
    assert!(wrong.err.contains("does not speak to peers"), "{}", wrong.err);
}

#[test]
fn nodes_end_with_the_process_that_started_them() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let cluster = Cluster::dev(&temporary.path().join("cluster"), &["--nodes", "1"]);
    let address = cluster.endpoints.clone();
    assert!(std::net::TcpStream::connect(&address).is_ok(), "the node listens");
    // Dropped: killed with SIGKILL, which leaves no time for anything.
    drop(cluster);
    support::wait_for("the node is gone too", || std::net::TcpStream::connect(&address).is_err().then_some(()));
}

#[test]
fn a_load_is_measured_in_events_latency_and_what_the_nodes_use() {
    let cluster = Cluster::start();
    let bench = ["-o", "json", "bench", "--seconds", "0.5", "--warm-up-seconds", "0.2"];
    let report = cluster.run(&[&bench[..], &["--writers", "4", "--batch", "3", "--payload-bytes", "64"]].concat()).json();
    let point = &report["points"][0];
    assert_eq!(point["point"], serde_json::json!({"kind": "append", "writers": 4, "payload_bytes": 64, "batch": 3}));
    let (operations, events) = (point["operations"].as_u64(), point["events"].as_u64());
    assert!(operations > Some(0) && events == operations.map(|operations| operations * 3), "{point}");
    assert!(point["latency"]["p50_micros"].as_u64() > Some(0), "{point}");
    assert!(point["nodes_cpu_seconds"].as_f64() > Some(0.0), "{point}");
    assert!(point["nodes_memory_bytes"].as_u64() > Some(0), "{point}");
    let report = cluster.run(&[&bench[..], &["--only", "highest"]].concat()).json();
    assert!(report["points"][0]["operations"].as_u64() > Some(0), "{report}");
    let report = cluster.run(&[&bench[..], &["--only", "actors"]].concat()).json();
    let persist = &report["points"][0];
    assert_eq!(persist["point"], serde_json::json!({"kind": "persist", "actors": 1, "payload_bytes": 256}));
    assert!(persist["operations"].as_u64() > Some(0), "{report}");
    assert_eq!(report["points"].as_array().map(Vec::len), Some(4), "{report}");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let cluster = Cluster::start();
    let large = "x".repeat(100_000);
    let lines = vec![large.as_str(); 20].join("\n");
    cluster.run_with_input(&["journal", "append", "large"], lines.as_bytes()).ok();
    let mut read = cluster
        .command(&["journal", "read", "large"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // More than a pipe holds is still to come when it is closed.
    drop(read.stdout.take());
    let said = support::read_to_end(read.stderr.take().expect("a pipe"));
    assert_eq!((read.wait().expect("it is our child").code(), said.as_str()), (Some(0), ""));
}
