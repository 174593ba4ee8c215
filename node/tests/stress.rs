//! Many tasks on many threads write through one node at the same time: what is gathered into entries is told apart again.

#![allow(clippy::disallowed_methods, reason = "a test may use what is ambient")]

mod common;

use std::collections::BTreeSet;

use cairn_client::Cairn;
use cairn_node::{Node, Parts, Settings};

/// Tasks that write to a journal of their own.
const OWNERS: u64 = 48;
/// Tasks that claim one journal from each other.
const RIVALS: u64 = 8;
/// Events that each owner writes, some of them together.
const EVENTS: u64 = 120;

/// The positions at which this owner was told that its events are.
async fn own(cairn: Cairn, number: u64) -> Vec<u64> {
    let mut writer = cairn.journal(format!("own-{number}")).expect("a name").claim().await.expect("is claimed");
    let mut positions = Vec::new();
    let mut written = 0;
    while written < EVENTS {
        let count = 1 + (number + written) % 4;
        let payloads: Vec<Vec<u8>> = (written..written + count).map(|event| format!("{number} {event}").into_bytes()).collect();
        let appended = writer.append_all(payloads).await.expect("is stored");
        positions.extend(appended.position.0..appended.position.0 + count);
        written += count;
    }
    positions
}

/// Claims the journal of all rivals again and again; the events that it was told are stored.
async fn rival(cairn: Cairn, number: u64) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for round in 0..20 {
        let journal = cairn.journal("rivals").expect("a name");
        let Ok(mut writer) = journal.claim().await else { continue };
        for event in 0..3 {
            let payload = format!("{number} {round} {event}");
            match writer.append(payload.clone().into_bytes()).await {
                Ok(_) => acknowledged.push(payload),
                Err(error) if error.is_definite() => break,
                Err(error) => panic!("one node that lives knows every outcome: {error}"),
            }
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_of_many_threads_are_each_stored_once_at_positions_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = Settings::embedded(Some(folder.path().join("data")));
    settings.cluster.shards = 1;
    let node = Node::start(settings, Parts::files().expect("parts")).await.expect("starts");
    let cairn = common::client_of(&node).await;
    let owners: Vec<_> = (0..OWNERS).map(|number| tokio::spawn(own(cairn.clone(), number))).collect();
    let rivals: Vec<_> = (0..RIVALS).map(|number| tokio::spawn(rival(cairn.clone(), number))).collect();
    let mut positions = Vec::new();
    for owner in owners {
        positions.extend(owner.await.expect("no panic"));
    }
    let mut acknowledged = BTreeSet::new();
    for rival in rivals {
        acknowledged.extend(rival.await.expect("no panic"));
    }
    for number in 0..OWNERS {
        let stored = common::payloads(&cairn, &format!("own-{number}")).await;
        let expected: Vec<_> = (0..stored.len()).map(|event| format!("{number} {event}").into_bytes()).collect();
        assert!(stored.len() as u64 >= EVENTS && stored == expected, "journal {number}");
    }
    let rivals: Vec<_> = common::payloads(&cairn, "rivals").await;
    let stored: BTreeSet<_> = rivals.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    assert_eq!(stored, acknowledged, "what was refused is not there, what was acknowledged is");
    assert_eq!(stored.len(), rivals.len(), "nothing is there twice");
    let places: BTreeSet<u64> = positions.iter().copied().collect();
    assert_eq!(places.len(), positions.len(), "no two events have the same position");
    node.shutdown().await;
}
