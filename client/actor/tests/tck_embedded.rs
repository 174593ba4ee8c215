//! The test kit against a node inside the program: on files, and stopped and started again where a case asks for it.

use std::path::PathBuf;
use std::sync::Arc;

use cairn_actor::store::Store;
use cairn_actor::tck::{self, Capability, Effort, Hook, Subject};
use cairn_client::{Cairn, Payload};
use cairn_node::{Network, Node};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// More than an atomic write may have, and more than metadata may have.
const TOO_MANY_BYTES: usize = 5 * 1024 * 1024;

/// A node on files, with two clients of it.
struct Embedded {
    folder: TempDir,
    node: Arc<Mutex<Option<Node>>>,
    first: Cairn,
    second: Cairn,
}

impl Embedded {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let started = start(&folder).await;
        let address = started.addresses().client.clone();
        let node = Arc::new(Mutex::new(Some(started)));
        let client = |seed| {
            let node = Arc::clone(&node);
            // Whichever node lives in the folder now.
            let connector = move |address: String| {
                let node = Arc::clone(&node);
                async move {
                    let network = node.lock().await.as_ref().map(Node::network);
                    let network: Arc<dyn Network> = network.ok_or_else(|| std::io::Error::other("no node is running"))?;
                    network.connect(&address).await
                }
            };
            Cairn::builder().endpoints([address.clone()]).connector(connector).seed(seed).build().expect("builds")
        };
        let (first, second) = (client(1), client(2));
        Self { folder, node, first, second }
    }
}

async fn start(folder: &TempDir) -> Node {
    let dir: PathBuf = folder.path().join("data");
    Node::embedded(Some(dir)).await.expect("starts")
}

impl Subject for Embedded {
    fn store(&self) -> &dyn Store {
        &self.first
    }

    fn second_store(&self) -> &dyn Store {
        &self.second
    }

    fn can(&self, capability: Capability) -> bool {
        !matches!(capability, Capability::OrderedSaves)
    }

    fn unstorable(&self) -> Option<Payload> {
        Some(Payload { bytes: vec![0; TOO_MANY_BYTES].into(), ..Payload::default() })
    }

    fn effort(&self) -> Effort {
        Effort { events: 500, rounds: 2, ..Effort::default() }
    }

    fn disturb(&self) -> Hook<'_> {
        self.restart()
    }

    fn restart(&self) -> Hook<'_> {
        Box::pin(async {
            let mut node = self.node.lock().await;
            if let Some(running) = node.take() {
                running.shutdown().await;
            }
            *node = Some(start(&self.folder).await);
        })
    }
}

mod in_an_embedded_node {
    use super::*;

    cairn_actor::store_tests!(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        Embedded::new().await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_performance_cases_come_in_time() {
    let report = tck::run(&Embedded::new().await, &tck::performance_cases()).await;
    assert!(report.is_passed(), "{report}");
    println!("{report}");
}
