//! The test kit against three nodes, whose leader is killed in the middle of every case.

#[path = "../../../node/tests/common/mod.rs"]
mod common;
#[path = "common/metered.rs"]
mod metered;

use std::sync::Arc;
use std::time::Duration;

use cairn_actor::store::Store;
use cairn_actor::tck::{self, Capability, Effort, Hook, Subject};
use cairn_client::{Cairn, Payload};
use cairn_node::Network;
use common::{Cluster, client_address};
use metered::Metered;
use tokio::sync::Mutex;

/// More than an atomic write may have, and more than metadata may have.
const TOO_MANY_BYTES: usize = 5 * 1024 * 1024;

/// No case takes longer, however many leaders are killed in it.
const CASE_TIME_MAX: Duration = Duration::from_secs(60);

/// Three nodes, with two clients of them.
struct ThreeNodes {
    cluster: Mutex<Cluster>,
    first: Cairn,
    second: Cairn,
    meter: Metered,
    is_leader_killed_in_between: bool,
}

impl ThreeNodes {
    async fn new(is_leader_killed_in_between: bool) -> Self {
        let cluster = Cluster::of_founders(3, 1).await;
        let network = Arc::new(cluster.network.clone());
        let meter = Metered::new(move |address: String| {
            let network = Arc::clone(&network);
            async move { network.connect(&address).await }
        });
        let client = |seed| {
            let builder = Cairn::builder().endpoints((1..=3).map(client_address)).connector(meter.clone());
            builder.seed(seed).build().expect("builds")
        };
        let (first, second) = (client(1), client(2));
        Self { cluster: Mutex::new(cluster), first, second, meter, is_leader_killed_in_between }
    }
}

impl Subject for ThreeNodes {
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
        Effort { events: 200, rounds: 2, prefix_events: 2_000, case_time_max: CASE_TIME_MAX, ..Effort::default() }
    }

    fn sent_bytes(&self) -> Option<u64> {
        Some(self.meter.bytes())
    }

    fn between<'a>(&'a self, _case: &'a str) -> Hook<'a> {
        Box::pin(async {
            if self.is_leader_killed_in_between {
                let mut cluster = self.cluster.lock().await;
                let leader = cluster.leader(0).await;
                cluster.kill(leader);
            }
        })
    }

    fn after<'a>(&'a self, _case: &'a str) -> Hook<'a> {
        Box::pin(async {
            let mut cluster = self.cluster.lock().await;
            for id in 1..=3 {
                if !cluster.running().contains(&id) {
                    cluster.start(id).await;
                }
            }
            cluster.all_ready().await;
        })
    }

    fn disturb(&self) -> Hook<'_> {
        Box::pin(async {
            let mut cluster = self.cluster.lock().await;
            if cluster.running().len() < 3 {
                drop(cluster);
                return self.after("").await;
            }
            let leader = cluster.leader(0).await;
            cluster.kill(leader);
            cluster.start(leader).await;
            cluster.all_ready().await;
        })
    }

    fn restart(&self) -> Hook<'_> {
        Box::pin(async {
            let mut cluster = self.cluster.lock().await;
            for id in cluster.running() {
                cluster.kill(id);
            }
            for id in 1..=3 {
                cluster.start(id).await;
            }
            cluster.all_ready().await;
        })
    }
}

#[tokio::test]
async fn three_nodes_keep_the_contract_though_the_leader_is_killed_in_every_case() {
    let report = tck::run(&ThreeNodes::new(true).await, &tck::cases()).await;
    assert!(report.is_passed(), "{report}");
    assert_eq!(report.skipped(), 1, "{report}");
    println!("{report}");
}

#[tokio::test]
async fn three_nodes_pass_the_performance_cases() {
    let report = tck::run(&ThreeNodes::new(false).await, &tck::performance_cases()).await;
    assert!(report.is_passed(), "{report}");
    println!("{report}");
}
