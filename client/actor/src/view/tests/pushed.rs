//! Views that the journal pushes to, and what they do while it does not.

use tokio::time::{Instant, sleep};

use super::{Trouble, World, away, seconds, state, update};
use crate::view::{AutoUpdate, Update};

#[tokio::test(start_paused = true)]
async fn the_journal_pushes_events_as_they_are_stored() {
    let mut world = World::new(&["a"]).await;
    let _view = world.view(None);
    world.expect(&["a-1 at start"]).await;
    let start = Instant::now();
    world.persist(&["b"]).await;
    world.expect(&["b-2"]).await;
    world.persist(&["c", "d"]).await;
    world.expect(&["c-3", "d-4"]).await;
    assert!(start.elapsed() < seconds(1), "no interval passes: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_view_that_is_pushed_asks_again_when_that_fails() {
    let mut world = World::new(&["a", "b"]).await;
    // The first update; a look at the journal, and what is followed after it, which breaks at the first event; the same, which just ends.
    let troubles = [Trouble::BreakAfter(1), Trouble::None, Trouble::BreakAfter(1), Trouble::None, Trouble::EndAfter(0)];
    world.store.next(troubles);
    let view = world.view(None);
    let failed = format!("failed: {}", away());
    world.expect(&["a-1 at start", &failed]).await;
    let start = Instant::now();
    world.expect(&["b-2"]).await;
    assert_eq!(start.elapsed().as_secs(), 5);
    world.persist(&["c"]).await;
    world.expect(&["c-3", &failed, "failed: the journal ended the stream of events"]).await;
    assert_eq!(start.elapsed().as_secs(), 10);
    sleep(seconds(6)).await;
    world.persist(&["d"]).await;
    world.expect(&["d-4"]).await;
    assert_eq!(start.elapsed().as_secs(), 16, "it is pushed again");
    assert_eq!(state(&view).await, ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn an_update_of_a_view_that_is_pushed_is_strong_and_pushing_goes_on_after_it() {
    let mut world = World::new(&["a"]).await;
    // Nothing is pushed at first.
    world.store.next([Trouble::None, Trouble::HangAfter(0)]);
    let view = world.view(None);
    world.expect(&["a-1 at start"]).await;
    world.persist(&["b"]).await;
    world.expect_nothing(seconds(600)).await;
    assert_eq!(update(&view, Update::default()).await, Ok(2));
    world.expect(&["b-2"]).await;
    world.persist(&["c"]).await;
    world.expect(&["c-3"]).await;
}

/// What a store does that can only replay: each stream that is followed, every second one after the first update, is no stream.
fn cannot_push(times: usize, trouble: &Trouble) -> impl Iterator<Item = Trouble> {
    std::iter::repeat_n([Trouble::None, trouble.clone()], times).flatten()
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_push_is_looked_at_instead_and_that_is_told_once() {
    let ended = "failed: the journal ended the stream of events".to_owned();
    for (trouble, told) in [(Trouble::BreakAfter(0), format!("failed: {}", away())), (Trouble::EndAfter(0), ended)] {
        let mut world = World::new(&["a"]).await;
        world.store.next(cannot_push(100, &trouble));
        let view = world.view(AutoUpdate::Pushed { retry: seconds(3) });
        world.expect(&["a-1 at start", &told]).await;
        let start = Instant::now();
        for event in ["b", "c", "d"] {
            world.persist(&[event]).await;
            assert!(world.next().await.starts_with(event));
        }
        assert_eq!(start.elapsed().as_secs(), 9, "one each time");
        world.expect_nothing(seconds(61)).await;
        assert_eq!(state(&view).await, ["a", "b", "c", "d"]);
        let looks: Vec<_> = world.store.replays().iter().map(|(numbers, _)| *numbers.start()).collect();
        assert_eq!(looks[..5], [1, 2, 3, 4, 5]);
        assert_eq!(looks.len(), 1 + 3 + 20, "every three seconds");
    }
}

#[tokio::test(start_paused = true)]
async fn why_nothing_is_pushed_is_told_again_after_something_was() {
    let mut world = World::new(&["a"]).await;
    let once = [Trouble::None, Trouble::BreakAfter(0), Trouble::None, Trouble::BreakAfter(1), Trouble::None];
    world.store.next(once);
    world.view(None);
    let failed = format!("failed: {}", away());
    world.expect(&["a-1 at start", &failed]).await;
    sleep(seconds(6)).await;
    world.persist(&["b"]).await;
    world.expect(&["b-2", &failed]).await;
}

#[tokio::test(start_paused = true)]
async fn a_look_that_fails_is_told_each_time() {
    let mut world = World::new(&["a"]).await;
    world.store.next([Trouble::None, Trouble::BreakAfter(0), Trouble::BreakAfter(0), Trouble::BreakAfter(0)]);
    world.view(None);
    let failed = format!("failed: {}", away());
    world.expect(&["a-1 at start", &failed, &failed, &failed]).await;
    world.persist(&["b"]).await;
    world.expect(&["b-2"]).await;
}
