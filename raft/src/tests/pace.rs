//! Nodes whose clocks go wrong, and nodes that stand still.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::world::{PATIENCE, World, until};
use crate::{Pace, Role};

/// A pace that a test steers.
pub struct SteeredPace {
    state: Mutex<State>,
}

struct State {
    /// Where the two clocks stood when the rate was set.
    runtimes: Instant,
    nodes: Instant,
    rate: f64,
    stands_still: bool,
    waiting: Vec<Waker>,
}

impl SteeredPace {
    pub fn new() -> Self {
        let now = Instant::now();
        let state = State { runtimes: now, nodes: now, rate: 1.0, stands_still: false, waiting: Vec::new() };
        Self { state: Mutex::new(state) }
    }

    pub fn set_rate(&self, rate: f64) {
        let mut state = self.state.lock().unwrap();
        let now = Instant::now();
        state.nodes = state.nodes_at(now);
        state.runtimes = now;
        state.rate = rate;
    }

    pub fn stand_still(&self) {
        self.state.lock().unwrap().stands_still = true;
    }

    pub fn go_on(&self) {
        let mut state = self.state.lock().unwrap();
        state.stands_still = false;
        state.waiting.drain(..).for_each(Waker::wake);
    }
}

impl State {
    fn nodes_at(&self, runtimes: Instant) -> Instant {
        self.nodes + runtimes.duration_since(self.runtimes).mul_f64(self.rate)
    }
}

impl Pace for SteeredPace {
    fn now(&self) -> Instant {
        self.state.lock().unwrap().nodes_at(Instant::now())
    }

    fn arrival(&self, instant: Instant) -> Instant {
        let state = self.state.lock().unwrap();
        state.runtimes + instant.duration_since(state.nodes).div_f64(state.rate)
    }

    fn poll_works(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock().unwrap();
        if !state.stands_still {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// A world of three calm nodes with paces, and a leader.
async fn paced() -> (World, Vec<Arc<SteeredPace>>) {
    let mut world = World::new(3);
    let paces: Vec<_> = (0..3).map(|_| Arc::new(SteeredPace::new())).collect();
    for (node, pace) in world.nodes.iter_mut().zip(&paces) {
        node.settings.timing = node.settings.timing.slower(4);
        node.pace = Some(pace.clone());
    }
    world.found();
    world.start_all().await;
    world.leader().await;
    (world, paces)
}

#[tokio::test]
async fn a_leader_that_stands_still_sends_no_heartbeat_and_follows_when_it_goes_on() {
    let (world, paces) = paced().await;
    world.write("a", 1).await;
    let old = world.leader().await;
    let term = world.nodes[old].group().status().term;
    paces[old].stand_still();
    let others: Vec<usize> = (0..3).filter(|index| *index != old).collect();
    world.write_among(&others, "a", 2, "2".into()).await;
    let status = world.nodes[old].group().status();
    assert_eq!((status.role, status.term), (Role::Leader, term), "it has heard of nothing");
    paces[old].go_on();
    until("it follows", || (world.nodes[old].group().status().role == Role::Follower).then_some(())).await;
    world.write("a", 3).await;
    world.converge("a", &[1, 2, 3]).await;
}

#[tokio::test]
async fn a_leader_that_stood_still_for_a_lease_hands_over_all_the_same() {
    let (world, paces) = paced().await;
    world.write("a", 1).await;
    let old = world.leader().await;
    let group = world.nodes[old].group();
    let lease = world.nodes[old].settings.timing.election_max;
    paces[old].stand_still();
    let is_silent = || group.status().replication.values().all(|follower| follower.silent.is_none_or(|silent| silent > lease));
    until("nobody was heard for a lease", || is_silent().then_some(())).await;
    assert!(group.is_leader(), "nobody else campaigns yet");
    let mut handed_over = Box::pin(group.hand_over(PATIENCE));
    assert!(futures::poll!(&mut handed_over).is_pending(), "they may live");
    paces[old].go_on();
    assert!(handed_over.await, "one of them takes over");
    world.write("a", 2).await;
}

#[tokio::test]
async fn a_follower_that_stands_still_neither_campaigns_nor_votes_and_goes_on_after() {
    let (mut world, paces) = paced().await;
    world.write("a", 1).await;
    let leader = world.leader().await;
    let (still, awake) = ((leader + 1) % 3, (leader + 2) % 3);
    paces[still].stand_still();
    let before = world.nodes[still].group().status();
    world.nodes[leader].kill();
    // As long as several elections would take.
    tokio::time::sleep(world.nodes[awake].settings.timing.election_max * 5).await;
    let after = world.nodes[still].group().status();
    assert_eq!((before.term, before.role, before.leader), (after.term, after.role, after.leader));
    assert!(!world.nodes[awake].group().is_leader(), "nobody voted for it");
    paces[still].go_on();
    world.write("a", 2).await;
    world.start(leader).await;
    world.converge("a", &[1, 2]).await;
}

#[tokio::test]
async fn of_two_followers_the_one_whose_clock_runs_fast_is_elected() {
    let (mut world, paces) = paced().await;
    for fast in [1, 2] {
        let (slow, number) = (3 - fast, fast as u64);
        paces[fast].set_rate(1.2);
        paces[slow].set_rate(0.8);
        let first = world.nodes[0].info.node_id;
        let deadline = Instant::now() + PATIENCE;
        while world.leader().await != 0 {
            assert!(Instant::now() < deadline, "node 1 never led");
            let leader = world.leader().await;
            if world.nodes[leader].group().transfer_leader(first).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        // Nobody votes for one that lacks an entry, however fast it is: both must have all of them.
        world.write("a", number).await;
        world.converge("a", &(1..=number).collect::<Vec<_>>()).await;
        world.nodes[0].kill();
        let elected = until("a leader", || [1, 2].into_iter().find(|index| world.nodes[*index].group().is_leader())).await;
        assert_eq!(elected, fast, "its election timeouts are over first");
        world.start(0).await;
    }
}
