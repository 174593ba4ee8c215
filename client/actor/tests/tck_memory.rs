//! The test kit against the journal and the snapshots in memory.

#[path = "common/metered.rs"]
mod metered;

use cairn_actor::store::Store;
use cairn_actor::tck::{self, Effort, Hook, Subject};
use cairn_client::memory::MemoryCairn;
use cairn_client::{Cairn, Payload};
use metered::Metered;

/// More than an atomic write may have, and more than metadata may have.
const TOO_MANY_BYTES: usize = 5 * 1024 * 1024;

/// A cluster of three nodes in memory; another one leads once a case has begun, and every connection breaks.
struct InMemory {
    cluster: MemoryCairn,
    first: Cairn,
    second: Cairn,
    meter: Metered,
    effort: Effort,
}

impl InMemory {
    fn new() -> Self {
        let cluster = MemoryCairn::with_nodes(3);
        let meter = Metered::new(cluster.clone());
        let first = cluster.builder().connector(meter.clone()).build().expect("builds");
        let second = cluster.builder().connector(meter.clone()).seed(1).build().expect("builds");
        Self { cluster, first, second, meter, effort: Effort::default() }
    }
}

impl Subject for InMemory {
    fn store(&self) -> &dyn Store {
        &self.first
    }

    fn second_store(&self) -> &dyn Store {
        &self.second
    }

    fn unstorable(&self) -> Option<Payload> {
        Some(Payload { bytes: vec![0; TOO_MANY_BYTES].into(), ..Payload::default() })
    }

    fn sent_bytes(&self) -> Option<u64> {
        Some(self.meter.bytes())
    }

    fn between<'a>(&'a self, _case: &'a str) -> Hook<'a> {
        self.cluster.lead(1);
        self.cluster.break_connections();
        Box::pin(std::future::ready(()))
    }

    fn effort(&self) -> Effort {
        self.effort
    }
}

mod in_memory {
    use super::*;

    cairn_actor::store_tests!(InMemory::new());
}

#[tokio::test]
async fn the_performance_cases_come_in_time() {
    let report = tck::run(&InMemory::new(), &tck::performance_cases()).await;
    assert!(report.is_passed(), "{report}");
    println!("{report}");
}
