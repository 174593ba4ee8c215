//! The rules of contract section 3.9, and those of the seed for the writing side.

use cairn_client::{Event, NewEvent, Position, SequenceNumber, StoredEvent, Timestamp, WriterId};
use proptest::prelude::*;

use super::{Adapter, EventAdapters, Format, Kind, ReadEventAdapter, Tagged, WriteEventAdapter};
use crate::codec::{Cbor, Json, Versioned};
use crate::format::{EventFormat, FormatError, Refusal};

/// An event that is its kind, and a number.
type Text = String;

impl Kind for Text {
    fn kind(&self) -> &str {
        self.split_once('=').map_or(self, |(kind, _)| kind)
    }
}

/// Writes and reads with a mark of its own.
#[derive(Clone, Copy)]
struct Marks(&'static str);

impl WriteEventAdapter<Text> for Marks {
    fn manifest(&self, event: &Text) -> String {
        format!("{}:{}", self.0, event.kind())
    }

    fn to_journal(&self, event: &Text) -> Result<Vec<Tagged<Text>>, Refusal> {
        Ok(vec![format!("{event}+{}", self.0).into()])
    }
}

impl ReadEventAdapter<Text> for Marks {
    fn from_journal(&self, stored: &Text, manifest: &str) -> Result<Vec<Text>, Refusal> {
        Ok(vec![format!("{stored}-{}[{manifest}]", self.0)])
    }
}

fn stored(new_event: NewEvent) -> StoredEvent {
    let NewEvent { payload, adapter_manifest, metadata, tags } = new_event;
    StoredEvent {
        event: Event { sequence_number: SequenceNumber(1), payload, adapter_manifest, metadata, tags },
        position: Position(1),
        timestamp: Timestamp(1),
        writer: WriterId::default(),
        write_first: SequenceNumber(1),
        deleted: false,
    }
}

/// What is stored of an event, each with its manifest, and what it is when it is read again.
fn check(adapters: EventAdapters<Text>, event: &str, written: &[(&str, &str)], read: &[&str]) {
    let format = Format::with_adapters(Json, adapters);
    let new_events = format.to_journal(&event.to_owned()).unwrap();
    let found: Vec<(Text, Text)> = new_events
        .iter()
        .map(|new_event| (serde_json::from_slice(&new_event.payload.bytes).unwrap(), new_event.adapter_manifest.clone()))
        .collect();
    let expected: Vec<(Text, Text)> = written.iter().map(|(event, manifest)| (event.to_string(), manifest.to_string())).collect();
    assert_eq!(found, expected, "what is stored of {event}");
    let events: Vec<Text> =
        new_events.into_iter().flat_map(|new_event| format.from_journal(&stored(new_event)).unwrap()).collect();
    assert_eq!(events, read, "what {event} is when it is read again");
}

fn identity() -> EventAdapters<Text> {
    EventAdapters::identity()
}

#[test]
fn an_event_without_an_adapter_stays_what_it_is() {
    check(identity(), "a=1", &[("a=1", "")], &["a=1"]);
    check(identity().bind("b", Adapter::both(Marks("b"))), "a=1", &[("a=1", "")], &["a=1"]);
}

#[test]
fn an_adapter_with_one_side_is_the_identity_on_the_other() {
    let written = [("a=1+w", "w:a")];
    check(identity().bind("a", Adapter::write(Marks("w"))), "a=1", &written, &["a=1+w"]);
    check(identity().bind("a", Adapter::read(Marks("r"))), "a=1", &[("a=1", "")], &["a=1-r[]"]);
    check(identity().bind("a", Adapter::both(Marks("b"))), "a=1", &[("a=1+b", "b:a")], &["a=1+b-b[b:a]"]);
}

#[test]
fn the_most_specific_binding_counts_whatever_the_order_of_binding() {
    let [all, a, ab] = ["all", "a", "ab"].map(|mark| Adapter::write(Marks(mark)));
    let bound = |order: [(&str, &Adapter<Text>); 3]| {
        order.into_iter().fold(identity(), |adapters, (kind, adapter)| adapters.bind(kind, adapter.clone()))
    };
    for adapters in [[("", &all), ("a", &a), ("a/b", &ab)], [("a/b", &ab), ("a", &a), ("", &all)]] {
        for (event, written) in [
            ("a/b=1", ("a/b=1+ab", "ab:a/b")),
            ("a/b/c=1", ("a/b/c=1+ab", "ab:a/b/c")),
            ("a/bb=1", ("a/bb=1+a", "a:a/bb")),
            ("a=1", ("a=1+a", "a:a")),
            ("aa=1", ("aa=1+all", "all:aa")),
        ] {
            check(bound(adapters), event, &[written], &[written.0]);
        }
    }
}

#[test]
fn a_binding_with_one_side_hides_the_more_general_ones_on_both() {
    let adapters = identity().bind("", Adapter::both(Marks("all"))).bind("a", Adapter::read(Marks("a")));
    check(adapters, "a=1", &[("a=1", "")], &["a=1-a[]"]);
}

#[test]
fn several_adapters_of_one_kind_take_part_in_order_each_with_its_own_results() {
    let adapters = identity().bind("a", Adapter::both(Marks("x"))).bind("a", Adapter::both(Marks("y")));
    let written = [("a=1+x", "x:a"), ("a=1+y", "y:a")];
    check(adapters, "a=1", &written, &["a=1+x-x[x:a]", "a=1+x-y[x:a]", "a=1+y-x[y:a]", "a=1+y-y[y:a]"]);
}

#[test]
fn among_several_adapters_only_those_with_the_side_take_part() {
    let adapters = identity()
        .bind("a", Adapter::read(Marks("r1")))
        .bind("a", Adapter::write(Marks("w")))
        .bind("a", Adapter::read(Marks("r2")));
    check(adapters, "a=1", &[("a=1+w", "w:a")], &["a=1+w-r1[w:a]", "a=1+w-r2[w:a]"]);
}

#[test]
fn an_adapter_may_store_nothing_or_several() {
    let repeat = |event: &Text| {
        let times: usize = event.split_once('=').map_or(Ok(0), |(_, times)| times.parse())?;
        Ok((0..times).map(|time| format!("a#{time}").into()).collect())
    };
    let adapters = || identity().bind("a", Adapter::write(repeat));
    check(adapters(), "a=0", &[], &[]);
    check(adapters(), "a=3", &[("a#0", ""), ("a#1", ""), ("a#2", "")], &["a#0", "a#1", "a#2"]);
}

#[test]
fn a_stored_event_may_stand_for_none_or_several() {
    let parts = |stored: &Text, _: &str| Ok(stored.chars().filter(|part| part.is_alphabetic()).map(String::from).collect());
    let adapters = || identity().bind("", Adapter::read(parts));
    check(adapters(), "12", &[("12", "")], &[]);
    check(adapters(), "1a2b", &[("1a2b", "")], &["a", "b"]);
}

#[test]
fn an_adapter_that_fails_rejects_the_event_or_fails_the_replay() {
    let refuse = |_: &Text| Err("not this one".into());
    let format = Format::with_adapters(Json, identity().bind("a", Adapter::write(refuse)));
    assert_eq!(format.to_journal(&"a=1".to_owned()).unwrap_err().message, "event adapter: not this one");
    assert!(format.to_journal(&"b=1".to_owned()).is_ok());

    let refuse = |_: &Text, _: &str| Err("unheard of".into());
    let format = Format::with_adapters(Json, identity().bind("a", Adapter::read(refuse)));
    let new_event = format.to_journal(&"a=1".to_owned()).unwrap().remove(0);
    let failed = format.from_journal(&stored(new_event)).unwrap_err();
    assert_eq!((failed.message.as_str(), failed.serializer_id), ("event adapter: unheard of", Json::SERIALIZER_ID));
}

#[test]
fn what_cannot_be_read_fails_before_any_adapter() {
    let format = Format::with_adapters(Json, identity().bind("", Adapter::read(Marks("r"))));
    let foreign = Format::<Text, _, _>::new(Cbor).to_journal(&"a=1".to_owned()).unwrap().remove(0);
    assert!(matches!(format.from_journal(&stored(foreign)), Err(FormatError { serializer_id: Cbor::SERIALIZER_ID, .. })));
}

/// What an actor knows, and what the journal holds.
#[derive(Clone, Debug, PartialEq)]
enum Paid {
    In(u64),
    Out(u64),
}

struct Signed;

impl WriteEventAdapter<Paid, i64> for Signed {
    fn to_journal(&self, event: &Paid) -> Result<Vec<Tagged<i64>>, Refusal> {
        Ok(vec![match event {
            Paid::In(cents) => Tagged::new(i64::try_from(*cents)?, ["in", "money"]),
            Paid::Out(cents) => Tagged::new(-i64::try_from(*cents)?, ["out"]),
        }])
    }
}

impl ReadEventAdapter<Paid, i64> for Signed {
    fn from_journal(&self, stored: &i64, _: &str) -> Result<Vec<Paid>, Refusal> {
        let cents = stored.unsigned_abs();
        Ok(vec![if *stored < 0 { Paid::Out(cents) } else { Paid::In(cents) }])
    }
}

proptest! {
    #[test]
    fn a_model_of_the_journals_own_gives_back_the_events(cents in any::<i64>()) {
        let format = Format::with_adapters(Versioned::new("paid", Cbor), EventAdapters::through(Signed));
        let event = if cents < 0 { Paid::Out(cents.unsigned_abs()) } else { Paid::In(cents.unsigned_abs()) };
        match format.to_journal(&event) {
            Ok(mut new_events) => {
                let new_event = new_events.remove(0);
                prop_assert_eq!(new_event.payload.manifest.as_str(), "paid#1");
                prop_assert_eq!(format.from_journal(&stored(new_event)).unwrap(), [event]);
            }
            Err(_) => prop_assert_eq!(cents, i64::MIN),
        }
    }
}

#[test]
fn tags_of_tagger_and_adapter_are_one_set_on_all_that_is_stored() {
    let format = Format::with_adapters(Cbor, EventAdapters::through(Signed))
        .tagged_by(|event: &Paid| vec!["money".to_owned(), format!("{event:?}"), "money".to_owned()]);
    assert_eq!(format.to_journal(&Paid::In(5)).unwrap()[0].tags, ["In(5)", "in", "money"]);
    assert_eq!(format.to_journal(&Paid::Out(5)).unwrap()[0].tags, ["Out(5)", "money", "out"]);

    let twice = |event: &Text| Ok(vec![event.clone().into(), Tagged::new(event.clone(), ["second"])]);
    let format = Format::with_adapters(Json, identity().bind("", Adapter::write(twice)));
    let tags: Vec<_> = format
        .tagged_by(|event: &Text| vec![event.kind().to_owned()])
        .to_journal(&"a=1".to_owned())
        .unwrap()
        .into_iter()
        .map(|new_event| new_event.tags)
        .collect();
    assert_eq!(tags, [vec!["a".to_owned()], vec!["a".to_owned(), "second".to_owned()]]);
}
