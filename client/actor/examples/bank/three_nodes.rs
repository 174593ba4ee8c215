//! Three nodes inside this program, each on a runtime of its own, so that one of them can be killed: its runtime ends without a word.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use cairn_client::Cairn;
use cairn_node::{DuplexNetwork, FounderSettings, Network, Node, Parts, Settings};
use tokio::runtime::Runtime;

const NODES: u64 = 3;

pub struct ThreeNodes {
    network: DuplexNetwork,
    running: BTreeMap<u64, (Node, Runtime)>,
}

fn client_address(id: u64) -> String {
    format!("node-{id}:1")
}

fn peer_address(id: u64) -> String {
    format!("node-{id}:2")
}

fn settings(id: u64) -> Settings {
    let mut settings = Settings::embedded(None);
    settings.cluster.founders = (1..=NODES)
        .map(|id| FounderSettings { node_id: id, peer_address: peer_address(id), client_address: client_address(id) })
        .collect();
    settings.node.id = id;
    settings.listen.client = client_address(id);
    settings.listen.peer = peer_address(id);
    settings
}

impl ThreeNodes {
    /// Starts them, and waits until they can serve.
    pub async fn start() -> anyhow::Result<Self> {
        let mut this = Self { network: DuplexNetwork::new(), running: BTreeMap::new() };
        for id in 1..=NODES {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let parts = Parts { network: Arc::new(this.network.clone()), ..Parts::memory()? };
            let node = runtime.spawn(Node::start(settings(id), parts)).await?;
            this.running.insert(id, (node.with_context(|| format!("start node {id}"))?, runtime));
        }
        for (node, _) in this.running.values() {
            node.ready().await;
        }
        Ok(this)
    }

    pub fn client(&self) -> anyhow::Result<Cairn> {
        let network = Arc::new(self.network.clone());
        let connector = move |address: String| {
            let network = Arc::clone(&network);
            async move { network.connect(&address).await }
        };
        Ok(Cairn::builder().endpoints((1..=NODES).map(client_address)).connector(connector).build()?)
    }

    /// Kills the node that leads the journals; says which. The others go on.
    pub fn kill_leader(&mut self) -> anyhow::Result<u64> {
        let leads = |(id, (node, _)): (&u64, &(Node, Runtime))| (!node.leads().is_empty()).then_some(*id);
        let id = self.running.iter().find_map(leads).context("nobody leads at this moment")?;
        if let Some((node, runtime)) = self.running.remove(&id) {
            runtime.shutdown_background();
            drop(node);
        }
        Ok(id)
    }
}

impl Drop for ThreeNodes {
    fn drop(&mut self) {
        for (_, (node, runtime)) in std::mem::take(&mut self.running) {
            runtime.shutdown_background();
            drop(node);
        }
    }
}
