//! The cases of contract section 3.3, with time by hand, and the promises as properties over lossy receivers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::{Delivery, DeliveryId, DeliverySettings, DeliverySnapshot, Tick, TooManyUnconfirmed, UnconfirmedDelivery};
use crate::codec::{Cbor, Json};
use crate::format::Codec;

const INTERVAL: Duration = Duration::from_secs(10);

fn settings() -> DeliverySettings {
    DeliverySettings { redeliver_interval: INTERVAL, ..DeliverySettings::default() }
}

/// Deliveries of texts, a clock, and all that was sent so far.
struct Actor {
    delivery: Delivery<&'static str, String>,
    now: Instant,
}

impl Actor {
    fn recovering(settings: DeliverySettings) -> Self {
        Self { delivery: Delivery::new(settings), now: Instant::now() }
    }

    fn new(settings: DeliverySettings) -> Self {
        let mut actor = Self::recovering(settings);
        assert_eq!(actor.delivery.recovered(actor.now), Tick::default());
        actor
    }

    /// What is sent at once.
    fn deliver(&mut self, text: &str) -> Option<u64> {
        let text = text.to_owned();
        self.delivery.deliver("receiver", |_| text, self.now).unwrap().map(|sent| sent.id.0)
    }

    fn confirm(&mut self, id: u64) -> bool {
        self.delivery.confirm(DeliveryId(id))
    }

    /// What is sent at the ticks while time passes, each at so many tenths of an interval from now.
    fn pass(&mut self, tenths: u32) -> Vec<(u32, Vec<u64>)> {
        self.ticks(tenths).into_iter().map(|(at, tick)| (at, ids(&tick.sends))).filter(|(_, sends)| !sends.is_empty()).collect()
    }

    fn ticks(&mut self, tenths: u32) -> Vec<(u32, Tick<&'static str, String>)> {
        let mut ticks = Vec::new();
        for at in 1..=tenths {
            self.now += INTERVAL / 10;
            if self.delivery.next_tick().is_some_and(|next| next <= self.now) {
                ticks.push((at, self.delivery.tick(self.now)));
            }
        }
        ticks
    }
}

fn ids<D, M>(deliveries: &[UnconfirmedDelivery<D, M>]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.id.0).collect()
}

#[test]
fn messages_go_out_in_order_when_nothing_is_lost() {
    let mut actor = Actor::new(settings());
    for id in 1..=3 {
        assert_eq!(actor.deliver("message"), Some(id));
        assert!(actor.confirm(id));
    }
    assert_eq!(actor.delivery.next_tick(), None, "nothing waits, nothing ticks");
    assert_eq!(actor.pass(40), []);
}

#[test]
fn ids_are_one_sequence_over_all_destinations() {
    let mut delivery = Delivery::new(settings());
    let now = Instant::now();
    delivery.recovered(now);
    for (id, destination) in [(1, "a"), (2, "b"), (3, "a")] {
        let sent = delivery.deliver(destination, |id| id, now).unwrap().unwrap();
        assert_eq!((sent.id, sent.destination, sent.message), (DeliveryId(id), destination, DeliveryId(id)));
    }
}

#[test]
fn a_lost_message_is_sent_again_until_it_is_confirmed() {
    let mut actor = Actor::new(settings());
    actor.deliver("1");
    actor.deliver("2");
    assert!(actor.confirm(1));
    assert_eq!(actor.pass(25), [(10, vec![2]), (20, vec![2])]);
    assert!(actor.confirm(2));
    assert_eq!(actor.pass(40), []);
}

#[test]
fn a_message_waits_1_to_1_and_a_half_intervals() {
    let mut actor = Actor::new(settings());
    actor.deliver("ticks begin");
    actor.pass(1);
    actor.deliver("just after the ticks began");
    // Ticks at 5, 10, 15 tenths: the second is 9 tenths old at 10, and 14 at 15.
    assert_eq!(actor.pass(20), [(9, vec![1]), (14, vec![2]), (19, vec![1])]);
}

#[test]
fn a_tick_that_comes_early_does_nothing_and_one_that_comes_late_moves_those_after_it() {
    let mut actor = Actor::new(settings());
    actor.deliver("1");
    let first = actor.delivery.next_tick().unwrap();
    assert_eq!(actor.delivery.tick(first - Duration::from_nanos(1)), Tick::default());
    assert_eq!(actor.delivery.next_tick(), Some(first));
    let late = first + 3 * INTERVAL;
    assert_eq!(ids(&actor.delivery.tick(late).sends), [1]);
    assert_eq!(actor.delivery.next_tick(), Some(late + INTERVAL / 2), "the delay between ticks is fixed");
}

#[test]
fn a_confirmation_is_told_from_a_duplicate_and_from_an_unknown_one() {
    let mut actor = Actor::new(settings());
    actor.deliver("1");
    assert!(!actor.confirm(2));
    assert!(actor.confirm(1));
    assert!(!actor.confirm(1));
    assert_eq!(actor.delivery.unconfirmed_count(), 0);
}

#[test]
fn a_restart_sends_what_was_not_confirmed_before_anything_new() {
    let mut actor = Actor::recovering(settings());
    for text in ["1", "2", "3", "4"] {
        assert_eq!(actor.deliver(text), None, "the confirmation may follow");
    }
    assert!(actor.confirm(2));
    assert_eq!(actor.pass(40), [], "nothing goes out during recovery");
    assert_eq!(ids(&actor.delivery.recovered(actor.now).sends), [1, 3, 4]);
    assert_eq!(actor.deliver("5"), Some(5));
    assert_eq!(actor.pass(10), [(10, vec![1, 3, 4, 5])]);
}

#[test]
fn a_recovery_with_nothing_left_sends_nothing_and_does_not_tick() {
    let mut actor = Actor::recovering(settings());
    actor.deliver("1");
    actor.confirm(1);
    assert_eq!(actor.delivery.recovered(actor.now), Tick::default());
    assert_eq!(actor.delivery.next_tick(), None);
    assert_eq!(actor.deliver("2"), Some(2), "ids go on");
}

#[test]
fn a_snapshot_brings_back_ids_and_what_waits() {
    let mut actor = Actor::new(settings());
    for text in ["1", "2", "3"] {
        actor.deliver(text);
    }
    actor.confirm(2);
    let snapshot = actor.delivery.snapshot();
    assert_eq!((snapshot.current_delivery_id, ids(&snapshot.unconfirmed)), (3, vec![1, 3]));

    let mut actor = Actor::recovering(settings());
    actor.delivery.restore(snapshot.clone(), actor.now);
    assert_eq!(actor.delivery.snapshot(), snapshot);
    // After the snapshot.
    actor.confirm(1);
    assert_eq!(actor.deliver("4"), None);
    let sends = actor.delivery.recovered(actor.now).sends;
    assert_eq!(ids(&sends), [3, 4]);
    assert_eq!(sends[0].message, "3");
}

#[test]
fn a_snapshot_that_is_set_while_running_goes_out_at_the_next_tick() {
    let mut actor = Actor::new(settings());
    let unconfirmed = vec![UnconfirmedDelivery { id: DeliveryId(7), destination: "receiver", message: "7".to_owned() }];
    actor.delivery.restore(DeliverySnapshot { current_delivery_id: 8, unconfirmed }, actor.now);
    assert_eq!(actor.deliver("9"), Some(9));
    assert_eq!(actor.pass(10), [(5, vec![7]), (10, vec![9])]);
    actor.delivery.restore(DeliverySnapshot { current_delivery_id: 9, unconfirmed: vec![] }, actor.now);
    assert_eq!(actor.delivery.next_tick(), None);
}

#[test]
fn a_warning_comes_once_at_the_redelivery_of_that_number() {
    let mut actor = Actor::new(DeliverySettings { warn_after_attempts: 3, ..settings() });
    actor.deliver("1");
    let ticks = actor.ticks(60);
    let sends: Vec<_> = ticks.iter().filter(|(_, tick)| !tick.sends.is_empty()).map(|(at, _)| *at).collect();
    assert_eq!(sends, [10, 20, 30, 40, 50, 60], "redelivery goes on for ever");
    let warned: Vec<_> =
        ticks.iter().filter(|(_, tick)| !tick.warnings.is_empty()).map(|(at, tick)| (*at, ids(&tick.warnings))).collect();
    assert_eq!(warned, [(30, vec![1])], "the third redelivery is the fourth attempt");
}

#[test]
fn warnings_of_one_pass_come_together() {
    let mut actor = Actor::new(DeliverySettings { warn_after_attempts: 1, ..settings() });
    actor.deliver("1");
    actor.deliver("2");
    let warned: Vec<_> = actor.ticks(10).into_iter().map(|(_, tick)| ids(&tick.warnings)).collect();
    assert_eq!(warned, [vec![], vec![1, 2]]);
}

#[test]
fn attempts_are_counted_anew_after_a_restart() {
    let mut actor = Actor::new(DeliverySettings { warn_after_attempts: 2, ..settings() });
    actor.deliver("1");
    actor.ticks(15);
    let mut restarted = Actor::recovering(DeliverySettings { warn_after_attempts: 2, ..settings() });
    restarted.delivery.restore(actor.delivery.snapshot(), restarted.now);
    assert_eq!(restarted.delivery.recovered(restarted.now).warnings, [], "the first attempt of this incarnation");
    let warned: Vec<_> = restarted.ticks(20).into_iter().map(|(at, tick)| (at, tick.warnings.len())).collect();
    assert_eq!(warned, [(5, 0), (10, 0), (15, 0), (20, 1)]);
}

#[test]
fn a_pass_sends_no_more_than_the_burst_limit_the_oldest_first() {
    let mut actor = Actor::recovering(DeliverySettings { redelivery_burst_max: 2, ..settings() });
    for text in ["1", "2", "3", "4", "5"] {
        actor.deliver(text);
    }
    assert_eq!(ids(&actor.delivery.recovered(actor.now).sends), [1, 2]);
    assert_eq!(actor.pass(5), [(5, vec![3, 4])]);
    actor.confirm(1);
    actor.confirm(2);
    assert_eq!(actor.pass(10), [(5, vec![5]), (10, vec![3, 4])]);
}

#[test]
fn a_new_message_is_not_held_by_the_burst_limit() {
    let mut actor = Actor::new(DeliverySettings { redelivery_burst_max: 1, ..settings() });
    assert_eq!((1..=3).map(|_| actor.deliver("message")).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
}

#[test]
fn too_many_unconfirmed_messages_are_refused_and_use_no_id() {
    let mut actor = Actor::new(DeliverySettings { unconfirmed_max: 2, ..settings() });
    actor.deliver("1");
    actor.deliver("2");
    let refused = actor.delivery.deliver("receiver", |_| unreachable!("no message is made"), actor.now).unwrap_err();
    assert_eq!(refused, TooManyUnconfirmed { unconfirmed: 2, unconfirmed_max: 2 });
    assert!(refused.to_string().contains("at most 2"));
    actor.confirm(1);
    assert_eq!(actor.deliver("3"), Some(3));
}

/// The defaults of contract section 3.3, by what they do.
#[test]
fn by_default_a_pass_sends_10000_warnings_come_at_the_fifth_redelivery_and_100000_may_wait() {
    let mut actor = Actor::new(DeliverySettings::default());
    actor.deliver("1");
    let interval = Duration::from_secs(5);
    assert_eq!(actor.delivery.next_tick(), Some(actor.now + interval / 2), "the first pass comes after half an interval");
    let mut warned = Vec::new();
    for redelivery in 1..=7 {
        actor.now += interval;
        let tick = actor.delivery.tick(actor.now);
        assert_eq!(ids(&tick.sends), [1], "redelivery {redelivery}");
        warned.extend(tick.warnings.iter().map(|_| redelivery));
    }
    assert_eq!(warned, [5]);
    for id in 2..=100_000 {
        assert_eq!(actor.deliver("message"), Some(id));
    }
    let refused = actor.delivery.deliver("receiver", |_| unreachable!("no message is made"), actor.now).unwrap_err();
    assert_eq!(refused, TooManyUnconfirmed { unconfirmed: 100_000, unconfirmed_max: 100_000 });
    actor.now += interval;
    for pass in 0..2 {
        let sent = ids(&actor.delivery.tick(actor.now).sends);
        let expected = pass * 10_000 + 1..=(pass + 1) * 10_000;
        assert!(sent.iter().copied().eq(expected), "pass {pass} sent {} from {:?}", sent.len(), sent.first());
        actor.now += interval / 2;
    }
}

#[test]
fn the_bound_holds_in_recovery_too() {
    let mut actor = Actor::recovering(DeliverySettings { unconfirmed_max: 1, ..settings() });
    actor.deliver("1");
    assert!(actor.delivery.deliver("receiver", |_| String::new(), actor.now).is_err());
}

#[test]
fn a_message_is_given_up_after_the_last_redelivery_that_is_allowed() {
    let mut actor = Actor::new(DeliverySettings { redeliveries_max: Some(2), ..settings() });
    actor.deliver("1");
    let ticks = actor.ticks(60);
    let sends: Vec<_> = ticks.iter().filter(|(_, tick)| !tick.sends.is_empty()).map(|(at, _)| *at).collect();
    assert_eq!(sends, [10, 20]);
    let given_up: Vec<_> =
        ticks.iter().filter(|(_, tick)| !tick.given_up.is_empty()).map(|(at, tick)| (*at, ids(&tick.given_up))).collect();
    assert_eq!(given_up, [(30, vec![1])], "the receiver has an interval to confirm the last one");
    assert_eq!((actor.delivery.unconfirmed_count(), actor.delivery.next_tick()), (0, None));
    assert!(!actor.confirm(1), "a confirmation that comes then is unknown");
}

#[test]
fn no_redelivery_may_be_allowed() {
    let mut actor = Actor::new(DeliverySettings { redeliveries_max: Some(0), ..settings() });
    actor.deliver("1");
    let given_up: Vec<_> = actor.ticks(20).into_iter().map(|(at, tick)| (at, tick.sends.len(), tick.given_up.len())).collect();
    assert_eq!(given_up, [(5, 0, 0), (10, 0, 1)]);
}

proptest! {
    #[test]
    fn a_snapshot_survives_the_codecs(current_delivery_id: u64, unconfirmed in vec((any::<u64>(), ".*", any::<Option<u8>>()), 0..9)) {
        let delivery = |(id, destination, message)| UnconfirmedDelivery { id: DeliveryId(id), destination, message };
        let snapshot = DeliverySnapshot { current_delivery_id, unconfirmed: unconfirmed.into_iter().map(delivery).collect() };
        prop_assert_eq!(Cbor.decode(&Cbor.encode(&snapshot).unwrap()), Ok(snapshot.clone()));
        prop_assert_eq!(Json.decode(&Json.encode(&snapshot).unwrap()), Ok(snapshot));
    }

    /// Three receivers that lose messages and confirmations, an actor that restarts now and then from its events.
    #[test]
    fn every_message_arrives_whatever_is_lost(losses in vec(0_u8..8, 400), messages in 1_u64..40) {
        let mut losses = losses.into_iter();
        let mut arrived: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        let mut confirmed = Vec::new();
        let mut delivered = 0;
        let mut actor = Actor::new(settings());
        while actor.delivery.unconfirmed_count() > 0 || delivered < messages {
            let mut sends = Vec::new();
            if delivered < messages {
                delivered += 1;
                let to = ["a", "b", "c"][delivered as usize % 3];
                sends.extend(actor.delivery.deliver(to, |_| String::new(), actor.now).unwrap());
            }
            for (_, tick) in actor.ticks(3) {
                sends.extend(tick.sends);
            }
            for sent in sends {
                // After the losses everything gets through, so that it ends.
                let loss = losses.next().unwrap_or(7);
                if loss < 2 {
                    continue;
                }
                arrived.entry(sent.destination).or_default().insert(sent.id.0);
                if loss > 3 {
                    confirmed.push(sent.id);
                    actor.delivery.confirm(sent.id);
                }
                if loss == 4 {
                    let mut restarted = Actor { delivery: Delivery::new(settings()), now: actor.now };
                    for message in 1..=delivered {
                        let to = ["a", "b", "c"][message as usize % 3];
                        restarted.delivery.deliver(to, |_| String::new(), restarted.now).unwrap();
                    }
                    for id in &confirmed {
                        restarted.delivery.confirm(*id);
                    }
                    prop_assert_eq!(restarted.delivery.snapshot(), actor.delivery.snapshot(), "a replay leads to the same state");
                    restarted.delivery.recovered(restarted.now);
                    actor = restarted;
                }
            }
        }
        let all: BTreeSet<_> = arrived.into_values().flatten().collect();
        prop_assert_eq!(all, (1..=messages).collect());
    }

    /// Deliveries and confirmations at any time, ticks when they are asked for.
    #[test]
    fn what_waits_is_sent_every_1_to_1_and_a_half_intervals(steps in vec((0_u32..8, 0_u64..12), 1..120)) {
        let mut actor = Actor::new(settings());
        let mut sent_at: BTreeMap<u64, Instant> = BTreeMap::new();
        for (tenths, confirm) in steps {
            for _ in 0..tenths {
                for (_, tick) in actor.ticks(1) {
                    let sends = ids(&tick.sends);
                    prop_assert!(sends.is_sorted());
                    for id in sends {
                        let previous = sent_at.insert(id, actor.now);
                        let waited = actor.now - previous.expect("what is confirmed is not sent");
                        prop_assert!(waited >= INTERVAL && waited <= INTERVAL * 3 / 2, "{waited:?}");
                    }
                }
                for at in sent_at.values() {
                    prop_assert!(actor.now - *at <= INTERVAL * 3 / 2);
                }
            }
            if let Some(id) = actor.deliver("message") {
                sent_at.insert(id, actor.now);
            }
            prop_assert_eq!(actor.confirm(confirm), sent_at.remove(&confirm).is_some());
            prop_assert_eq!(actor.delivery.next_tick().is_some(), !sent_at.is_empty());
        }
    }
}
