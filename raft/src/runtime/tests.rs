//! A node's time and dice.

use std::sync::atomic::{AtomicU64, Ordering};

use openraft::Config;
use openraft::rt::testing::Suite;

use super::*;
use crate::tests::pace::SteeredPace;

const SECOND: Duration = Duration::from_secs(1);

fn life(pace: &Arc<SteeredPace>) -> Life {
    Life::new(Some(pace.clone()), [7; 32])
}

/// What the runtime's clock shows when this is over.
async fn took(life: &Life, wait: impl Future + Send + 'static) -> Duration {
    let began = Instant::now();
    life.spawn(async move { drop(wait.await) }).await.expect("it ends");
    began.elapsed()
}

fn about(duration: Duration, expected: Duration) {
    let off = duration.abs_diff(expected);
    assert!(off <= Duration::from_millis(2), "{duration:?} is not about {expected:?}");
}

#[test]
fn it_passes_openrafts_suite_for_runtimes() {
    Suite::<NodeRuntime>::test_all();
}

#[tokio::test(start_paused = true)]
async fn sleeps_and_timeouts_follow_the_rate_of_the_nodes_clock() {
    for (rate, expected) in [(1.25, 0.8), (0.8, 1.25), (1.0, 1.0)] {
        let pace = Arc::new(SteeredPace::new());
        pace.set_rate(rate);
        let life = life(&pace);
        let expected = SECOND.mul_f64(expected);
        about(took(&life, async { NodeRuntime::sleep(SECOND).await }).await, expected);
        about(took(&life, async { NodeRuntime::sleep_until(now() + SECOND).await }).await, expected);
        about(took(&life, async { NodeRuntime::timeout(SECOND, std::future::pending::<()>()).await }).await, expected);
        let late = async { NodeRuntime::timeout_at(now() + SECOND, std::future::pending::<()>()).await };
        about(took(&life, late).await, expected);
        let seen = life.spawn(async {
            let began = now();
            tokio::time::sleep(SECOND).await;
            now() - began
        });
        about(seen.await.expect("it ends"), SECOND.mul_f64(rate));
    }
}

fn now() -> NodeInstant {
    <NodeInstant as openraft::Instant>::now()
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_counted_to_is_waited_for_as_long_as_tokio_does() {
    let pace = Arc::new(SteeredPace::new());
    let life = life(&pace);
    let waited = took(&life, async { NodeRuntime::timeout(Duration::MAX, tokio::time::sleep(SECOND)).await });
    about(waited.await, SECOND);
}

#[tokio::test(start_paused = true)]
async fn tasks_of_a_node_that_stands_still_do_nothing_until_it_goes_on_and_nor_do_their_children() {
    let pace = Arc::new(SteeredPace::new());
    let count = Arc::new(AtomicU64::new(0));
    let counting = {
        let count = count.clone();
        async move {
            let counting = NodeRuntime::spawn(async move {
                loop {
                    NodeRuntime::sleep(Duration::from_millis(10)).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
            drop(counting);
        }
    };
    life(&pace).spawn(counting).await.expect("it ends");
    tokio::time::sleep(SECOND).await;
    let before = count.load(Ordering::Relaxed);
    assert!(before > 50, "{before}");
    pace.stand_still();
    tokio::time::sleep(SECOND).await;
    assert_eq!(count.load(Ordering::Relaxed), before);
    pace.go_on();
    tokio::time::sleep(SECOND).await;
    assert!(count.load(Ordering::Relaxed) > before + 50);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_polled_elsewhere_keeps_the_time_of_the_task_that_made_it() {
    let pace = Arc::new(SteeredPace::new());
    pace.set_rate(2.0);
    let times = futures::stream::repeat_with(|| (now().0, Instant::now()));
    let mut times = life(&pace).enter(|| Box::pin(keep(times)));
    let (nodes, runtimes) = times.next().await.expect("goes on for ever");
    tokio::time::sleep(SECOND).await;
    let (later_nodes, later_runtimes) = times.next().await.expect("goes on for ever");
    about(later_runtimes - runtimes, SECOND);
    about(later_nodes - nodes, 2 * SECOND);
    pace.stand_still();
    tokio::time::timeout(SECOND, times.next()).await.expect_err("it stands still");
    pace.go_on();
    times.next().await.expect("goes on for ever");
}

#[tokio::test]
async fn the_same_seed_draws_the_same_election_timeouts_and_another_one_others() {
    async fn drawn(seed: u8) -> Vec<u64> {
        let life = Life::new(None, [seed; 32]);
        let draws = async {
            let config = Config { election_timeout_min: 1_000, election_timeout_max: 1_000_000, ..Config::default() };
            let draw = move || config.new_rand_election_timeout::<NodeRuntime>();
            let mut drawn = vec![draw(), draw()];
            drawn.push(NodeRuntime::spawn(async move { draw() }).await.expect("it ends"));
            drawn
        };
        life.spawn(draws).await.expect("it ends")
    }
    let (first, again, other) = (drawn(1).await, drawn(1).await, drawn(2).await);
    assert_eq!(first, again);
    assert!(first.iter().all(|draw| !other.contains(draw)), "{first:?} {other:?}");
    assert!(first[0] != first[1] && first[1] != first[2], "{first:?}");
}
