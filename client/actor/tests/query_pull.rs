//! Readers take, and are sent little more than they take: all questions, on a connection that counts what comes.

#[path = "common/metered.rs"]
mod metered;

use std::time::Duration;

use cairn_actor::query::{Envelopes, Offset, ReadJournal};
use cairn_client::memory::MemoryCairn;
use cairn_client::{Cairn, Deletion, Error, Event, NewEvent, Payload, PersistenceId, SequenceNumber, Write, WriterId};
use futures::stream::{self, StreamExt, TryStreamExt};
use metered::Metered;

const EVENTS: u64 = 2_048;
const EVENT_BYTES: usize = 8 * 1024;
const JOURNAL_BYTES: u64 = EVENTS * EVENT_BYTES as u64;
/// What may come that nobody has taken: the windows of a stream, and a page on each side.
const AHEAD_BYTES_MAX: u64 = JOURNAL_BYTES / 4;
/// How long nothing more must come.
const SILENCE: Duration = Duration::from_millis(300);

struct World {
    cairn: Cairn,
    meter: Metered,
    read: ReadJournal,
}

fn world() -> World {
    let cluster = MemoryCairn::with_nodes(3);
    let meter = Metered::new(cluster.clone());
    // Who writes is not counted.
    let reader = cluster.builder().connector(meter.clone()).seed(1).build().expect("builds");
    World { cairn: cluster.client(), meter, read: ReadJournal::new(reader) }
}

fn id(name: impl Into<String>) -> PersistenceId {
    PersistenceId::new(name.into()).expect("a name")
}

impl World {
    /// What a question sends when two of its events are taken, and that the others come when they are.
    async fn sends_what_is_taken(&self, question: &str, ask: impl AsyncFnOnce() -> Result<Envelopes, Error>) {
        let before = self.meter.bytes();
        let mut events = ask().await.expect("begins");
        let mut numbers = Vec::new();
        let take = async |events: &mut Envelopes, numbers: &mut Vec<u64>, count: u64| {
            for _ in 0..count {
                let envelope = events.try_next().await.expect("is read").expect("is there");
                numbers.push(envelope.sequence_number.0);
            }
        };
        take(&mut events, &mut numbers, 2).await;
        tokio::time::sleep(SILENCE).await;
        let ahead = self.meter.bytes() - before;
        assert!(ahead <= AHEAD_BYTES_MAX, "{question}: {ahead} bytes came for two events");
        take(&mut events, &mut numbers, EVENTS - 2).await;
        assert_eq!(numbers, (1..=EVENTS).collect::<Vec<_>>(), "{question}");
        let all = self.meter.bytes() - before;
        assert!(all >= JOURNAL_BYTES, "{question}: {all} bytes for all events: they are not counted");
    }
}

#[tokio::test]
async fn a_reader_that_waits_is_sent_no_more_than_a_little_ahead_whatever_it_asks() {
    let world = world();
    let name = id("long|1");
    let mut writer = world.cairn.journal_of(name.clone()).claim().await.expect("is claimed");
    for _ in 0..EVENTS {
        writer.append(NewEvent::from(vec![7; EVENT_BYTES]).tagged("green")).await.expect("is stored");
    }
    let (read, start, slices) = (&world.read, &Offset::START, 0..=1023);
    let all = 0..=SequenceNumber::MAX.0;
    let live = async || Ok(read.events_by_persistence_id(&name, all.clone()));
    world.sends_what_is_taken("events_by_persistence_id", live).await;
    let current = async || read.current_events_by_persistence_id(&name, all.clone()).await;
    world.sends_what_is_taken("current_events_by_persistence_id", current).await;
    world.sends_what_is_taken("events_by_tag", async || read.events_by_tag("green", start).await).await;
    world.sends_what_is_taken("current_events_by_tag", async || read.current_events_by_tag("green", start).await).await;
    let live = async || read.events_by_slices(Some("long"), slices.clone(), start).await;
    world.sends_what_is_taken("events_by_slices", live).await;
    let current = async || read.current_events_by_slices(Some("long"), slices.clone(), start).await;
    world.sends_what_is_taken("current_events_by_slices", current).await;
    world.sends_what_is_taken("all_events", async || read.all_events(start).await).await;
    world.sends_what_is_taken("current_all_events", async || read.current_all_events(start).await).await;
}

/// Journals that a page of names holds.
const PAGE: usize = 1_000;
const JOURNALS: usize = PAGE * 5 / 2;
/// So long that most of what is sent is names.
const NAME_BYTES: usize = 800;

/// Stores the first event of each journal.
async fn begin(cairn: &Cairn, names: impl IntoIterator<Item = String>) {
    let write = async |name: String| {
        let event = Event { sequence_number: SequenceNumber(1), payload: Payload::default(), ..Event::default() };
        let writer = WriterId::new("writer").expect("a name");
        let atomic_writes = vec![vec![event]];
        let write = Write { persistence_id: id(name), writer, epoch: None, after: None, atomic_writes };
        cairn.write(&write).await.expect("is stored");
    };
    stream::iter(names).for_each_concurrent(64, write).await;
}

fn names() -> impl Iterator<Item = String> {
    (0..JOURNALS).map(|index| format!("{index:0NAME_BYTES$}"))
}

#[tokio::test]
async fn current_names_come_page_by_page_as_they_are_taken() {
    let world = world();
    begin(&world.cairn, names()).await;
    let page_bytes = (PAGE * NAME_BYTES) as u64;
    let mut asked = world.read.current_persistence_ids(None).await.expect("begins");
    let mut found = Vec::new();
    let mut sent = Vec::new();
    let before = world.meter.bytes();
    for count in [1, PAGE, PAGE + 1, JOURNALS] {
        while found.len() < count {
            found.push(asked.try_next().await.expect("is read").expect("is there").as_str().to_owned());
        }
        tokio::time::sleep(SILENCE).await;
        sent.push((world.meter.bytes() - before) / page_bytes);
    }
    assert_eq!(sent, [1, 1, 2, 2], "whole pages that were sent for 1, a page, one more, and all names");
    assert_eq!(asked.try_next().await.expect("is read"), None);
    assert!(found.iter().cloned().eq(names()), "all of them, once each, in order");
    let rest = world.read.current_persistence_ids(Some(&id(found[PAGE].clone()))).await.expect("begins");
    let rest: Vec<_> = rest.try_collect().await.expect("is read");
    assert!(rest.iter().map(PersistenceId::as_str).eq(found[PAGE + 1..].iter().map(String::as_str)));
}

#[tokio::test]
async fn a_name_that_came_after_the_start_is_not_among_the_current_ones_however_late_its_page_is_read() {
    for is_newest_removed in [false, true] {
        let world = world();
        begin(&world.cairn, names()).await;
        let newest: Vec<_> = (0..8).map(|index| format!("newest-{index}")).collect();
        begin(&world.cairn, newest.clone()).await;
        if is_newest_removed {
            // Then a shard cannot say when its newest event was stored.
            for name in &newest {
                let journal = world.cairn.journal(name.clone()).expect("a name");
                journal.delete_to(SequenceNumber::MAX, Deletion::Permanent).await.expect("is deleted");
            }
        }
        let mut asked = world.read.current_persistence_ids(None).await.expect("begins");
        let mut found = vec![asked.try_next().await.expect("is read").expect("is there").as_str().to_owned()];
        begin(&world.cairn, (0..20).map(|index| format!("too late {index}"))).await;
        // One that was there is written again, and another one loses what it had.
        let last = names().last().expect("there are some");
        let mut writer = world.cairn.journal(last).expect("a name").claim().await.expect("is claimed");
        writer.append("more").await.expect("is stored");
        let emptied = world.cairn.journal(names().nth(PAGE + 7).expect("is there")).expect("a name");
        let mut writer = emptied.claim().await.expect("is claimed");
        writer.append("more").await.expect("is stored");
        emptied.delete_to(SequenceNumber(1), Deletion::Permanent).await.expect("is deleted");
        let rest: Vec<_> = asked.try_collect().await.expect("is read");
        found.extend(rest.iter().map(|name| name.as_str().to_owned()));
        assert!(found.iter().cloned().eq(names().chain(newest.clone())), "newest removed: {is_newest_removed}");
        let live: Vec<_> =
            world.read.persistence_ids().await.expect("begins").take(JOURNALS + 28).try_collect().await.expect("is read");
        assert_eq!(live.iter().filter(|name| name.as_str().starts_with("too late")).count(), 20, "a later question names them");
    }
}
