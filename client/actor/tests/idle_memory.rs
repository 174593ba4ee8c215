//! What an actor costs that has nothing to do, its state excluded.
#![expect(unsafe_code, reason = "an allocator that counts has no safe form")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cairn_actor::actor_ref::ReplyTo;
use cairn_actor::behavior::Behavior;
use cairn_actor::context::Context;
use cairn_actor::effect::Effect;
use cairn_actor::kind::ActorKind;
use cairn_actor::store::{Answer, Claim, Events, JournalStore, RecoverRequest, Recovered, SnapshotStore};
use cairn_actor::system::ActorSystem;
use cairn_client::{Criteria, Deletion, NewSnapshot, PersistenceId, SequenceNumber, Snapshot, Write, WriteReply, WriterEpoch};
use futures::StreamExt;
use std::ops::RangeInclusive;

const ACTORS: usize = 100_000;
/// So many start before the count, for what is made once.
const ACTORS_BEFORE: usize = 1_000;
/// The figure that is promised, in bytes.
const BYTES_MAX: usize = 2_560;
/// What an allocator of the system adds to a block, and rounds it up to.
const BLOCK_HEADER: usize = 8;
const BLOCK_STEP: usize = 16;

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

fn block(layout: Layout) -> usize {
    (layout.size() + BLOCK_HEADER).next_multiple_of(BLOCK_STEP.max(layout.align()))
}

// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(block(layout), Ordering::Relaxed);
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(block(layout), Ordering::Relaxed);
        // SAFETY: as for the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Journals without events, that cost nothing.
struct Empty;

impl JournalStore for Empty {
    fn recover(&self, request: RecoverRequest) -> Answer<'_, Recovered> {
        let claim = request.writer.map(|writer| Claim { writer, epoch: WriterEpoch(1) });
        let events = futures::stream::empty().boxed();
        Box::pin(async move { Ok(Recovered { claim, snapshot: None, events, highest: SequenceNumber(0) }) })
    }

    fn write<'a>(&'a self, _: &'a Write) -> Answer<'a, WriteReply> {
        unreachable!("nobody writes")
    }

    fn replay(&self, _: &PersistenceId, _: RangeInclusive<u64>, _: u64) -> Events {
        unreachable!("nobody reads")
    }

    fn follow(&self, _: &PersistenceId, _: SequenceNumber) -> Events {
        unreachable!("nobody reads")
    }

    fn highest(&self, _: &PersistenceId) -> Answer<'_, SequenceNumber> {
        unreachable!("nobody reads")
    }

    fn delete_to(&self, _: &PersistenceId, _: SequenceNumber, _: Deletion, _: Option<&Claim>) -> Answer<'_, ()> {
        unreachable!("nobody deletes")
    }
}

impl SnapshotStore for Empty {
    fn load(&self, _: &PersistenceId, _: Criteria) -> Answer<'_, Option<Snapshot>> {
        unreachable!("nobody loads")
    }

    fn save(&self, _: &PersistenceId, _: NewSnapshot, _: Option<&Claim>) -> Answer<'_, i64> {
        unreachable!("nobody saves")
    }

    fn delete(&self, _: &PersistenceId, _: SequenceNumber, _: Option<i64>, _: Option<&Claim>) -> Answer<'_, ()> {
        unreachable!("nobody deletes")
    }

    fn delete_matching(&self, _: &PersistenceId, _: Criteria, _: Option<&Claim>) -> Answer<'_, ()> {
        unreachable!("nobody deletes")
    }
}

struct Idle;

impl Behavior for Idle {
    type State = ();
    type Command = ReplyTo<()>;
    type Event = ();

    fn empty_state(&self) {}

    fn apply((): &mut (), (): &()) {}

    fn handle(&mut self, (): &(), command: ReplyTo<()>, _: &mut Context<Self>) -> Effect<Self> {
        Effect::reply(command, ())
    }
}

#[tokio::test]
async fn idle_actor_costs_less_than_it_is_promised_to() {
    let system = ActorSystem::builder(Empty).seed(1).build();
    let entities = system.entities(ActorKind::cbor(|_| Idle).passivate_after(Duration::from_secs(3600)));
    let start = |number: usize| {
        let entities = entities.clone();
        async move {
            let entity = entities.get(format!("an-entity-with-a-usual-name-{number}")).unwrap();
            entity.ask(Duration::from_secs(60), |reply_to| reply_to).await.unwrap();
        }
    };
    futures::stream::iter(0..ACTORS_BEFORE).for_each_concurrent(16, start).await;
    let before = BYTES.load(Ordering::Relaxed);
    futures::stream::iter(ACTORS_BEFORE..ACTORS_BEFORE + ACTORS).for_each_concurrent(16, start).await;
    let each = (BYTES.load(Ordering::Relaxed) - before) / ACTORS;
    println!("{each} bytes an actor");
    assert!(each < BYTES_MAX, "{each} bytes an actor");
}
