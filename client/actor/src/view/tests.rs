//! The cases of contract section 3.8, and what a view adds to them, over a cluster in memory with simulated time.

mod pushed;
mod snapshots;
mod troubled;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_client::memory::MemoryCairn;
use cairn_client::{Error, Event, JournalWriter, Position, SequenceNumber, StoredEvent, Timestamp, WriterId};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout};

use super::{AutoUpdate, Update, UpdateError, UpdateFailure, View, ViewContext, ViewKind, ViewRef};
use crate::actor_ref::{ReplyTo, StopReason, TellError};
use crate::adapter::Format;
use crate::backoff::Backoff;
use crate::codec::{Cbor, Json};
use crate::format::Codec;
use crate::kind::Supervision;
use crate::recovery::Recovery;
use crate::replay_filter::{ReplayFilterMode, ReplayFilterSettings};
use crate::signal::Signal;
use crate::system::ActorSystem;

use troubled::{Trouble, Troubled, away};

const JOURNAL: &str = "account-1";
const VIEW: &str = "view-of-account-1";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[derive(Debug)]
enum Message {
    Say(&'static str),
    Do(fn(&mut ViewContext<Message>)),
    /// Puts what is said aside until it opens again.
    Close,
    Open,
    Read(ReplyTo<Vec<String>>),
}

/// Tells what it sees.
struct Probe {
    seen: UnboundedSender<String>,
    /// Events at which it panics, once each.
    panics: Arc<Mutex<Vec<&'static str>>>,
    is_closed: bool,
    accepts_snapshots: bool,
}

impl Probe {
    fn tell(&self, text: impl Into<String>) {
        // A test that has ended looks no more.
        let _ = self.seen.send(text.into());
    }
}

impl View for Probe {
    type State = Vec<String>;
    type Event = String;
    type Message = Message;

    fn empty_state(&self) -> Vec<String> {
        Vec::new()
    }

    fn apply(&mut self, state: &mut Vec<String>, event: &String, context: &mut ViewContext<Message>) {
        let mut panics = self.panics.lock().unwrap();
        if let Some(at) = panics.iter().position(|panic| panic == event) {
            panics.remove(at);
            drop(panics);
            panic!("at {event}");
        }
        state.push(event.clone());
        let recovering = if context.is_recovering() { " at start" } else { "" };
        self.tell(format!("{event}-{}{recovering}", context.last_sequence_number()));
    }

    fn handle(&mut self, state: &mut Vec<String>, message: Message, context: &mut ViewContext<Message>) {
        match message {
            Message::Say(_) if self.is_closed => context.stash(message),
            Message::Say(text) => self.tell(text),
            Message::Do(ask) => ask(context),
            Message::Close => self.is_closed = true,
            Message::Open => {
                self.is_closed = false;
                context.unstash_all();
            }
            Message::Read(reply_to) => reply_to.send(state.clone()),
        }
    }

    fn accepts_snapshot(&self, _: &Vec<String>, _: SequenceNumber) -> bool {
        self.accepts_snapshots
    }

    fn update_failed(&mut self, failure: &UpdateFailure, _: &mut ViewContext<Message>) {
        self.tell(format!("failed: {failure}"));
    }

    fn on_signal(&mut self, signal: Signal<Vec<String>>, _: &mut Vec<String>, context: &mut ViewContext<Message>) {
        self.tell(match signal {
            Signal::SnapshotSaved { number, .. } => format!("saved {number}, {}", context.snapshot_sequence_number()),
            Signal::SnapshotLoaded { snapshot } => format!("loaded {snapshot:?}"),
            Signal::SnapshotDeleted { number } => format!("deleted {number}"),
            Signal::SnapshotsDeleted { .. } => "deleted some".to_owned(),
            other => format!("{other:?}"),
        });
    }
}

/// A journal with its actor, and what views of it see.
struct World {
    memory: MemoryCairn,
    store: Troubled,
    system: ActorSystem,
    actor: JournalWriter,
    panics: Arc<Mutex<Vec<&'static str>>>,
    seen: UnboundedReceiver<String>,
    tell: UnboundedSender<String>,
}

impl World {
    async fn new(events: &[&'static str]) -> Self {
        let memory = MemoryCairn::new();
        let cairn = memory.client();
        let actor = cairn.journal(JOURNAL).unwrap().claim().await.unwrap();
        let store = Troubled::new(cairn);
        let system = ActorSystem::builder(store.clone()).seed(1).recoveries_max(1).build();
        let (tell, seen) = unbounded_channel();
        let mut world = Self { memory, store, system, actor, panics: Arc::default(), seen, tell };
        world.persist(events).await;
        world
    }

    /// What the actor does: it is never fenced by a view.
    async fn persist(&mut self, events: &[&'static str]) {
        for event in events {
            self.actor.append(Json.encode(&(*event).to_owned()).unwrap()).await.expect("a view fences nobody");
        }
    }

    fn kind(&self) -> ViewKind<Probe> {
        let (seen, panics) = (self.tell.clone(), self.panics.clone());
        let make = move |_: &super::ViewIds| Probe {
            seen: seen.clone(),
            panics: panics.clone(),
            is_closed: false,
            accepts_snapshots: true,
        };
        let backoff = Backoff { first: seconds(1), longest: seconds(1), jitter: 0.0 };
        ViewKind::new(make, Format::new(Json)).snapshots(Cbor).supervision(Supervision {
            backoff,
            restarts_max: 3,
            ..Supervision::default()
        })
    }

    fn spawn(&self, kind: &ViewKind<Probe>) -> ViewRef<Message> {
        self.system.spawn_view(kind, JOURNAL, VIEW).unwrap()
    }

    /// A view that updates itself in this way, or with the default.
    fn view(&self, auto_update: impl Into<Option<AutoUpdate>>) -> ViewRef<Message> {
        let kind = self.kind();
        self.spawn(&match auto_update.into() {
            Some(auto_update) => kind.auto_update(auto_update),
            None => kind,
        })
    }

    /// The next thing that is seen, whenever that is.
    async fn next(&mut self) -> String {
        timeout(seconds(3600), self.seen.recv()).await.expect("something is seen").expect("the test can tell, too")
    }

    /// The next things that are seen.
    async fn expect(&mut self, expected: &[&str]) {
        for text in expected {
            assert_eq!(self.next().await, *text);
        }
    }

    /// Nothing is seen for so long.
    async fn expect_nothing(&mut self, time: Duration) {
        if let Ok(seen) = timeout(time, self.seen.recv()).await {
            panic!("nothing was to be seen: {seen:?}");
        }
    }
}

async fn update(view: &ViewRef<Message>, update: Update) -> Result<u64, UpdateError> {
    view.update(seconds(600), update).await.map(|last| last.0)
}

async fn state(view: &ViewRef<Message>) -> Vec<String> {
    view.ask(seconds(600), Message::Read).await.unwrap()
}

async fn tell(view: &ViewRef<Message>, message: Message) {
    view.tell(message).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_view_sees_what_is_there_when_it_starts() {
    let mut world = World::new(&["a", "b"]).await;
    let view = world.view(AutoUpdate::Off);
    tell(&view, Message::Say("a message waits until the first update is over")).await;
    world.expect(&["a-1 at start", "b-2 at start", "a message waits until the first update is over"]).await;
    assert_eq!(state(&view).await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_view_of_nothing_waits_for_something() {
    let mut world = World::new(&[]).await;
    let view = world.view(None);
    assert_eq!(state(&view).await, [""; 0]);
    world.persist(&["a"]).await;
    world.expect(&["a-1"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_view_that_looks_at_intervals_sees_live_events_then_and_not_before() {
    let mut world = World::new(&["a"]).await;
    let start = Instant::now();
    let _view = world.view(AutoUpdate::every(seconds(3)));
    world.expect(&["a-1 at start"]).await;
    world.persist(&["b", "c"]).await;
    world.expect_nothing(Duration::from_millis(2900)).await;
    world.expect(&["b-2", "c-3"]).await;
    assert!(start.elapsed() >= seconds(3) && start.elapsed() < seconds(4), "{:?}", start.elapsed());
    world.persist(&["d"]).await;
    world.expect_nothing(Duration::from_millis(2900)).await;
    world.expect(&["d-4"]).await;
}

#[tokio::test(start_paused = true)]
async fn without_updates_of_its_own_a_view_is_updated_on_request() {
    let mut world = World::new(&["a"]).await;
    let view = world.view(AutoUpdate::Off);
    world.expect(&["a-1 at start"]).await;
    world.persist(&["b"]).await;
    world.expect_nothing(seconds(60)).await;
    assert_eq!(update(&view, Update::default()).await, Ok(2));
    world.expect(&["b-2"]).await;
    assert_eq!(update(&view, Update::default()).await, Ok(2), "there is nothing new");
    world.persist(&["c", "d", "e"]).await;
    assert_eq!(update(&view, Update { max: 2, ..Update::default() }).await, Ok(4));
    assert_eq!(update(&view, Update { max: 0, ..Update::default() }).await, Ok(4));
    tell(&view, Message::Do(|context| context.update(Update { awaits: false, max: u64::MAX }))).await;
    world.expect(&["c-3", "d-4", "e-5"]).await;
}

#[tokio::test(start_paused = true)]
async fn messages_wait_for_an_update_that_is_awaited_and_only_for_that() {
    let mut world = World::new(&["a"]).await;
    let view = world.view(AutoUpdate::Off);
    world.expect(&["a-1 at start"]).await;
    for (awaits, event, order) in [(true, "b", ["b-2", "said"]), (false, "c", ["said", "c-3"])] {
        world.persist(&[event]).await;
        world.store.next([Trouble::Delay(seconds(2))]);
        let updating = update(&view, Update { awaits, ..Update::default() });
        let telling = async {
            // The update is in the mailbox by then.
            sleep(seconds(1)).await;
            tell(&view, Message::Say("said")).await;
        };
        assert!(tokio::join!(updating, telling).0.is_ok());
        world.expect(&order).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_that_falls_into_another_is_done_after_it_if_it_is_awaited_and_else_is_that_one() {
    let mut world = World::new(&["a"]).await;
    let view = world.view(AutoUpdate::Off);
    world.expect(&["a-1 at start"]).await;
    world.store.replays();

    let no_wait = Update { awaits: false, ..Update::default() };
    world.store.next([Trouble::Delay(seconds(2))]);
    let (first, second) = tokio::join!(update(&view, no_wait), update(&view, no_wait));
    assert_eq!((first, second), (Ok(1), Ok(1)));
    assert_eq!(world.store.replays().len(), 1);

    world.store.next([Trouble::Delay(seconds(2))]);
    let late = async {
        sleep(seconds(1)).await;
        world.actor.append(Json.encode(&"b".to_owned()).unwrap()).await.unwrap();
        let saying = async {
            sleep(Duration::from_millis(1)).await;
            tell(&view, Message::Say("said after it")).await;
        };
        tokio::join!(update(&view, Update::default()), update(&view, Update::default()), saying)
    };
    let (_, (second, third, ())) = tokio::join!(update(&view, no_wait), late);
    assert_eq!((second, third), (Ok(2), Ok(2)));
    assert_eq!(world.store.replays().len(), 3, "each that is awaited is done, one after the other");
    world.expect(&["b-2", "said after it"]).await;
}

#[tokio::test(start_paused = true)]
async fn updates_of_limited_size_come_to_the_end_one_after_the_other() {
    let mut world = World::new(&["a", "b", "c", "d", "e"]).await;
    let _view = world.view(AutoUpdate::Every { interval: seconds(3), max: 2 });
    world.expect(&["a-1 at start", "b-2 at start"]).await;
    world.expect_nothing(Duration::from_millis(2900)).await;
    world.expect(&["c-3", "d-4"]).await;
    world.expect_nothing(Duration::from_millis(2900)).await;
    world.expect(&["e-5"]).await;
    let ranges: Vec<_> = world.store.replays().into_iter().map(|(numbers, max)| (*numbers.start(), max)).collect();
    assert_eq!(ranges, [(1, 2), (3, 2), (5, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_fails_does_not_stop_a_view() {
    let mut world = World::new(&["a", "b"]).await;
    world.store.next([Trouble::BreakAfter(1)]);
    let view = world.view(AutoUpdate::every(seconds(3)));
    let failed = format!("failed: {}", away());
    world.expect(&["a-1 at start", &failed]).await;
    tell(&view, Message::Say("it lives")).await;
    world.expect(&["it lives", "b-2"]).await;

    world.store.next([Trouble::BreakAfter(0), Trouble::BreakAfter(0)]);
    assert_eq!(update(&view, Update::default()).await, Err(UpdateError::Failed(away().into())));
    world.persist(&["c"]).await;
    world.expect(&[&failed, &failed, "c-3"]).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_panic_at_an_event_a_view_starts_again() {
    let mut world = World::new(&["a", "b", "c"]).await;
    world.panics.lock().unwrap().push("b");
    let view = world.view(None);
    tell(&view, Message::Say("kept")).await;
    world.expect(&["a-1 at start", "a-1 at start", "b-2 at start", "c-3 at start", "kept"]).await;

    world.panics.lock().unwrap().push("d");
    tell(&view, Message::Close).await;
    tell(&view, Message::Say("put aside")).await;
    assert_eq!(state(&view).await.len(), 3);
    world.persist(&["d"]).await;
    world.expect(&["a-1 at start", "b-2 at start", "c-3 at start", "d-4 at start", "put aside"]).await;
    assert_eq!(state(&view).await, ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_view_that_panics_again_and_again_is_given_up() {
    let mut world = World::new(&["a"]).await;
    world.panics.lock().unwrap().extend(["a"; 4]);
    let view = world.view(None);
    assert_eq!(view.stopped().await, StopReason::Failed("at a".to_owned()));
    assert!(matches!(view.tell(Message::Open).await, Err(TellError::Stopped(Message::Open))));
    world.expect_nothing(seconds(60)).await;
}

#[tokio::test(start_paused = true)]
async fn messages_are_put_aside_and_brought_back_in_order() {
    let mut world = World::new(&[]).await;
    let view = world.view(None);
    for message in [Message::Close, Message::Say("1"), Message::Say("2"), Message::Say("3")] {
        tell(&view, message).await;
    }
    world.expect_nothing(seconds(1)).await;
    tell(&view, Message::Open).await;
    tell(&view, Message::Say("4")).await;
    world.expect(&["1", "2", "3", "4"]).await;
}

#[tokio::test(start_paused = true)]
async fn one_message_can_be_brought_back_and_no_more_than_have_room_are_kept() {
    let mut world = World::new(&[]).await;
    let view = world.spawn(&world.kind().stash_room(2));
    for message in [Message::Close, Message::Say("1"), Message::Say("2"), Message::Say("dropped")] {
        tell(&view, message).await;
    }
    tell(&view, Message::Do(|context| context.unstash())).await;
    tell(&view, Message::Open).await;
    world.expect(&["2", "1"]).await;
    world.expect_nothing(seconds(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_falls_silent_fails_the_update_after_one_to_two_times_what_is_allowed() {
    let mut world = World::new(&["a", "b"]).await;
    world.store.next([Trouble::HangAfter(1)]);
    let start = Instant::now();
    world.spawn(&world.kind().update_idle(seconds(10)).auto_update(AutoUpdate::every(seconds(100))));
    world.expect(&["a-1 at start", "failed: nothing came for 10s"]).await;
    assert!(
        start.elapsed() >= seconds(10) && start.elapsed() <= seconds(20) + Duration::from_millis(10),
        "{:?}",
        start.elapsed()
    );
    world.expect(&["b-2"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_slow_but_not_silent_fails_nothing() {
    let mut world = World::new(&["a", "b", "c", "d"]).await;
    world.store.next([Trouble::Slow(seconds(9))]);
    world.spawn(&world.kind().update_idle(seconds(10)).auto_update(AutoUpdate::Off));
    world.expect(&["a-1 at start", "b-2 at start", "c-3 at start", "d-4 at start"]).await;
}

#[tokio::test(start_paused = true)]
async fn only_so_many_recover_at_once() {
    let mut world = World::new(&["a"]).await;
    world.store.next([Trouble::HangAfter(0)]);
    let start = Instant::now();
    let kind = world.kind().update_idle(seconds(10)).auto_update(AutoUpdate::Off);
    world.system.spawn_view(&kind, JOURNAL, "first").unwrap();
    world.expect_nothing(seconds(9)).await;
    world.system.spawn_view(&kind, JOURNAL, "second").unwrap();
    world.expect(&["failed: nothing came for 10s", "a-1 at start"]).await;
    assert!(start.elapsed() >= seconds(10));
}

fn stored(number: u64, writer: &'static str, event: &str) -> StoredEvent {
    let payload = Json.encode(&event.to_owned()).unwrap();
    StoredEvent {
        event: Event { sequence_number: SequenceNumber(number), payload, ..Event::default() },
        position: Position(number),
        timestamp: Timestamp(1),
        writer: WriterId::new(writer).unwrap(),
        write_first: SequenceNumber(number),
        deleted: false,
    }
}

#[tokio::test(start_paused = true)]
async fn events_out_of_order_fail_the_update_and_are_not_applied() {
    let mut world = World::new(&["a", "b", "c"]).await;
    world.store.next([Trouble::Script(vec![stored(1, "w", "a"), stored(1, "w", "a")])]);
    world.view(AutoUpdate::every(seconds(3)));
    world.expect(&["a-1 at start", "failed: event 1 after 1", "b-2", "c-3"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_does_not_read_fails_the_update_before_it_is_applied() {
    let mut world = World::new(&["a"]).await;
    world.actor.append("no JSON").await.unwrap();
    let view = world.view(AutoUpdate::Off);
    assert_eq!(world.next().await, "a-1 at start");
    assert!(world.next().await.starts_with("failed: event 2: "));
    assert!(matches!(update(&view, Update::default()).await, Err(UpdateError::Failed(UpdateFailure::Format { .. }))));
    assert_eq!(state(&view).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn what_several_writers_wrote_over_each_other_can_be_filtered() {
    let mut world = World::new(&[]).await;
    let script = vec![stored(1, "old", "a"), stored(2, "old", "b"), stored(2, "new", "B"), stored(3, "new", "c")];
    world.store.next([Trouble::Script(script.clone())]);
    let filter = ReplayFilterSettings { window: NonZeroUsize::new(2).unwrap(), ..ReplayFilterSettings::default() };
    let tell = world.tell.clone();
    let kind = world.kind().replay_filter(filter).auto_update(AutoUpdate::Off);
    // A test that has ended looks no more.
    let first =
        world.spawn(&kind.watch_anomalies(move |id, found| drop(tell.send(format!("{id}: {:?} {}", found.kind, found.number)))));
    world.expect(&["account-1: Overwritten 2", "a-1 at start", "B-2 at start", "c-3 at start"]).await;
    first.stop();

    world.store.next([Trouble::Script(script)]);
    let filter = ReplayFilterSettings { mode: ReplayFilterMode::Fail, ..filter };
    world.spawn(&world.kind().replay_filter(filter).auto_update(AutoUpdate::Off));
    let seen = [world.next().await, world.next().await].concat();
    assert!(seen.contains("a newer writer wrote"), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn the_first_update_has_the_bounds_of_the_recovery_and_later_ones_have_not() {
    let mut world = World::new(&["a", "b", "c", "d"]).await;
    let bounded = |recovery| world.kind().recovery(recovery).auto_update(AutoUpdate::Off);
    let to = bounded(Recovery { to: SequenceNumber(2), ..Recovery::default() });
    let max = bounded(Recovery { max: 1, ..Recovery::default() });
    let none = bounded(Recovery::none());
    let view = world.spawn(&to);
    world.expect(&["a-1 at start", "b-2 at start"]).await;
    assert_eq!(update(&view, Update::default()).await, Ok(4));
    world.expect(&["c-3", "d-4"]).await;
    let view = world.spawn(&max);
    world.expect(&["a-1 at start"]).await;
    assert_eq!(state(&view).await, ["a"]);
    let view = world.spawn(&none);
    assert_eq!(state(&view).await, [""; 0]);
    assert_eq!(update(&view, Update { max: 1, ..Update::default() }).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_view_has_an_id_of_its_own() {
    let world = World::new(&[]).await;
    let kind = world.kind();
    for (persistence_id, view_id) in [(JOURNAL, JOURNAL), (" ", VIEW), (JOURNAL, "")] {
        let refused = world.system.spawn_view(&kind, persistence_id, view_id);
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{persistence_id:?} {view_id:?}");
    }
    let view = world.view(None);
    assert_eq!((view.ids().persistence_id.as_str(), view.ids().view_id.as_str()), (JOURNAL, VIEW));
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_has_its_bound_and_gives_back_what_it_does_not_take() {
    let world = World::new(&[]).await;
    world.store.next([Trouble::HangAfter(0)]);
    let view = world.spawn(&world.kind().mailbox_room(1));
    view.try_tell(Message::Say("first")).unwrap();
    assert!(matches!(view.try_tell(Message::Say("second")), Err(TellError::Full(Message::Say("second")))));
}

#[tokio::test(start_paused = true)]
async fn messages_are_handled_between_events_that_do_not_end() {
    let mut world = World::new(&[]).await;
    let many = (1..=1000).map(|number| stored(number, "w", "event")).collect();
    world.store.next([Trouble::None, Trouble::Script(many)]);
    let view = world.view(AutoUpdate::Off);
    assert_eq!(state(&view).await, [""; 0]);
    let updating = update(&view, Update { awaits: false, max: u64::MAX });
    let asking = async {
        tokio::task::yield_now().await;
        state(&view).await.len()
    };
    let (updated, seen) = tokio::join!(updating, asking);
    assert_eq!(updated, Ok(1000));
    assert!(seen < 1000, "an answer does not wait for the last event: {seen}");
    world.expect(&["event-1"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_changes_does_not_disturb_a_view() {
    let mut world = World::new(&["a"]).await;
    world.view(None);
    world.expect(&["a-1 at start"]).await;
    for event in ["b", "c", "d"] {
        world.memory.break_connections();
        world.persist(&[event]).await;
    }
    world.expect(&["b-2", "c-3", "d-4"]).await;
    world.expect_nothing(seconds(60)).await;
}
