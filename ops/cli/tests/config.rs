//! `cairn config check` and the exit codes, as a user sees them. No cluster is needed.

mod support;

use std::path::Path;

use support::{cairn, run};

fn write(dir: &Path, text: &str) -> String {
    let path = dir.join("node.toml");
    std::fs::write(&path, text).expect("the directory is ours");
    path.to_str().expect("a temporary path is text").to_owned()
}

const GOOD: &str = "
[cluster]
id = '0193ab5c-7b8e-7c3d-9d5f-6a1b2c3d4e5f'
[[cluster.founders]]
node_id = 1
peer_address = '127.0.0.1:7201'
client_address = '127.0.0.1:7101'
";

#[test]
fn an_unknown_key_is_named_with_its_line_and_ends_with_code_3() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = write(dir.path(), &format!("{GOOD}[listen]\nclinet = '127.0.0.1:1'\n"));
    let ended = run(&["config", "check", "--config", &file]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let line = GOOD.lines().count() + 2;
    assert!(ended.err.contains(&format!("node.toml:{line}: listen.clinet: unknown key")), "{}", ended.err);
    assert!(ended.err.contains("client"), "the known keys are named: {}", ended.err);
}

#[test]
fn a_node_does_not_start_with_a_wrong_value_and_names_its_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = write(dir.path(), &format!("{GOOD}[listen]\npeer = '0.0.0.0:7201'\n"));
    let ended = run(&["node", "--config", &file]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let line = GOOD.lines().count() + 2;
    assert!(ended.err.contains(&format!("node.toml:{line}: listen.peer: ")), "{}", ended.err);
    assert!(ended.err.contains("insecure"), "{}", ended.err);
}

#[test]
fn every_wrong_value_is_named_at_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = write(dir.path(), "[node]\nid = 0\n[raft]\nelection_timeout_ms_min = 1\n[telemetry]\nfilter = 'a=b=c'\n");
    let ended = run(&["config", "check", "--config", &file]);
    assert_eq!(ended.code, 3, "{ended:?}");
    for expected in [
        "node.toml:2: node.id: ",
        "node.toml:4: raft.election_timeout_ms_min: ",
        "cluster.id: ",
        "node.toml:6: telemetry.filter: ",
    ] {
        assert!(ended.err.contains(expected), "{expected}: {}", ended.err);
    }
}

#[test]
fn a_wrong_variable_is_named() {
    let ended: support::Ended =
        cairn().args(["config", "check"]).env("CAIRN_LIMITS__REPLAYS_MAX", "many").output().expect("the binary runs").into();
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.err.contains("CAIRN_LIMITS__REPLAYS_MAX: limits.replays_max: "), "{}", ended.err);
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = write(dir.path(), &format!("{GOOD}[limits]\nreplays_max = 1\nfollows_max = 1\nconnections_max = 1\n"));
    let ended: support::Ended = cairn()
        .args(["-o", "json", "config", "check", "--config", &file, "--set", "limits.replays_max=3", "--insecure"])
        .env("CAIRN_LIMITS__REPLAYS_MAX", "2")
        .env("CAIRN_LIMITS__FOLLOWS_MAX", "2")
        .output()
        .expect("the binary runs")
        .into();
    let values = ended.json();
    let check = |key: &str, value: serde_json::Value, source: &str| {
        let found = values.as_array().expect("a list").iter().find(|each| each["key"] == key).expect("every key is there");
        assert_eq!(found["value"], value, "{key}");
        let text = found["source"].as_str().expect("a source is text");
        assert!(text.ends_with(source), "{key}: {text}");
    };
    check("limits.replays_max", 3.into(), "--set limits.replays_max");
    check("limits.follows_max", 2.into(), "CAIRN_LIMITS__FOLLOWS_MAX");
    check("limits.connections_max", 1.into(), &format!("node.toml:{}", GOOD.lines().count() + 4));
    check("insecure", true.into(), "--insecure");
    check("node.id", 1.into(), "default");
    check("cluster.founders.0.node_id", 1.into(), "node.toml:5");
}

#[test]
fn the_default_file_is_printed_and_is_accepted_but_for_what_must_be_chosen() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = write(dir.path(), &run(&["config", "default"]).ok());
    let ended = run(&["config", "check", "--config", &file]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert_eq!(ended.err.lines().count(), 2, "only the cluster's id and founders are missing: {}", ended.err);
    assert!(ended.err.contains("cluster.id") && ended.err.contains("cluster.founders"), "{}", ended.err);
}

#[test]
fn a_command_line_that_cannot_be_understood_ends_with_code_2() {
    assert_eq!(run(&["journal", "frobnicate"]).code, 2);
    assert_eq!(run(&["journal", "read"]).code, 2);
    assert_eq!(run(&["--deadline", "soon", "journal", "ls"]).code, 2);
    assert_eq!(run(&["bench", "--writers", "0"]).code, 2);
    assert_eq!(run(&["bench", "--writers", "1", "--batch", "0"]).code, 2);
}

#[test]
fn an_export_that_fails_leaves_the_file_as_it_was() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = write(dir.path(), "an earlier export");
    let ended = run(&["journal", "export", &file, "--from-node", "127.0.0.1:1", "--deadline", "300ms"]);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "an earlier export");
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 1, "nothing else is left behind");
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_anything_is_measured() {
    let ended = run(&["--endpoints", "127.0.0.1:1", "bench", "--json", "/nowhere/report.json"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.err.contains("/nowhere/report.json"), "{}", ended.err);
}

#[test]
fn help_holds_the_table_of_exit_codes() {
    let help = run(&["--help"]).ok();
    for code in ["0  done", "1  failed", "2  ", "3  ", "4  ", "5  ", "6  ", "7  ", "8  ", "130  "] {
        assert!(help.contains(code), "{code}: {help}");
    }
}

#[test]
fn a_cluster_that_is_not_there_ends_with_code_5_and_nothing_on_standard_output() {
    for command in [&["cluster", "status"][..], &["journal", "highest", "a"], &["journal", "append", "a", "b"]] {
        let mut arguments = vec!["--endpoints", "127.0.0.1:1", "--deadline", "300ms"];
        arguments.extend(command);
        let ended = run(&arguments);
        assert_eq!(ended.code, 5, "{command:?}: {ended:?}");
        assert_eq!(ended.out, "", "{command:?}");
    }
}
