//! Nodes that come and go, by the operator's commands, with real processes.

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use support::{Cluster, Process, cairn, wait_for};

/// A node that waits to be taken in: its peer address and its process.
fn waiting_node(cluster: &Cluster, dir: &Path, node_id: u64) -> (String, Process) {
    let ports: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let [client, peer, http] = [0, 1, 2].map(|index| ports[index].local_addr().expect("it is bound").to_string());
    drop(ports);
    let layout = std::fs::read(cluster.dir.join("cluster.json")).expect("dev wrote it");
    let layout: serde_json::Value = serde_json::from_slice(&layout).expect("it is JSON");
    let file: PathBuf = dir.join(format!("joins-{node_id}.toml"));
    let text = format!(
        "data_dir = {:?}\n[node]\nid = {node_id}\n[listen]\nclient = '{client}'\npeer = '{peer}'\nhttp = '{http}'\n\
         [cluster]\nid = {}\nshards = {}\n",
        dir.join(format!("joins-{node_id}")),
        layout["cluster_id"],
        layout["shards"],
    );
    std::fs::write(&file, text).expect("the directory is ours");
    let log = std::fs::File::create(dir.join(format!("joins-{node_id}.log"))).expect("the directory is ours");
    let child = cairn().args(["node", "--join", "--config"]).arg(&file).stderr(log).spawn().expect("the binary runs");
    (peer, Process(child))
}

fn voters(status: &serde_json::Value) -> Vec<u64> {
    let nodes = status["nodes"].as_array().expect("nodes is a list");
    nodes.iter().filter(|node| node["voter"] == true).filter_map(|node| node["node_id"].as_u64()).collect()
}

#[test]
fn a_node_is_added_serves_everything_and_is_put_in_the_place_of_a_lost_one() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let dir = temporary.path();
    let laid_out = Cluster::dev(&dir.join("cluster"), &["--shards", "2"]);
    let endpoints = laid_out.endpoints.clone();
    assert_eq!(laid_out.stop(), 0);
    let mut cluster = Cluster::nodes_of(&dir.join("cluster"), &endpoints, 3);
    cluster.ready();
    let text: String = include_str!("../data/sample.jsonl").lines().take(300).flat_map(|line| [line, "\n"]).collect();
    cluster.run_with_input(&["journal", "import", "-"], text.as_bytes()).ok();
    let expected = cluster.run(&["journal", "export"]).ok();

    let (peer, _four) = waiting_node(&cluster, dir, 4);
    wait_for("the waiting node is taken in", || {
        (cluster.run(&["--deadline", "20s", "cluster", "add", &peer]).code == 0).then_some(())
    });
    let status = cluster.ready();
    assert_eq!(voters(&status), [1, 2, 3, 4]);
    let client = status["nodes"][3]["client_address"].as_str().expect("an address").to_owned();
    assert!(cluster.run(&["journal", "export", "--from-node", &client]).ok() == expected, "node 4 has everything");

    // Node 3 is lost with its disk: a new one with a new identity comes in its place.
    cluster.kill_node(3);
    std::fs::remove_dir_all(cluster.dir.join("node-3")).expect("the node is dead");
    let (peer, _five) = waiting_node(&cluster, dir, 5);
    wait_for("the lost node is replaced", || {
        (cluster.run(&["--deadline", "20s", "cluster", "replace", "3", &peer]).code == 0).then_some(())
    });
    let status = cluster.ready();
    assert_eq!(voters(&status), [1, 2, 4, 5]);
    let client = status["nodes"][3]["client_address"].as_str().expect("an address").to_owned();
    assert!(cluster.run(&["journal", "export", "--from-node", &client]).ok() == expected, "node 5 has everything");

    cluster.run(&["cluster", "remove", "4"]).ok();
    assert_eq!(voters(&cluster.status().expect("the cluster answers")), [1, 2, 5]);
    cluster.run(&["journal", "append", "after", "all that"]).ok();
    cluster.run(&["journal", "delete-to", "after", "all"]).ok();
    assert!(cluster.run(&["journal", "export"]).ok() == expected, "nothing was lost on the way");
}
