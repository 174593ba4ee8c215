//! The files of a cluster on this machine.
//!
//! `cluster.json` says what the cluster is made of; `node-N.toml` are its nodes' settings, as a person would write them;
//! `node-N/` their data; `node-N.log` what they say.

use std::fmt::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const CLUSTER_FILE: &str = "cluster.json";
/// More nodes than this make no sense on one machine, and their ports would meet.
const NODES_MAX: usize = 9;

/// Which ports the nodes get.
#[derive(Clone, Copy, Debug)]
pub enum Ports {
    /// 7101, 7102, .. for clients, 7201, .. for peers, 7301, .. for operators.
    WellKnown,
    /// Any that are free now.
    Free,
}

/// What a cluster on this machine is made of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// The cluster's id.
    cluster_id: Uuid,
    /// Its number of shards.
    pub shards: u16,
    /// Its nodes, ascending by id.
    pub nodes: Vec<NodeFiles>,
}

/// Where one node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFiles {
    /// Its id.
    pub node_id: u64,
    /// Where clients reach it.
    pub client_address: String,
    /// Where its peers reach it.
    pub peer_address: String,
    /// Where operators reach it.
    pub http_address: String,
    /// Its settings file.
    #[serde(skip)]
    pub settings: PathBuf,
    /// Where its log lines go.
    #[serde(skip)]
    pub log: PathBuf,
}

impl Layout {
    /// The cluster that a directory holds; none if it holds none.
    pub fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(CLUSTER_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let mut layout: Self = serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
        layout.place(dir)?;
        Ok(Some(layout))
    }

    /// Lays out a new cluster in a directory.
    pub fn create(dir: &Path, nodes: usize, shards: Option<u16>, ports: Ports) -> anyhow::Result<Self> {
        ensure!((1..=NODES_MAX).contains(&nodes), "from 1 to {NODES_MAX} nodes, not {nodes}");
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let addresses = match ports {
            Ports::WellKnown => well_known(nodes),
            Ports::Free => free(nodes)?,
        };
        let shards = shards.unwrap_or_else(|| cairn_node::Settings::default().cluster.shards);
        let mut layout = Self { cluster_id: Uuid::new_v4(), shards, nodes: addresses };
        layout.place(dir)?;
        for node in &layout.nodes {
            let text = layout.settings(node, dir)?;
            std::fs::write(&node.settings, text).with_context(|| format!("write {}", node.settings.display()))?;
        }
        // Last, so that a cluster is there with all of its files or not at all.
        let path = dir.join(CLUSTER_FILE);
        std::fs::write(&path, serde_json::to_vec_pretty(&layout)?).with_context(|| format!("write {}", path.display()))?;
        Ok(layout)
    }

    fn place(&mut self, dir: &Path) -> anyhow::Result<()> {
        let dir = std::path::absolute(dir).with_context(|| format!("find {}", dir.display()))?;
        for node in &mut self.nodes {
            node.settings = dir.join(format!("node-{}.toml", node.node_id));
            node.log = dir.join(format!("node-{}.log", node.node_id));
        }
        Ok(())
    }

    fn settings(&self, node: &NodeFiles, dir: &Path) -> anyhow::Result<String> {
        let data_dir = std::path::absolute(dir.join(format!("node-{}", node.node_id)))?;
        let data_dir = toml::Value::String(data_dir.to_str().context("the path is not UTF-8")?.to_owned());
        let mut text = format!(
            "# Node {} of a cluster on this machine. `cairn config check` shows every setting.\n\
             data_dir = {data_dir}\n\n\
             [node]\nid = {}\n\n\
             [listen]\nclient = \"{}\"\npeer = \"{}\"\nhttp = \"{}\"\n\n\
             [cluster]\nid = \"{}\"\nshards = {}\n",
            node.node_id, node.node_id, node.client_address, node.peer_address, node.http_address, self.cluster_id, self.shards,
        );
        for founder in &self.nodes {
            write!(
                text,
                "\n[[cluster.founders]]\nnode_id = {}\npeer_address = \"{}\"\nclient_address = \"{}\"\n",
                founder.node_id, founder.peer_address, founder.client_address,
            )?;
        }
        Ok(text)
    }
}

impl NodeFiles {
    /// An error if something listens already where this node is to.
    pub fn addresses_are_free(&self) -> anyhow::Result<()> {
        for address in [&self.client_address, &self.peer_address, &self.http_address] {
            TcpListener::bind(address).with_context(|| {
                format!("node {} cannot listen at {address}; a new cluster takes other ports with --free-ports", self.node_id)
            })?;
        }
        Ok(())
    }
}

fn node(node_id: usize, ports: [u16; 3]) -> NodeFiles {
    let [client, peer, http] = ports.map(|port| format!("127.0.0.1:{port}"));
    NodeFiles {
        node_id: node_id as u64,
        client_address: client,
        peer_address: peer,
        http_address: http,
        settings: PathBuf::new(),
        log: PathBuf::new(),
    }
}

fn well_known(nodes: usize) -> Vec<NodeFiles> {
    (1..=nodes).map(|id| node(id, [7100, 7200, 7300].map(|base| base + id as u16))).collect()
}

fn free(nodes: usize) -> anyhow::Result<Vec<NodeFiles>> {
    // All are held until all are known, so that none is handed out twice.
    let listeners = (0..nodes * 3)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<Vec<_>, _>>()
        .context("find free ports on 127.0.0.1")?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(ports.chunks_exact(3).enumerate().map(|(index, ports)| node(index + 1, [ports[0], ports[1], ports[2]])).collect())
}
