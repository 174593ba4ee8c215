//! What tests of writes share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_client::memory::{Fault, MemoryCairn};
use cairn_client::{Cairn, StoredEvent};
use cairn_machine::Command;

pub async fn events(cairn: &Cairn, name: &str) -> Vec<StoredEvent> {
    cairn.journal(name).unwrap().replay(..).start().collect_all().await.unwrap()
}

pub async fn payloads(cairn: &Cairn, name: &str) -> Vec<String> {
    let text = |stored: StoredEvent| String::from_utf8(stored.event.payload.bytes.to_vec()).unwrap();
    events(cairn, name).await.into_iter().map(text).collect()
}

/// Chooses a fault for the writes with these places in the order in which they reach a leader; the rest is left alone.
pub fn fault_writes(cluster: &MemoryCairn, choose: impl Fn(usize) -> Fault + Send + 'static) -> Arc<AtomicUsize> {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    cluster.inject(move |command| match command {
        Command::Write(_) => choose(counter.fetch_add(1, Ordering::Relaxed)),
        _ => Fault::None,
    });
    seen
}
