//! The read side on three nodes with several shards, whose leaders are killed while it reads.

#[path = "../../../node/tests/common/mod.rs"]
mod common;

use std::collections::BTreeSet;

use cairn_actor::query::{Envelope, Envelopes, Offset, ReadJournal};
use cairn_client::{Cairn, JournalWriter, NewEvent, PersistenceId, SequenceNumber, StoredEvent};
use cairn_node::Network;
use common::{Cluster, client_address};
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinHandle;

/// Shards of the cluster: each with a leader of its own.
const SHARDS: u16 = 4;
/// Journals, which lie in all of the shards.
const JOURNALS: usize = 12;
/// How often a leader is killed.
const KILLS: u16 = 4;

fn client_of_cluster(cluster: &Cluster) -> Cairn {
    let network = cluster.network.clone();
    let connector = move |address: String| {
        let network = network.clone();
        async move { network.connect(&address).await }
    };
    Cairn::builder().endpoints((1..=3).map(client_address)).connector(connector).seed(1).build().expect("builds")
}

async fn writers(cairn: &Cairn) -> Vec<JournalWriter> {
    let mut writers = Vec::new();
    for index in 0..JOURNALS {
        writers.push(cairn.journal(format!("account-{index}")).expect("a name").claim().await.expect("is claimed"));
    }
    writers
}

/// Two events for each journal: the first one has the tag.
async fn write_round(writers: &mut [JournalWriter]) {
    for writer in writers {
        writer.append(NewEvent::from("a green apple").tagged("green")).await.expect("is stored");
        writer.append("a stone").await.expect("is stored");
    }
}

type Key = (PersistenceId, SequenceNumber);

fn key(envelope: &Envelope<StoredEvent>) -> Key {
    (envelope.persistence_id.clone(), envelope.sequence_number)
}

fn set(keys: &[Key]) -> BTreeSet<Key> {
    keys.iter().cloned().collect()
}

/// The rounds of writing around all kills.
const ROUNDS: usize = KILLS as usize * 2;

/// Takes so many events on a task of its own, whatever happens meanwhile.
fn reading(mut events: Envelopes, count: usize) -> JoinHandle<Vec<Envelope<StoredEvent>>> {
    tokio::spawn(async move { events.by_ref().take(count).try_collect().await.expect("is read") })
}

/// Each journal's events came once, in order, and these.
fn assert_each_once_in_order(seen: &[Envelope<StoredEvent>], numbers: impl Iterator<Item = u64> + Clone) {
    let keys: Vec<_> = seen.iter().map(key).collect();
    assert_eq!(set(&keys).len(), keys.len(), "each once");
    for index in 0..JOURNALS {
        let name = format!("account-{index}");
        let found = keys.iter().filter(|(of, _)| of.as_str() == name).map(|(_, number)| number.0);
        assert!(found.clone().eq(numbers.clone()), "{name} in order: {:?}", found.collect::<Vec<_>>());
    }
}

/// Asked after the offset of an event, a question gives just the events behind that one.
async fn assert_resumes(seen: &[Envelope<StoredEvent>], step: usize, after: impl AsyncFn(&Offset) -> Envelopes) {
    let keys: Vec<_> = seen.iter().map(key).collect();
    for (index, envelope) in seen.iter().enumerate().step_by(step) {
        let rest: Vec<_> = after(&envelope.offset).await.map_ok(|envelope| key(&envelope)).try_collect().await.expect("is read");
        assert_eq!((rest.len(), set(&rest)), (seen.len() - index - 1, set(&keys[index + 1..])), "after {}", envelope.offset);
    }
}

#[tokio::test]
async fn live_streams_of_a_tag_of_slices_and_of_a_journal_outlive_killed_leaders_and_resume() {
    let mut cluster = Cluster::of_founders(3, SHARDS).await;
    let cairn = client_of_cluster(&cluster);
    let read = ReadJournal::new(cairn.clone());
    let mut writers = writers(&cairn).await;
    let green = read.events_by_tag("green", &Offset::START).await.expect("begins");
    let green = reading(green, ROUNDS * JOURNALS);
    let sliced = read.events_by_slices(None, 0..=1023, &Offset::START).await.expect("begins");
    let sliced = reading(sliced, ROUNDS * JOURNALS * 2);
    let journals: Vec<_> = (0..JOURNALS)
        .map(|index| {
            let name = PersistenceId::new(format!("account-{index}")).expect("a name");
            // Ends by itself with its last number.
            reading(read.events_by_persistence_id(&name, 1..=ROUNDS as u64 * 2), usize::MAX)
        })
        .collect();
    for kill in 0..KILLS {
        write_round(&mut writers).await;
        let leader = cluster.leader(kill % SHARDS).await;
        cluster.kill(leader);
        write_round(&mut writers).await;
        cluster.start(leader).await;
        cluster.all_ready().await;
    }
    let (green, sliced) = (green.await.expect("no panic"), sliced.await.expect("no panic"));
    let mut of_journals = Vec::new();
    for journal in journals {
        of_journals.extend(journal.await.expect("no panic"));
    }
    // The first event of each round has the tag.
    assert_each_once_in_order(&green, (0..ROUNDS as u64).map(|round| round * 2 + 1));
    assert_each_once_in_order(&sliced, 1..=ROUNDS as u64 * 2);
    assert_each_once_in_order(&of_journals, 1..=ROUNDS as u64 * 2);
    assert_resumes(&green, 1, async |offset| read.current_events_by_tag("green", offset).await.expect("begins")).await;
    let slices = async |offset: &Offset| read.current_events_by_slices(None, 0..=1023, offset).await.expect("begins");
    assert_resumes(&sliced, 5, slices).await;
}

#[tokio::test]
async fn current_questions_end_at_the_state_of_their_start_and_names_come_once() {
    let cluster = Cluster::of_founders(3, SHARDS).await;
    let cairn = client_of_cluster(&cluster);
    let read = ReadJournal::new(cairn.clone());
    let mut writers = writers(&cairn).await;
    write_round(&mut writers).await;
    let all = read.current_all_events(&Offset::START).await.expect("begins");
    let green = read.current_events_by_tag("green", &Offset::START).await.expect("begins");
    let slices = read.current_events_by_slices(None, 0..=1023, &Offset::START).await.expect("begins");
    let mut names = read.persistence_ids().await.expect("begins");
    let known: BTreeSet<_> = names.by_ref().take(JOURNALS).try_collect().await.expect("is read");
    assert_eq!(known.len(), JOURNALS);
    write_round(&mut writers).await;
    let count = async |envelopes: Envelopes| envelopes.try_collect::<Vec<_>>().await.expect("is read").len();
    assert_eq!((count(all).await, count(green).await, count(slices).await), (2 * JOURNALS, JOURNALS, 2 * JOURNALS));
    let mut new = cairn.journal("account-new").expect("a name").claim().await.expect("is claimed");
    new.append("opened").await.expect("is stored");
    let name = names.try_next().await.expect("is read").expect("goes on");
    assert_eq!(name.as_str(), "account-new", "those that were named are not named again");
}
