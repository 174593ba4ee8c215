//! Cairn: three processes of its binary, with the settings that a user gets who sets nothing.
//!
//! The client is one for the whole process; every journal is claimed, so that a stale writer is fenced; the client tries again by
//! itself until an outcome is known.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use cairn_client::v1::StatusResponse;
use cairn_client::{JournalWriter, NewEvent};
use tokio::time::Instant;
use uuid::Uuid;

use crate::contender::{Contender, Skipped, System, Writer};
use crate::plan::Point;
use crate::process::{LOOK_INTERVAL, READY_DEADLINE, Server, free_ports, stop_all, until_ready, version_of};

/// Variables that would change every node.
const VARIABLE_PREFIX: &str = "CAIRN_";

/// Cairn's binary.
#[derive(Debug)]
pub struct Cairn {
    binary: Option<PathBuf>,
}

impl Cairn {
    /// This binary, or the one beside the running program.
    pub fn new(binary: Option<PathBuf>) -> Self {
        Self { binary: binary.or_else(beside_this_program) }
    }
}

/// A test's program is one folder deeper than the binaries.
fn beside_this_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    program.ancestors().skip(1).take(2).map(|dir| dir.join("cairn")).find(|binary| binary.is_file())
}

#[async_trait(?Send)]
impl Contender for Cairn {
    fn name(&self) -> &'static str {
        super::OURS
    }

    fn title(&self) -> &'static str {
        "Cairn"
    }

    fn version(&self) -> Result<String, Skipped> {
        let binary = self.binary.as_ref().ok_or_else(|| Skipped("its binary is not built: cargo build -p cairn".to_owned()))?;
        version_of(binary, "--version").ok_or_else(|| Skipped(format!("{} does not run", binary.display())))
    }

    fn lacks(&self, _: Point) -> Option<&'static str> {
        None
    }

    async fn start(&self, dir: &Path) -> Result<Arc<dyn System>> {
        let binary = self.binary.as_ref().context("no binary")?;
        let ports = free_ports::<9>()?;
        let nodes: Vec<_> =
            ports.chunks_exact(3).enumerate().map(|(index, ports)| Addresses::new(index as u64 + 1, ports)).collect();
        let cluster_id = Uuid::new_v4();
        let mut cluster = Cluster { servers: Vec::new(), data_dirs: Vec::new(), addresses: Vec::new(), client: None };
        for node in &nodes {
            let data_dir = dir.join(format!("node-{}", node.id));
            let settings = dir.join(format!("node-{}.toml", node.id));
            fs::write(&settings, node.settings(cluster_id, &nodes, &data_dir)?).context("write a node's settings")?;
            let mut command = Command::new(binary);
            for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(VARIABLE_PREFIX)) {
                command.env_remove(name);
            }
            command.args(["node", "--config"]).arg(&settings);
            let log = dir.join(format!("node-{}.log", node.id));
            cluster.servers.push(Server::start(format!("Cairn node {}", node.id), command, log)?);
            cluster.data_dirs.push(data_dir);
            cluster.addresses.push(node.client.clone());
        }
        let servers: Vec<_> = cluster.servers.iter().collect();
        let addresses = &cluster.addresses;
        let client = until_ready("Cairn serves", &servers, async || {
            let client = cairn_client::Cairn::connect(addresses.clone()).await?.with_deadline(Duration::from_secs(60));
            for address in addresses {
                let status = ready_status(&client, address).await?;
                ensure!(status.shard_states.iter().all(|shard| shard.leader != 0), "a shard has no leader");
            }
            Ok(client)
        });
        cluster.client = Some(client.await?);
        Ok(Arc::new(cluster))
    }
}

struct Addresses {
    id: u64,
    client: String,
    peer: String,
}

impl Addresses {
    fn new(id: u64, ports: &[u16]) -> Self {
        Self { id, client: format!("127.0.0.1:{}", ports[0]), peer: format!("127.0.0.1:{}", ports[1]) }
    }

    /// A settings file as a person writes it.
    fn settings(&self, cluster_id: Uuid, nodes: &[Self], data_dir: &Path) -> Result<String> {
        let data_dir = data_dir.to_str().context("the folder's path is not UTF-8")?;
        let Self { id, client, peer } = self;
        let mut text = format!(
            "data_dir = {data_dir:?}\n[node]\nid = {id}\n[listen]\nclient = \"{client}\"\npeer = \"{peer}\"\nhttp = \"\"\n[cluster]\n\
             id = \"{cluster_id}\"\n"
        );
        for Self { id, client, peer } in nodes {
            let founder = format!("node_id = {id}\npeer_address = \"{peer}\"\nclient_address = \"{client}\"\n");
            write!(text, "[[cluster.founders]]\n{founder}")?;
        }
        Ok(text)
    }
}

struct Cluster {
    servers: Vec<Server>,
    data_dirs: Vec<PathBuf>,
    addresses: Vec<String>,
    client: Option<cairn_client::Cairn>,
}

impl Cluster {
    fn client(&self) -> Result<&cairn_client::Cairn> {
        self.client.as_ref().context("the cluster is not ready yet")
    }

    async fn status(&self, address: &str) -> Result<StatusResponse> {
        Ok(self.client()?.cluster().at(address).status().await?)
    }
}

#[async_trait]
impl System for Cluster {
    fn servers(&self) -> Vec<u32> {
        self.servers.iter().map(Server::id).collect()
    }

    fn data_dirs(&self) -> Vec<PathBuf> {
        self.data_dirs.clone()
    }

    async fn writer(&self, journal: &str, _: Duration) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Claimed(self.client()?.journal(journal)?.claim().await?)))
    }

    async fn replay(&self, journal: &str) -> Result<u64> {
        let mut events = self.client()?.journal(journal)?.replay(..).start();
        let mut count = 0;
        while events.next().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    async fn highest(&self, journal: &str) -> Result<u64> {
        Ok(self.client()?.journal(journal)?.highest().await?.highest.0)
    }

    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    async fn kill_leader(&self) -> Result<()> {
        let status = self.status(&self.addresses[0]).await?;
        let led = |index: &usize| status.shard_states.iter().filter(|shard| shard.leader == *index as u64 + 1).count();
        let leader = (0..self.servers.len()).max_by_key(led).context("no nodes")?;
        self.servers[leader].kill()
    }

    async fn restart_node(&self) -> Result<Duration> {
        let (server, address) = (&self.servers[0], &self.addresses[0]);
        server.kill()?;
        let started = Instant::now();
        server.start_again()?;
        let client = self.client()?;
        let served = async {
            while ready_status(client, address).await.is_err() {
                server.still_runs()?;
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            Ok(started.elapsed())
        };
        tokio::time::timeout(READY_DEADLINE, served).await.context("the node does not serve again")?
    }

    async fn stop(&self) {
        stop_all(&self.servers).await;
    }
}

/// A node's status, if it serves.
async fn ready_status(client: &cairn_client::Cairn, address: &str) -> Result<StatusResponse> {
    let status = client.cluster().at(address).status().await?;
    ensure!(status.not_ready.is_empty(), "node {}: {}", status.node_id, status.not_ready.join(", "));
    Ok(status)
}

struct Claimed(JournalWriter);

#[async_trait]
impl Writer for Claimed {
    async fn append(&mut self, payload: &Bytes, events: usize) -> Result<()> {
        if events == 1 {
            self.0.append(payload.clone()).await?;
        } else {
            self.0.append_all((0..events).map(|_| NewEvent::from(payload.clone()))).await?;
        }
        Ok(())
    }

    async fn resume(&mut self) -> Result<u64> {
        Ok(self.0.resume().await?.0)
    }
}
