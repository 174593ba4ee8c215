//! Views with snapshots of their own.

use std::sync::Arc;

use cairn_client::{Criteria, Deletion, Error, NewSnapshot, PersistenceId, SequenceNumber};
use tokio::time::Instant;

use super::{Message, Probe, VIEW, World, away, seconds, state, tell};
use crate::actor_ref::StopReason;
use crate::adapter::Format;
use crate::codec::{Cbor, Json};
use crate::format::Codec;
use crate::recovery::Recovery;
use crate::store::SnapshotStore;
use crate::view::{AutoUpdate, ViewContext, ViewIds, ViewKind};

#[tokio::test(start_paused = true)]
async fn a_view_takes_up_from_its_own_snapshot() {
    let mut world = World::new(&["a", "b"]).await;
    let view = world.view(None);
    tell(&view, Message::Do(|context| context.save_snapshot())).await;
    world.expect(&["a-1 at start", "b-2 at start", "saved 2, 2"]).await;
    let [view_id, persistence_id] = [&view.ids().view_id, &view.ids().persistence_id];
    assert!(world.store.load(view_id, Criteria::LATEST).await.unwrap().is_some());
    assert!(world.store.load(persistence_id, Criteria::LATEST).await.unwrap().is_none(), "none of the actor");
    view.stop();
    assert_eq!(view.stopped().await, StopReason::Done);

    world.persist(&["c"]).await;
    world.store.replays();
    let view = world.view(None);
    world.expect(&["c-3 at start"]).await;
    assert_eq!(world.store.replays(), [(3..=SequenceNumber::MAX.0, u64::MAX)]);
    assert_eq!(state(&view).await, ["a", "b", "c"]);

    world.panics.lock().unwrap().push("d");
    world.persist(&["d"]).await;
    world.expect(&["c-3 at start", "d-4 at start"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_view_loads_and_deletes_its_snapshots() {
    let mut world = World::new(&["a"]).await;
    let view = world.view(None);
    for ask in [
        (|context| context.load_snapshot(Criteria::LATEST)) as fn(&mut ViewContext<Message>),
        |context| context.save_snapshot(),
        |context| context.load_snapshot(Criteria::LATEST),
        |context| context.delete_snapshot(SequenceNumber(1)),
        |context| context.delete_snapshots(Criteria::LATEST),
        |context| context.load_snapshot(Criteria::LATEST),
    ] {
        tell(&view, Message::Do(ask)).await;
    }
    world.expect(&["a-1 at start", "loaded None", "saved 1, 1"]).await;
    world.expect(&["loaded Some((SequenceNumber(1), [\"a\"]))", "deleted 1", "deleted some", "loaded None"]).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_format_for_snapshots_none_is_saved() {
    let mut world = World::new(&[]).await;
    let kind = ViewKind::new(
        {
            let seen = world.tell.clone();
            move |_| Probe { seen: seen.clone(), panics: Arc::default(), is_closed: false, accepts_snapshots: true }
        },
        Format::new(Json),
    );
    let view = world.spawn(&kind);
    tell(&view, Message::Do(|context| context.save_snapshot())).await;
    world.expect(&["SnapshotNotSaved { number: SequenceNumber(0), error: NoFormat }"]).await;
}

/// Saves something that is no state of the view.
async fn save_unreadable(world: &World, number: u64) {
    let payload = Json.encode(&"no state".to_owned()).unwrap();
    let snapshot = NewSnapshot { sequence_number: SequenceNumber(number), payload, ..NewSnapshot::default() };
    let view_id = PersistenceId::new(VIEW).unwrap();
    world.store.save(&view_id, snapshot, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_does_not_read_is_replaced_by_all_events() {
    let mut world = World::new(&["a", "b", "c"]).await;
    save_unreadable(&world, 2).await;
    let view = world.view(None);
    world.expect(&["a-1 at start", "b-2 at start", "c-3 at start"]).await;
    assert_eq!(state(&view).await, ["a", "b", "c"]);
}

/// A journal of three events, with a view's snapshot of the first that reads and one of the second that does not.
async fn with_an_older_snapshot() -> World {
    let mut world = World::new(&["a"]).await;
    let view = world.view(None);
    tell(&view, Message::Do(|context| context.save_snapshot())).await;
    tell(&view, Message::Do(|context| context.stop())).await;
    world.expect(&["a-1 at start", "saved 1, 1"]).await;
    assert_eq!(view.stopped().await, StopReason::Done);
    world.persist(&["b", "c"]).await;
    save_unreadable(&world, 2).await;
    world.store.replays();
    world
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_does_not_read_gives_way_to_an_older_one_and_the_events_after_that() {
    let mut world = with_an_older_snapshot().await;
    let view = world.view(None);
    world.expect(&["b-2 at start", "c-3 at start"]).await;
    assert_eq!(world.store.replays(), [(2..=SequenceNumber::MAX.0, u64::MAX)]);
    assert_eq!(state(&view).await, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_older_snapshot_does_not_make_up_for_events_that_are_gone() {
    let mut world = with_an_older_snapshot().await;
    world.actor.journal().delete_to(SequenceNumber(2), Deletion::Permanent).await.unwrap();
    let view = world.view(None);
    for _ in 0..4 {
        let seen = world.next().await;
        assert!(seen.starts_with("failed: the snapshot at 2 cannot be used, and the events before it are deleted"), "{seen}");
    }
    assert!(matches!(view.stopped().await, StopReason::Failed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_not_accepted_is_replaced_by_all_events() {
    let mut world = World::new(&["a", "b"]).await;
    let view = world.view(None);
    tell(&view, Message::Do(|context| context.save_snapshot())).await;
    tell(&view, Message::Do(|context| context.stop())).await;
    world.expect(&["a-1 at start", "b-2 at start", "saved 2, 2"]).await;
    assert_eq!(view.stopped().await, StopReason::Done);
    let seen = world.tell.clone();
    let make =
        move |_: &ViewIds| Probe { seen: seen.clone(), panics: Arc::default(), is_closed: false, accepts_snapshots: false };
    world.spawn(&ViewKind::new(make, Format::new(Json)).snapshots(Cbor));
    world.expect(&["a-1 at start", "b-2 at start"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_state_never_has_a_hole_where_a_snapshot_does_not_read() {
    for deleted_to in [2, 3] {
        let mut world = World::new(&["a", "b", "c"]).await;
        save_unreadable(&world, 2).await;
        world.actor.journal().delete_to(SequenceNumber(deleted_to), Deletion::Permanent).await.unwrap();
        let view = world.view(None);
        for _ in 0..4 {
            let seen = world.next().await;
            assert!(seen.starts_with("failed: the snapshot at 2 cannot be used, and the events before it are deleted"), "{seen}");
        }
        assert!(matches!(view.stopped().await, StopReason::Failed(_)));
        world.expect_nothing(seconds(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_without_a_snapshot_begins_with_the_events_that_are_left() {
    let mut world = World::new(&["a", "b", "c"]).await;
    world.actor.journal().delete_to(SequenceNumber(2), Deletion::Permanent).await.unwrap();
    world.view(None);
    world.expect(&["c-3 at start"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_view_that_cannot_load_its_snapshot_starts_again() {
    let mut world = World::new(&["a"]).await;
    world.store.fail_load(away());
    let start = Instant::now();
    world.view(None);
    world.expect(&["a-1 at start"]).await;
    assert!(start.elapsed() >= seconds(1), "after its back-off");
}

fn damaged() -> Error {
    Error::Damaged { message: "a chunk is missing".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_damaged_is_replaced_by_all_events() {
    let mut world = with_an_older_snapshot().await;
    world.store.fail_load(damaged());
    let view = world.view(None);
    world.expect(&["a-1 at start", "b-2 at start", "c-3 at start"]).await;
    assert_eq!(state(&view).await, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_whose_events_are_gone_fails_the_view_until_it_reads() {
    let mut world = with_an_older_snapshot().await;
    world.actor.journal().delete_to(SequenceNumber(1), Deletion::Permanent).await.unwrap();
    world.store.fail_load(damaged());
    world.view(None);
    let failed = format!("failed: {}", damaged());
    world.expect(&[&failed, "b-2 at start", "c-3 at start"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_above_the_bound_of_the_recovery_is_not_taken() {
    let mut world = World::new(&["a", "b", "c"]).await;
    let view = world.view(None);
    tell(&view, Message::Do(|context| context.save_snapshot())).await;
    tell(&view, Message::Do(|context| context.stop())).await;
    world.expect(&["a-1 at start", "b-2 at start", "c-3 at start", "saved 3, 3"]).await;
    assert_eq!(view.stopped().await, StopReason::Done);
    let bounded = Recovery { to: SequenceNumber(2), ..Recovery::default() };
    let view = world.spawn(&world.kind().recovery(bounded).auto_update(AutoUpdate::Off));
    world.expect(&["a-1 at start", "b-2 at start"]).await;
    assert_eq!(state(&view).await, ["a", "b"]);
}
