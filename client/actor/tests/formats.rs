//! Codecs, versions, adapters and tags, as an actor and its journal see them.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_actor::adapter::{Adapter, EventAdapters, Format, Kind, ReadEventAdapter, Tagged, WriteEventAdapter};
use cairn_actor::codec::{Cbor, Json, Versioned};
use cairn_actor::context::Context;
use cairn_actor::effect::Effect;
use cairn_actor::format::{Codec, EventFormat, Refusal};
use cairn_actor::{ActorKind, Recovery};
use cairn_client::memory::MemoryCairn;
use cairn_client::{Criteria, NewSnapshot, Payload, SequenceNumber, StoredEvent};
use futures::TryStreamExt;

use common::{Notes, Scripted, known, make, persist, state, system};

const ID: &str = "account-1";

fn kind(notes: &Notes, format: impl EventFormat<String>) -> ActorKind<Scripted> {
    let notes = notes.clone();
    ActorKind::new(move |_| Scripted { notes: notes.clone() }, format)
}

async fn stored(memory: &MemoryCairn) -> Vec<StoredEvent> {
    memory.client().journal(ID).unwrap().replay(..).start().try_collect().await.unwrap()
}

async fn store(memory: &MemoryCairn, payloads: impl IntoIterator<Item = Payload>) {
    let mut writer = memory.client().journal(ID).unwrap().claim().await.unwrap();
    for payload in payloads {
        writer.append(payload).await.unwrap();
    }
}

fn numbers(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|stored| stored.event.sequence_number.0).collect()
}

/// An amount once, and a text today.
fn today() -> Versioned<String, Json> {
    Versioned::new("paid", Cbor).then_in(Json, |amount: u64| Ok(format!("{amount} EUR")))
}

#[tokio::test(start_paused = true)]
async fn events_of_every_version_become_one_state_and_new_ones_have_the_newest() {
    let memory = MemoryCairn::new();
    let once = Versioned::<u64, _>::new("paid", Cbor);
    store(&memory, [once.encode(&5).unwrap(), once.encode(&7).unwrap()]).await;

    let notes = Notes::default();
    let kind = kind(&notes, Format::new(today()));
    let actor = system(memory.client(), 1).spawn(&kind, ID).unwrap();
    persist(&actor, "9 CHF").await.unwrap();
    assert_eq!(state(&actor).await.unwrap(), ["5 EUR", "7 EUR", "9 CHF"]);
    let manifests: Vec<_> = stored(&memory).await.into_iter().map(|stored| stored.event.payload.manifest).collect();
    assert_eq!(manifests, ["paid#1", "paid#1", "paid#2"]);

    actor.stop();
    actor.stopped().await;
    let actor = system(memory.client(), 2).spawn(&kind, ID).unwrap();
    assert_eq!(state(&actor).await.unwrap(), ["5 EUR", "7 EUR", "9 CHF"]);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_know_a_version_does_not_start_its_actor() {
    let memory = MemoryCairn::new();
    let newer = today().then(|text: String| Ok(text.len() as u64));
    store(&memory, [newer.encode(&5).unwrap()]).await;
    let notes = Notes::default();
    let kind = kind(&notes, Format::new(today())).supervision(cairn_actor::Supervision::STOP);
    system(memory.client(), 1).spawn(&kind, ID).unwrap().stopped().await;
    let noted = notes.all().concat();
    assert!(noted.contains("recovery failed: event 1: version 3 of paid is newer than 2"), "{noted}");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_an_older_version_is_the_state() {
    let memory = MemoryCairn::new();
    let states = || Versioned::new("amounts", Cbor).then(|old: u64| Ok(vec![format!("{old} in all")]));
    store(&memory, [today().encode(&"1 EUR".to_owned()).unwrap(), today().encode(&"2 EUR".to_owned()).unwrap()]).await;
    let payload = Versioned::<u64, _>::new("amounts", Cbor).encode(&1).unwrap();
    let snapshot = NewSnapshot { sequence_number: SequenceNumber(1), payload, ..NewSnapshot::default() };
    memory.client().journal(ID).unwrap().save_snapshot(snapshot).await.unwrap();

    let notes = Notes::default();
    let kind = kind(&notes, Format::new(today())).snapshots(states());
    let actor = system(memory.client(), 1).spawn(&kind, ID).unwrap();
    assert_eq!(state(&actor).await.unwrap(), ["1 in all", "2 EUR"]);
}

/// The first letter of an event.
struct Letter(String);

impl Kind for Letter {
    fn kind(&self) -> &str {
        &self.0[..1]
    }
}

/// Stores `s..` as one event for each letter, nothing of `n..`, and everything else as it is; reads everything with a mark of
/// where it came from.
fn adapters() -> EventAdapters<Letter> {
    let several = |event: &Letter| Ok(event.0.chars().map(|letter| Letter(format!("{letter}!")).into()).collect());
    let nothing = |_: &Letter| Ok(Vec::new());
    let tagged = |event: &Letter| Ok(vec![Tagged::new(Letter(event.0.clone()), ["adapted"])]);
    EventAdapters::<Letter>::identity()
        .bind("s", Adapter::write(several))
        .bind("n", Adapter::write(nothing))
        .bind("t", Adapter::write(tagged))
}

/// The actor of these tests has texts for events.
struct Texts(Format<Letter, Letter, Letters>);

/// Letters as JSON texts.
struct Letters;

impl Codec<Letter> for Letters {
    fn encode(&self, value: &Letter) -> Result<Payload, cairn_actor::format::FormatError> {
        Json.encode(&value.0)
    }

    fn decode(&self, payload: &Payload) -> Result<Letter, cairn_actor::format::FormatError> {
        Json.decode(payload).map(Letter)
    }
}

impl EventFormat<String> for Texts {
    fn to_journal(&self, event: &String) -> Result<Vec<cairn_client::NewEvent>, cairn_actor::format::FormatError> {
        self.0.to_journal(&Letter(event.clone()))
    }

    fn from_journal(&self, stored: &StoredEvent) -> Result<Vec<String>, cairn_actor::format::FormatError> {
        Ok(self.0.from_journal(stored)?.into_iter().map(|letter| letter.0).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_stores_nothing_takes_no_number_and_one_that_stores_many_takes_them_in_a_row() {
    let memory = MemoryCairn::new();
    let notes = Notes::default();
    let format = Format::with_adapters(Letters, adapters()).tagged_by(|event: &Letter| vec![event.0.clone()]);
    let kind = kind(&notes, Texts(format));
    let actor = system(memory.client(), 1).spawn(&kind, ID).unwrap();
    for event in ["a", "nothing", "s12", "t"] {
        persist(&actor, event).await.unwrap();
    }
    assert_eq!(state(&actor).await.unwrap(), ["a", "nothing", "s12", "t"], "every event is handled");

    let events = stored(&memory).await;
    assert_eq!(numbers(&events), [1, 2, 3, 4, 5]);
    let firsts: Vec<_> = events.iter().map(|stored| stored.write_first.0).collect();
    assert_eq!(firsts, [1, 2, 2, 2, 5], "many are one atomic write");
    let tags: Vec<_> = events.iter().map(|stored| stored.event.tags.join(" ")).collect();
    assert_eq!(tags, ["a", "s12", "s12", "s12", "adapted t"]);

    actor.stop();
    actor.stopped().await;
    let actor = system(memory.client(), 2).spawn(&kind, ID).unwrap();
    assert_eq!(state(&actor).await.unwrap(), ["a", "s!", "1!", "2!", "t"]);
    assert_eq!(notes.all(), ["recovered  at 0", "recovered a s! 1! 2! t at 5"]);
}

/// Takes nothing from the journal, and counts what it was shown.
struct Dropping {
    shown: Arc<AtomicU64>,
}

impl WriteEventAdapter<String> for Dropping {
    fn to_journal(&self, event: &String) -> Result<Vec<Tagged<String>>, Refusal> {
        Ok(vec![Tagged::from(event.clone())])
    }
}

impl ReadEventAdapter<String> for Dropping {
    fn from_journal(&self, _: &String, _: &str) -> Result<Vec<String>, Refusal> {
        self.shown.fetch_add(1, Ordering::Relaxed);
        Ok(Vec::new())
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_events_are_recovered_also_where_an_adapter_drops_them_all() {
    let memory = MemoryCairn::new();
    let codec = || Versioned::<String, _>::new("paid", Json);
    store(&memory, (1..=5).map(|number| codec().encode(&number.to_string()).unwrap())).await;
    for (max, counted) in [(3, 3), (0, 0), (1, 1), (5, 5), (u64::MAX, 5)] {
        let (notes, shown) = (Notes::default(), Arc::new(AtomicU64::new(0)));
        let adapters = EventAdapters::through(Dropping { shown: shown.clone() });
        let kind = kind(&notes, Format::with_adapters(codec(), adapters)).recovery(Recovery { max, ..Recovery::default() });
        let actor = system(memory.client(), max).spawn(&kind, ID).unwrap();
        assert_eq!(state(&actor).await.unwrap(), [""; 0]);
        assert_eq!(
            shown.load(Ordering::Relaxed),
            counted,
            "stored events count for a maximum of {max}, not what becomes of them"
        );
        assert_eq!(known(&actor, Context::last_sequence_number).await.unwrap(), SequenceNumber(5));
    }
}

/// The newest snapshot's manifest.
async fn snapshot_manifest(memory: &MemoryCairn) -> String {
    let snapshot = memory.client().journal(ID).unwrap().load_snapshot(Criteria::LATEST).await.unwrap();
    snapshot.expect("it was saved").info.manifest
}

#[tokio::test(start_paused = true)]
async fn values_are_cbor_with_a_name_and_a_version_unless_something_else_is_said() {
    let memory = MemoryCairn::new();
    let notes = Notes::default();
    let made = notes.clone();
    let kind = ActorKind::cbor(move |_| Scripted { notes: made.clone() });
    let actor = system(memory.client(), 1).spawn(&kind, ID).unwrap();
    persist(&actor, "a").await.unwrap();
    make(&actor, |_, _| Effect::save_snapshot().and(Effect::stop())).await;
    actor.stopped().await;
    let payloads: Vec<_> = stored(&memory).await.into_iter().map(|stored| stored.event.payload).collect();
    let expected = Payload { serializer_id: 4201, manifest: "event#1".to_owned(), bytes: b"\x61a".as_slice().into() };
    assert_eq!(payloads, [expected]);
    assert_eq!(snapshot_manifest(&memory).await, "state#1");

    // The next version takes over what there is, the snapshot and the events.
    let events = Versioned::new("event", Cbor).then(|old: String| Ok(format!("{old} of old")));
    let states = Versioned::new("state", Cbor).then(|old: Vec<String>| Ok([old, vec!["saved of old".to_owned()]].concat()));
    let made = notes.clone();
    let next = ActorKind::new(move |_| Scripted { notes: made.clone() }, Format::new(events)).snapshots(states);
    let actor = system(memory.client(), 2).spawn(&next, ID).unwrap();
    assert_eq!(state(&actor).await.unwrap(), ["a", "saved of old"]);
    actor.stop();
    actor.stopped().await;
    let actor = system(memory.client(), 3).spawn(&next.recovery(Recovery::without_snapshot()), ID).unwrap();
    assert_eq!(state(&actor).await.unwrap(), ["a of old"]);
}

#[tokio::test(start_paused = true)]
async fn cbor_that_was_stored_without_a_name_is_read_for_ever() {
    let memory = MemoryCairn::new();
    // As a bare codec writes it: these bytes stay as they are.
    let bare = |bytes: &'static [u8]| Payload { serializer_id: 4201, manifest: String::new(), bytes: bytes.into() };
    store(&memory, [bare(b"\x61a"), bare(b"\x61b")]).await;
    let snapshot = NewSnapshot { sequence_number: SequenceNumber(1), payload: bare(b"\x81\x65saved"), ..NewSnapshot::default() };
    memory.client().journal(ID).unwrap().save_snapshot(snapshot).await.unwrap();
    let notes = Notes::default();
    let kind = ActorKind::cbor(move |_| Scripted { notes: notes.clone() });
    let actor = system(memory.client(), 1).spawn(&kind, ID).unwrap();
    persist(&actor, "c").await.unwrap();
    assert_eq!(state(&actor).await.unwrap(), ["saved", "b", "c"]);
    let manifests: Vec<_> = stored(&memory).await.into_iter().map(|stored| stored.event.payload.manifest).collect();
    assert_eq!(manifests, ["", "", "event#1"]);
}
