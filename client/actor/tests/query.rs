//! The read side, case by case as the specifications of read journals have them, on several shards in memory.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use cairn_actor::format::{EventFormat, FormatError};
use cairn_actor::query::{Envelope, Envelopes, Offset, QueryError, ReadJournal, typed};
use cairn_client::memory::MemoryCairn;
use cairn_client::{Cairn, Deletion, Error, NewEvent, PersistenceId, SequenceNumber, StoredEvent};
use futures::{Stream, StreamExt, TryStreamExt};

/// How long nothing must come.
const SILENCE: Duration = Duration::from_millis(500);
/// No bound of numbers.
const NO_BOUND: u64 = SequenceNumber::MAX.0;
/// Words that are tags.
const TAGS: [&str; 5] = ["green", "black", "blue", "apple", "banana"];

struct World {
    cluster: MemoryCairn,
    cairn: Cairn,
    read: ReadJournal,
}

fn world() -> World {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.client();
    World { read: ReadJournal::new(cairn.clone()), cairn, cluster }
}

fn id(name: &str) -> PersistenceId {
    PersistenceId::new(name.to_owned()).expect("a name")
}

/// Names that live in one shard, whatever the number of shards is.
fn neighbours(count: usize) -> Vec<String> {
    (0..).map(|index| format!("n-{index}")).filter(|name| ReadJournal::slice_of(&id(name)) < 16).take(count).collect()
}

impl World {
    /// Persists texts, tagged with their words.
    async fn persist<T: Into<String>>(&self, name: &str, texts: impl IntoIterator<Item = T>) {
        let mut writer = self.cairn.journal(name).expect("a name").claim().await.expect("is claimed");
        for text in texts {
            let text: String = text.into();
            let tags = TAGS.iter().filter(|tag| text.contains(**tag));
            let event = tags.fold(NewEvent::from(text.clone()), |event, tag| event.tagged(*tag));
            writer.append(event).await.expect("is stored");
        }
    }

    async fn persist_numbered(&self, name: &str, numbers: RangeInclusive<u32>) {
        self.persist(name, numbers.map(|number| format!("{name}-{number}"))).await;
    }

    async fn delete(&self, name: &str, to: u64) {
        let deleted = self.cairn.journal(name).expect("a name").delete_to(SequenceNumber(to), Deletion::Permanent).await;
        deleted.expect("is deleted");
    }

    async fn current(&self, name: &str, numbers: RangeInclusive<u64>) -> Vec<String> {
        texts(self.read.current_events_by_persistence_id(&id(name), numbers).await.expect("begins")).await
    }
}

fn text(envelope: &Envelope<StoredEvent>) -> String {
    String::from_utf8(envelope.event.event.payload.bytes.to_vec()).expect("a text")
}

/// All that comes, to the end.
async fn texts(envelopes: Envelopes) -> Vec<String> {
    envelopes.map_ok(|envelope| text(&envelope)).try_collect().await.expect("is read")
}

/// The next ones.
async fn take(envelopes: &mut Envelopes, count: usize) -> Vec<Envelope<StoredEvent>> {
    envelopes.by_ref().take(count).try_collect().await.expect("is read")
}

async fn take_texts(envelopes: &mut Envelopes, count: usize) -> Vec<String> {
    take(envelopes, count).await.iter().map(text).collect()
}

async fn assert_silent<T: std::fmt::Debug>(stream: &mut (impl Stream<Item = T> + Unpin)) {
    if let Ok(item) = tokio::time::timeout(SILENCE, stream.next()).await {
        panic!("there is something: {item:?}");
    }
}

mod events_by_persistence_id {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn existing_events_are_found_and_then_new_ones() {
        let world = world();
        world.persist_numbered("c", 1..=3).await;
        let mut events = world.read.events_by_persistence_id(&id("c"), 0..=NO_BOUND);
        assert_eq!(take_texts(&mut events, 3).await, ["c-1", "c-2", "c-3"]);
        assert_silent(&mut events).await;
        world.persist_numbered("c", 4..=4).await;
        assert_eq!(take_texts(&mut events, 1).await, ["c-4"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_stream_ends_when_the_last_number_is_reached() {
        let world = world();
        world.persist_numbered("d", 1..=3).await;
        let mut events = world.read.events_by_persistence_id(&id("d"), 0..=4);
        assert_eq!(take_texts(&mut events, 3).await, ["d-1", "d-2", "d-3"]);
        assert_silent(&mut events).await;
        world.persist_numbered("d", 4..=5).await;
        assert_eq!(texts(events).await, ["d-4"]);
    }

    /// How little is sent ahead of what is taken is measured in `query_pull.rs`.
    #[tokio::test(start_paused = true)]
    async fn events_wait_until_they_are_taken() {
        let world = world();
        world.persist_numbered("e", 1..=3).await;
        let mut events = world.read.events_by_persistence_id(&id("e"), 0..=NO_BOUND);
        assert_eq!(take_texts(&mut events, 2).await, ["e-1", "e-2"]);
        world.persist_numbered("e", 4..=4).await;
        assert_eq!(take_texts(&mut events, 2).await, ["e-3", "e-4"]);
        assert_silent(&mut events).await;
    }

    #[tokio::test]
    async fn an_envelope_tells_number_time_tags_and_offset() {
        let world = world();
        world.persist("a", ["a green apple"]).await;
        let mut events = world.read.events_by_persistence_id(&id("a"), 1..=NO_BOUND);
        let envelope = &take(&mut events, 1).await[0];
        assert!(envelope.timestamp.0 > 0);
        assert_eq!((envelope.persistence_id.as_str(), envelope.sequence_number.0), ("a", 1));
        assert_eq!(envelope.tags, ["apple", "green"]);
        assert_eq!(envelope.offset, Offset::Sequence(SequenceNumber(1)));
    }
}

mod current_events_by_persistence_id {
    use super::*;

    #[tokio::test]
    async fn existing_events_are_found_within_the_bounds() {
        let world = world();
        world.persist_numbered("a", 1..=3).await;
        assert_eq!(world.current("a", 0..=NO_BOUND).await, ["a-1", "a-2", "a-3"]);
        assert_eq!(world.current("a", 0..=2).await, ["a-1", "a-2"]);
        assert_eq!(world.current("a", 2..=2).await, ["a-2"]);
    }

    #[tokio::test]
    async fn an_event_that_is_stored_after_the_start_is_not_shown() {
        let world = world();
        world.persist_numbered("f", 1..=3).await;
        let mut events = world.read.current_events_by_persistence_id(&id("f"), 0..=NO_BOUND).await.expect("begins");
        world.persist_numbered("f", 4..=4).await;
        assert_eq!(take_texts(&mut events, 2).await, ["f-1", "f-2"]);
        assert_eq!(texts(events).await, ["f-3"]);
    }

    #[tokio::test]
    async fn nothing_is_shown_of_a_journal_whose_events_are_deleted() {
        let world = world();
        world.persist_numbered("g", 1..=3).await;
        world.delete("g", NO_BOUND).await;
        assert_eq!(world.current("g", 0..=NO_BOUND).await, [""; 0]);
        assert_eq!(world.current("g", 0..=0).await, [""; 0]);
    }

    #[tokio::test]
    async fn what_is_left_behind_a_deletion_is_shown() {
        let world = world();
        world.persist_numbered("h", 1..=3).await;
        world.delete("h", 2).await;
        assert_eq!(world.current("h", 0..=NO_BOUND).await, ["h-3"]);
    }

    #[tokio::test]
    async fn nothing_is_shown_where_nothing_is() {
        let world = world();
        world.persist_numbered("k", 1..=3).await;
        for (name, numbers) in
            [("none", 0..=NO_BOUND), ("none", 0..=0), ("k", 0..=0), ("k", RangeInclusive::new(4, 3)), ("k", 4..=9)]
        {
            assert_eq!(world.current(name, numbers.clone()).await, [""; 0], "{name} {numbers:?}");
        }
    }
}

mod events_by_tag {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn new_events_are_found() {
        let world = world();
        world.persist("b", ["a black car"]).await;
        let mut black = world.read.events_by_tag("black", &Offset::START).await.expect("begins");
        assert_eq!(take_texts(&mut black, 1).await, ["a black car"]);
        assert_silent(&mut black).await;
        world.persist("d", ["a black dog", "a white cat", "a black night"]).await;
        assert_eq!(take_texts(&mut black, 2).await, ["a black dog", "a black night"]);
        assert_silent(&mut black).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_after_an_offset_begins_with_what_comes_next() {
        let world = world();
        let names = neighbours(2);
        world.persist(&names[0], ["a green apple", "a green banana"]).await;
        world.persist(&names[1], ["a green leaf", "a green frog"]).await;
        let mut green = world.read.events_by_tag("green", &Offset::START).await.expect("begins");
        let second = take(&mut green, 2).await.remove(1);
        assert_eq!(text(&second), "a green banana");
        let mut rest = world.read.events_by_tag("green", &second.offset).await.expect("begins");
        assert_eq!(take_texts(&mut rest, 2).await, ["a green leaf", "a green frog"]);
        assert_silent(&mut rest).await;
    }
}

mod current_events_by_tag {
    use super::*;

    async fn tagged(world: &World, tag: &str) -> Vec<String> {
        texts(world.read.current_events_by_tag(tag, &Offset::START).await.expect("begins")).await
    }

    #[tokio::test]
    async fn existing_events_are_found_under_each_of_their_tags() {
        let world = world();
        let names = neighbours(2);
        world.persist(&names[0], ["hello", "a green apple", "a blue sky", "a green banana"]).await;
        world.persist(&names[1], ["a black car", "a green leaf"]).await;
        assert_eq!(tagged(&world, "green").await, ["a green apple", "a green banana", "a green leaf"]);
        assert_eq!(tagged(&world, "black").await, ["a black car"]);
        assert_eq!(tagged(&world, "apple").await, ["a green apple"]);
        assert_eq!(tagged(&world, "pink").await, [""; 0]);
        let mut green = world.read.current_events_by_tag("green", &Offset::START).await.expect("begins");
        while let Some(envelope) = green.try_next().await.expect("is read") {
            assert!(envelope.tags.contains(&"green".to_owned()) && envelope.timestamp.0 > 0, "{envelope:?}");
        }
    }

    #[tokio::test]
    async fn an_event_that_is_stored_after_the_start_is_not_shown() {
        let world = world();
        world.persist("a", ["a green apple"]).await;
        let green = world.read.current_events_by_tag("green", &Offset::START).await.expect("begins");
        world.persist("a", ["a green banana"]).await;
        world.persist("b", ["a green leaf"]).await;
        assert_eq!(texts(green).await, ["a green apple"]);
    }

    #[tokio::test]
    async fn a_query_after_an_offset_begins_with_what_comes_next() {
        let world = world();
        for name in ["a", "b", "c", "d", "e"] {
            world.persist(name, ["a green apple", "a green banana"]).await;
        }
        let all = world.read.current_events_by_tag("green", &Offset::START).await.expect("begins");
        let all: Vec<_> = all.try_collect().await.expect("is read");
        assert_eq!(all.len(), 10);
        for (index, envelope) in all.iter().enumerate() {
            let rest = world.read.current_events_by_tag("green", &envelope.offset).await.expect("begins");
            let rest: Vec<_> =
                rest.map_ok(|envelope| (envelope.persistence_id, envelope.sequence_number)).try_collect().await.expect("is read");
            let rest: BTreeSet<_> = rest.into_iter().collect();
            let expected: BTreeSet<_> =
                all[index + 1..].iter().map(|envelope| (envelope.persistence_id.clone(), envelope.sequence_number)).collect();
            assert_eq!(rest, expected, "after {}", envelope.offset);
        }
    }

    #[tokio::test]
    async fn more_events_than_a_page_holds_come_all_and_in_order() {
        let world = world();
        let expected: Vec<_> = (0..2500).map(|number| format!("a green apple {number}")).collect();
        let mut writer = world.cairn.journal("many").expect("a name").claim().await.expect("is claimed");
        for texts in expected.chunks(250) {
            writer.append_all(texts.iter().map(|text| NewEvent::from(text.clone()).tagged("green"))).await.expect("is stored");
        }
        assert_eq!(tagged(&world, "green").await, expected);
    }
}

mod all_events {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn events_of_a_shard_come_in_the_order_in_which_they_were_stored() {
        let world = world();
        let names = neighbours(3);
        let mut all = world.read.all_events(&Offset::START).await.expect("begins");
        world.persist(&names[0], ["hello"]).await;
        assert_eq!(take_texts(&mut all, 1).await, ["hello"]);
        world.persist(&names[0], ["world"]).await;
        world.persist(&names[1], ["test"]).await;
        assert_eq!(take_texts(&mut all, 2).await, ["world", "test"]);
        world.persist(&names[0], ["again"]).await;
        let fourth = take(&mut all, 1).await.remove(0);
        world.persist(&names[2], ["c"]).await;
        let mut rest = world.read.all_events(&fourth.offset).await.expect("begins");
        assert_eq!(take_texts(&mut rest, 1).await, ["c"]);
        assert_silent(&mut rest).await;
    }

    #[tokio::test]
    async fn the_current_ones_are_those_of_the_start() {
        let world = world();
        let none = world.read.current_all_events(&Offset::START).await.expect("begins");
        let names = neighbours(2);
        world.persist_numbered(&names[0], 1..=150).await;
        assert_eq!(texts(none).await, [""; 0]);
        let some = world.read.current_all_events(&Offset::START).await.expect("begins");
        world.persist_numbered(&names[1], 1..=1).await;
        assert_eq!(texts(some).await, (1..=150).map(|number| format!("{}-{number}", names[0])).collect::<Vec<_>>());
    }
}

mod events_by_slices {
    use super::*;

    #[tokio::test]
    async fn each_event_is_in_just_one_of_the_ranges_and_of_its_entity_type() {
        let world = world();
        for index in 0..20 {
            world.persist_numbered(&format!("Account|{index}"), 1..=2).await;
            world.persist_numbered(&format!("Accounting|{index}"), 1..=1).await;
        }
        for ranges in [1, 2, 4, 8, 64] {
            let mut seen = Vec::new();
            for slices in ReadJournal::slice_ranges(ranges) {
                let events =
                    world.read.current_events_by_slices(Some("Account"), slices.clone(), &Offset::START).await.expect("begins");
                let events: Vec<_> = events.try_collect().await.expect("is read");
                assert!(events.iter().all(|event| slices.contains(&ReadJournal::slice_of(&event.persistence_id))));
                seen.extend(events.into_iter().map(|event| (event.persistence_id, event.sequence_number)));
            }
            assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (40, 40), "{ranges} ranges");
        }
        let all = world.read.current_events_by_slices(None, 0..=1023, &Offset::START).await.expect("begins");
        assert_eq!(texts(all).await.len(), 60);
    }

    /// Whose, which one.
    fn key(envelope: &Envelope<StoredEvent>) -> (PersistenceId, SequenceNumber) {
        (envelope.persistence_id.clone(), envelope.sequence_number)
    }

    /// Journals in the lower and in the upper half of the slices, as many of each.
    fn halves(count: usize) -> [Vec<String>; 2] {
        [0..=511, 512..=1023].map(|slices| {
            let names = (0..).map(|index| format!("Account|{index}"));
            names.filter(|name| slices.contains(&ReadJournal::slice_of(&id(name)))).take(count).collect()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn existing_events_are_found_and_then_new_ones_of_the_slices_and_the_entity_type_alone() {
        let world = world();
        let [lower, upper] = halves(6);
        for name in lower.iter().chain(&upper) {
            world.persist_numbered(name, 1..=2).await;
        }
        let mut events = world.read.events_by_slices(Some("Account"), 0..=511, &Offset::START).await.expect("begins");
        let mut seen: Vec<_> = take(&mut events, 12).await.iter().map(key).collect();
        assert_silent(&mut events).await;
        for name in upper.iter().chain(&lower) {
            world.persist_numbered(name, 3..=3).await;
        }
        let other = neighbours(1).remove(0);
        world.persist_numbered(&other, 1..=3).await;
        seen.extend(take(&mut events, 6).await.iter().map(key));
        assert_silent(&mut events).await;
        for name in &lower {
            let numbers: Vec<_> = seen.iter().filter(|(of, _)| of.as_str() == name).map(|(_, number)| number.0).collect();
            assert_eq!(numbers, [1, 2, 3], "{name} in order, each once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_after_an_offset_gives_the_rest_both_current_and_live() {
        let world = world();
        let [lower, upper] = halves(4);
        for number in 1..=3 {
            for name in lower.iter().chain(&upper) {
                world.persist_numbered(name, number..=number).await;
            }
        }
        let all = world.read.current_events_by_slices(Some("Account"), 0..=1023, &Offset::START).await.expect("begins");
        let all: Vec<_> = all.try_collect().await.expect("is read");
        assert_eq!(all.len(), 24);
        for (index, envelope) in all.iter().enumerate() {
            let expected: BTreeSet<_> = all[index + 1..].iter().map(key).collect();
            let current = world.read.current_events_by_slices(Some("Account"), 0..=1023, &envelope.offset).await.expect("begins");
            let current: Vec<_> = current.map_ok(|envelope| key(&envelope)).try_collect().await.expect("is read");
            assert_eq!((current.len(), current.into_iter().collect()), (expected.len(), expected.clone()), "{}", envelope.offset);
            let mut live = world.read.events_by_slices(Some("Account"), 0..=1023, &envelope.offset).await.expect("begins");
            let seen: BTreeSet<_> = take(&mut live, expected.len()).await.iter().map(key).collect();
            assert_eq!(seen, expected, "live after {}", envelope.offset);
            assert_silent(&mut live).await;
        }
    }

    #[tokio::test]
    async fn slices_that_are_none_are_refused() {
        let world = world();
        for slices in [RangeInclusive::new(5, 4), 0..=1024] {
            let refused = world.read.events_by_slices(None, slices, &Offset::START).await;
            assert!(matches!(refused.err(), Some(Error::Invalid { .. })));
        }
        assert!(ReadJournal::slice_ranges(0).is_empty() && ReadJournal::slice_ranges(3).is_empty());
    }
}

mod persistence_ids {
    use super::*;

    async fn names(count: usize, stream: &mut (impl Stream<Item = Result<PersistenceId, Error>> + Unpin)) -> Vec<String> {
        let mut names: Vec<String> =
            stream.by_ref().take(count).map_ok(|name| name.as_str().to_owned()).try_collect().await.expect("is read");
        names.sort();
        names
    }

    #[tokio::test(start_paused = true)]
    async fn existing_ones_are_found_and_then_new_ones_each_once() {
        let world = world();
        world.persist_numbered("e", 1..=10).await;
        world.persist_numbered("f", 1..=1).await;
        let mut ids = world.read.persistence_ids().await.expect("begins");
        assert_eq!(names(2, &mut ids).await, ["e", "f"]);
        assert_silent(&mut ids).await;
        world.persist_numbered("g", 1..=10).await;
        world.persist_numbered("e", 11..=12).await;
        assert_eq!(names(1, &mut ids).await, ["g"]);
        assert_silent(&mut ids).await;
        for name in ["h", "i", "j"] {
            world.persist_numbered(name, 1..=1).await;
        }
        assert_eq!(names(3, &mut ids).await, ["h", "i", "j"]);
    }

    #[tokio::test]
    async fn the_current_ones_are_those_of_the_start_each_once() {
        let world = world();
        for name in ["a", "b", "c"] {
            world.persist_numbered(name, 1..=20).await;
        }
        world.delete("c", NO_BOUND).await;
        world.cairn.journal("claimed only").expect("a name").claim().await.expect("is claimed");
        let mut ids = world.read.current_persistence_ids(None).await.expect("begins");
        world.persist_numbered("d", 1..=1).await;
        assert_eq!(names(9, &mut ids).await, ["a", "b", "c"]);
        let mut page = world.read.current_persistence_ids(Some(&id("a"))).await.expect("begins").take(2);
        assert_eq!(names(9, &mut page).await, ["b", "c"]);
    }
}

#[tokio::test]
async fn the_highest_number_and_one_event_are_told() {
    let world = world();
    world.persist_numbered("a", 1..=3).await;
    world.delete("a", 1).await;
    assert_eq!(world.read.current_last_sequence_number(&id("a")).await.expect("is read"), Some(SequenceNumber(3)));
    assert_eq!(world.read.current_last_sequence_number(&id("none")).await.expect("is read"), None);
    let loaded = world.read.load(&id("a"), SequenceNumber(2)).await.expect("is read");
    assert_eq!(loaded.as_ref().map(text), Some("a-2".to_owned()));
    assert_eq!(world.read.load(&id("a"), SequenceNumber(1)).await.expect("is read"), None);
}

#[tokio::test]
async fn an_offset_is_a_text_and_back_and_fits_only_its_cluster() {
    let world = world();
    for name in ["a", "b", "c", "d"] {
        world.persist(name, ["a green apple"]).await;
    }
    let all: Vec<_> = world.read.current_all_events(&Offset::START).await.expect("begins").try_collect().await.expect("is read");
    for offset in all.iter().map(|envelope| envelope.offset.clone()).chain([Offset::START, Offset::Sequence(SequenceNumber(7))]) {
        assert_eq!(offset.to_string().parse(), Ok(offset.clone()));
        let json = serde_json::to_string(&offset).expect("is written");
        assert_eq!(serde_json::from_str::<Offset>(&json).expect("is read"), offset);
    }
    for text in ["", "sequence:", "sequence:x", "positions:", "positions:4,4=1", "positions:4,1=1,1=2", "positions:4,1"] {
        assert!(text.parse::<Offset>().is_err(), "{text}");
    }
    for foreign in [Offset::Sequence(SequenceNumber(1)), "positions:64,63=9".parse().expect("an offset")] {
        assert!(matches!(world.read.all_events(&foreign).await.err(), Some(Error::Invalid { .. })));
    }
}

/// The tag stream goes on through what breaks: nothing is lost, nothing comes twice, and each offset resumes with exactly the rest.
#[tokio::test]
async fn a_live_tag_stream_outlives_changes_of_the_leader_and_resumes_from_every_offset() {
    let world = world();
    let mut green = world.read.events_by_tag("green", &Offset::START).await.expect("begins");
    world.cluster.break_streams_after(Some(3));
    for round in 0..6u16 {
        for name in ["a", "b", "c", "d"] {
            world.persist(name, ["a green apple", "a green banana", "no colour"]).await;
        }
        world.cluster.lead(round % 3);
        world.cluster.break_connections();
    }
    let seen = take(&mut green, 48).await;
    let key = |envelope: &Envelope<StoredEvent>| (envelope.persistence_id.clone(), envelope.sequence_number);
    let keys: Vec<_> = seen.iter().map(key).collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 48, "each once");
    for name in ["a", "b", "c", "d"] {
        let numbers: Vec<_> = keys.iter().filter(|(of, _)| of.as_str() == name).map(|(_, number)| number.0).collect();
        assert_eq!(numbers, (0..6).flat_map(|round| [round * 3 + 1, round * 3 + 2]).collect::<Vec<_>>(), "{name} in order");
    }
    for (index, envelope) in seen.iter().enumerate() {
        let mut rest = world.read.events_by_tag("green", &envelope.offset).await.expect("begins");
        let rest: BTreeSet<_> = take(&mut rest, 47 - index).await.iter().map(key).collect();
        assert_eq!(rest, keys[index + 1..].iter().cloned().collect(), "after {}", envelope.offset);
    }
}

/// Reads texts; a stone stands for nothing, and an apple for its halves.
struct Halves;

impl EventFormat<String> for Halves {
    fn to_journal(&self, event: &String) -> Result<Vec<NewEvent>, FormatError> {
        Ok(vec![NewEvent::from(event.clone())])
    }

    fn from_journal(&self, stored: &StoredEvent) -> Result<Vec<String>, FormatError> {
        let payload = &stored.event.payload;
        match &payload.bytes[..] {
            b"a stone" => Ok(Vec::new()),
            b"a green apple" => Ok(vec!["left".to_owned(), "right".to_owned()]),
            _ => Err(FormatError {
                message: "neither".to_owned(),
                serializer_id: payload.serializer_id,
                manifest: payload.manifest.clone(),
            }),
        }
    }
}

#[tokio::test]
async fn typed_events_are_those_of_the_format_and_what_it_cannot_read_ends_the_stream() {
    let world = world();
    world.persist("account-1", ["a stone", "a green apple", "a pear", "a green apple"]).await;
    let all = world.read.current_all_events(&Offset::START).await.expect("begins");
    let mut events = typed(all, Arc::new(Halves));
    let halves = events.try_next().await.expect("is read").expect("is there");
    assert_eq!(
        halves.iter().map(|half| (half.sequence_number.0, half.event.as_str())).collect::<Vec<_>>(),
        [(2, "left"), (2, "right")]
    );
    assert!(matches!(events.try_next().await, Err(QueryError::Format { sequence_number: SequenceNumber(3), .. })));
    assert!(events.next().await.is_none(), "it ends after its first error");
}
