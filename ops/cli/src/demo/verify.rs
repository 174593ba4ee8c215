//! Reads everything back from one node and compares it with what was acknowledged.

use std::collections::BTreeMap;

use cairn_api::Freshness;
use cairn_client::Error;
use cairn_machine::{PersistenceId, SequenceNumber, StoredEvent};
use futures::{StreamExt, TryStreamExt};

use super::record::{Acknowledged, Journals};
use crate::node_client::NodeClient;
use crate::source::Range;

/// Journals read at the same time.
const REPLAYS_MAX: usize = 16;
/// Differences reported at most; one is enough to fail.
const DIFFERENCES_MAX: usize = 10;

/// What a node has that it must not, or lacks.
pub type Differences = Vec<String>;

/// Compares one node's journals, as its own replica holds them, with what was acknowledged.
///
/// # Errors
/// If the node cannot be read.
pub async fn compare_node(node: &NodeClient, expected: &Journals, progress: impl Fn(u64)) -> Result<Differences, Error> {
    let mut differences = compare_listing(node, expected).await?;
    let progress = &progress;
    let mut found = futures::stream::iter(expected)
        .map(|(persistence_id, journal)| async move {
            let highest = journal.last().map_or(0, |last| last.event.sequence_number.0);
            // From this node's replica, as soon as it has come that far: the leader is not asked.
            let freshness = Freshness::AtLeast(highest);
            let events = node.source(freshness).replay(persistence_id, Range::ALL).collect_all().await?;
            progress(events.len() as u64);
            Ok::<_, Error>(compare_journal(persistence_id, journal, &events))
        })
        .buffer_unordered(REPLAYS_MAX);
    while let Some(more) = found.try_next().await? {
        differences.extend(more);
    }
    differences.truncate(DIFFERENCES_MAX);
    Ok(differences)
}

/// Each journal is there, with its highest number, and no other.
async fn compare_listing(node: &NodeClient, expected: &Journals) -> Result<Differences, Error> {
    let journals = node.source(Freshness::Strong).journals("").collect_all().await?;
    let found: BTreeMap<_, _> = journals.iter().map(|journal| (&journal.persistence_id, journal.known.highest)).collect();
    let mut differences = Differences::new();
    for (persistence_id, journal) in expected {
        let highest = journal.last().map_or(SequenceNumber(0), |last| last.event.sequence_number);
        match found.get(persistence_id) {
            None => differences.push(format!("journal {persistence_id:?} is not listed")),
            Some(&listed) if listed != highest => {
                differences.push(format!("journal {persistence_id:?}: highest number {listed} instead of {highest}"));
            }
            Some(_) => {}
        }
    }
    if found.len() > expected.len() {
        differences.push(format!("{} journals are listed instead of {}", found.len(), expected.len()));
    }
    Ok(differences)
}

/// The same events, each once, in order, with the same payload, atomic write, position and time.
fn compare_journal(persistence_id: &PersistenceId, expected: &[Acknowledged], found: &[StoredEvent]) -> Differences {
    let mut differences = Differences::new();
    if expected.len() != found.len() {
        differences.push(format!("journal {persistence_id:?}: {} events instead of {}", found.len(), expected.len()));
    }
    for (expected, found) in expected.iter().zip(found) {
        let number = expected.event.sequence_number;
        let mut differs = |what: String| differences.push(format!("journal {persistence_id:?}, event {number}: {what}"));
        if found.event.sequence_number != number {
            differs(format!("event {} is in its place", found.event.sequence_number));
            break;
        }
        if found.event != expected.event {
            differs("its content differs".to_owned());
        }
        if found.write_first != expected.write_first {
            differs(format!("atomic write {} instead of {}", found.write_first, expected.write_first));
        }
        if (found.position.0, found.timestamp) != (expected.position, expected.timestamp) {
            differs(format!(
                "position {} at {} instead of {} at {}",
                found.position, found.timestamp, expected.position, expected.timestamp
            ));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use cairn_machine::{Event, Position, Timestamp, WriterId};

    use super::*;

    fn journal() -> (PersistenceId, Vec<Acknowledged>, Vec<StoredEvent>) {
        let acknowledged = |number: u64| Acknowledged {
            event: Event { sequence_number: SequenceNumber(number), ..Event::default() },
            write_first: SequenceNumber(1),
            position: 10 + number,
            timestamp: Timestamp(5),
        };
        let expected: Vec<_> = (1..=4).map(acknowledged).collect();
        let stored = |acknowledged: &Acknowledged| StoredEvent {
            event: acknowledged.event.clone(),
            position: Position(acknowledged.position),
            timestamp: acknowledged.timestamp,
            writer: WriterId::default(),
            write_first: acknowledged.write_first,
            deleted: false,
        };
        let found = expected.iter().map(stored).collect();
        (PersistenceId::new("a").expect("a good id"), expected, found)
    }

    fn differs(change: impl FnOnce(&mut Vec<StoredEvent>), words: &str) {
        let (id, expected, mut found) = journal();
        change(&mut found);
        let differences = compare_journal(&id, &expected, &found);
        assert!(differences.iter().any(|difference| difference.contains(words)), "{words}: {differences:?}");
    }

    #[test]
    fn every_difference_is_seen() {
        let (id, expected, found) = journal();
        assert_eq!(compare_journal(&id, &expected, &found), Differences::new());
        differs(|found| drop(found.pop()), "3 events instead of 4");
        differs(|found| drop(found.remove(1)), "event 3 is in its place");
        differs(|found| found.insert(1, found[0].clone()), "event 1 is in its place");
        differs(|found| found.swap(1, 2), "event 3 is in its place");
        differs(|found| found[2].event.payload.bytes = b"x".as_slice().into(), "its content differs");
        differs(|found| found[2].write_first = SequenceNumber(3), "atomic write 3 instead of 1");
        differs(|found| found[3].position = Position(99), "position 99");
        differs(|found| found[3].timestamp = Timestamp(6), "at 6 instead of");
    }
}
