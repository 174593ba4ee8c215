//! At-least-once delivery: a message is sent again until its receiver has confirmed it.
//!
//! A pure state machine, with time handed in: it says what to send and when to come back, and the actor does it. Nothing in it is
//! durable. The actor persists an event for each message that it has to deliver and one for each confirmation, and calls
//! [`deliver`](Delivery::deliver) and [`confirm`](Delivery::confirm) in its *event* handler, so that a replay leads to the same
//! state; or it keeps a [snapshot](Delivery::snapshot) within its own.
//!
//! A receiver can get a message several times, and out of order after one was lost.
//!
//! Invariants
//! - Ids are 1, 2, 3, ..: one sequence for all destinations, the same in every replay.
//! - A message that is not confirmed is sent again after 1 to 1.5 intervals, save where the burst limit makes it wait for its turn.
//! - What is confirmed is not sent again.
//! - In one pass messages go out in the order of their ids.
//!
//! ```
//! use std::time::Duration;
//! use cairn_actor::delivery::{Delivery, DeliverySettings};
//! use tokio::time::Instant;
//!
//! let start = Instant::now();
//! let mut delivery = Delivery::new(DeliverySettings::default());
//! delivery.recovered(start);
//!
//! let sent = delivery.deliver("account-2", |id| format!("take 5 EUR, and confirm {id}"), start)?;
//! assert_eq!(sent.unwrap().message, "take 5 EUR, and confirm 1");
//!
//! // No confirmation comes.
//! let tick = delivery.tick(start + Duration::from_secs(5));
//! assert_eq!(tick.sends[0].message, "take 5 EUR, and confirm 1");
//! assert!(delivery.confirm(tick.sends[0].id));
//! assert_eq!(delivery.next_tick(), None);
//! # Ok::<(), cairn_actor::delivery::TooManyUnconfirmed>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Which message of an actor's deliveries; travels with it, and comes back in the confirmation.
///
/// Akka: the `deliveryId` of `AtLeastOnceDelivery`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryId(pub u64);

impl fmt::Display for DeliveryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How messages are delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverySettings {
    /// How long a confirmation may take; 5 seconds by default.
    ///
    /// Akka: `at-least-once-delivery.redeliver-interval`, `redeliverInterval`.
    pub redeliver_interval: Duration,
    /// How many messages are sent again in one pass; 10,000 by default.
    ///
    /// Akka: `at-least-once-delivery.redelivery-burst-limit`, `redeliveryBurstLimit`, `RedeliveryBurstLimit`.
    pub redelivery_burst_max: usize,
    /// After how many attempts without confirmation there is a warning; 5 by default. Counted from 0 after a restart.
    ///
    /// Akka: `at-least-once-delivery.warn-after-number-of-unconfirmed-attempts`, `warnAfterNumberOfUnconfirmedAttempts`,
    /// `UnconfirmedDeliveryAttemptsToWarn`.
    pub warn_after_attempts: u32,
    /// How many messages may wait for confirmation; 100,000 by default.
    ///
    /// Akka: `at-least-once-delivery.max-unconfirmed-messages`, `maxUnconfirmedMessages`, `MaxUnconfirmedMessages`.
    pub unconfirmed_max: usize,
    /// After how many redeliveries a message is given up; none, the default, never gives one up. Counted from 0 after a restart.
    ///
    /// Akka: the redelivery limit of `GuaranteedDeliveryActor`.
    pub redeliveries_max: Option<u32>,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            redeliver_interval: Duration::from_secs(5),
            redelivery_burst_max: 10_000,
            warn_after_attempts: 5,
            unconfirmed_max: 100_000,
            redeliveries_max: None,
        }
    }
}

/// So many messages wait for confirmation that no more are taken. Nothing changed, and no id was used.
///
/// Akka: `MaxUnconfirmedMessagesExceededException`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{unconfirmed} messages wait for confirmation; at most {unconfirmed_max} may: wait until some are confirmed")]
pub struct TooManyUnconfirmed {
    /// How many wait.
    pub unconfirmed: usize,
    /// How many may.
    pub unconfirmed_max: usize,
}

/// A message that waits for confirmation.
///
/// Akka: `AtLeastOnceDelivery.UnconfirmedDelivery`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnconfirmedDelivery<D, M> {
    /// Its id.
    pub id: DeliveryId,
    /// Where to.
    pub destination: D,
    /// The message.
    pub message: M,
}

/// All that is to be known of deliveries, to be kept within a snapshot of the actor.
///
/// Akka: `AtLeastOnceDeliverySnapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverySnapshot<D, M> {
    /// The id that was given last; 0 if none was.
    ///
    /// Akka: `currentDeliveryId`.
    pub current_delivery_id: u64,
    /// In the order of their ids.
    ///
    /// Akka: `unconfirmedDeliveries`.
    pub unconfirmed: Vec<UnconfirmedDelivery<D, M>>,
}

/// What a pass brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick<D, M> {
    /// To be sent now, in this order.
    pub sends: Vec<UnconfirmedDelivery<D, M>>,
    /// Messages that were sent [so many times](DeliverySettings::warn_after_attempts) in vain; each is told once.
    ///
    /// Akka: `AtLeastOnceDelivery.UnconfirmedWarning`, `unconfirmedDeliveries`, `UnconfirmedDeliveries`.
    pub warnings: Vec<UnconfirmedDelivery<D, M>>,
    /// Messages that will not be sent any more, and count as unconfirmed no more. An actor that shall remember this after a restart
    /// persists it, and confirms them in its event handler.
    pub given_up: Vec<UnconfirmedDelivery<D, M>>,
}

impl<D, M> Default for Tick<D, M> {
    fn default() -> Self {
        Self { sends: Vec::new(), warnings: Vec::new(), given_up: Vec::new() }
    }
}

#[derive(Clone, Debug)]
struct Waiting<D, M> {
    destination: D,
    message: M,
    /// None = overdue: not sent by this incarnation.
    sent_at: Option<Instant>,
    attempts: u32,
}

/// The deliveries of one actor. It begins in recovery, as its actor does.
///
/// Akka: `AtLeastOnceDelivery`, `GuaranteedDeliveryActor`.
#[derive(Clone, Debug)]
pub struct Delivery<D, M> {
    settings: DeliverySettings,
    last_id: u64,
    waiting: BTreeMap<DeliveryId, Waiting<D, M>>,
    is_recovering: bool,
    next_tick: Option<Instant>,
}

impl<D: Clone, M: Clone> Delivery<D, M> {
    /// No messages yet; recovering.
    ///
    /// # Panics
    /// If there is no interval, or nothing may be sent in a pass.
    #[must_use]
    pub fn new(settings: DeliverySettings) -> Self {
        assert!(!settings.redeliver_interval.is_zero(), "there is time between redeliveries");
        assert!(settings.redelivery_burst_max > 0, "a pass sends something");
        Self { settings, last_id: 0, waiting: BTreeMap::new(), is_recovering: true, next_tick: None }
    }

    /// Takes a message to deliver; what is returned is to be sent now. During recovery it is nothing yet: the confirmation may be
    /// among the events that follow.
    ///
    /// Akka: `AtLeastOnceDelivery.deliver`, `Deliver`. Destinations are values: there is no path with a wildcard to refuse.
    ///
    /// # Errors
    /// [`TooManyUnconfirmed`]; also in recovery, if the bound was lowered below what is stored.
    pub fn deliver(
        &mut self,
        destination: D,
        message: impl FnOnce(DeliveryId) -> M,
        now: Instant,
    ) -> Result<Option<UnconfirmedDelivery<D, M>>, TooManyUnconfirmed> {
        let unconfirmed = self.waiting.len();
        if unconfirmed >= self.settings.unconfirmed_max {
            return Err(TooManyUnconfirmed { unconfirmed, unconfirmed_max: self.settings.unconfirmed_max });
        }
        self.last_id += 1;
        let id = DeliveryId(self.last_id);
        let mut waiting = Waiting { destination, message: message(id), sent_at: None, attempts: 0 };
        let send = (!self.is_recovering).then(|| waiting.send(id, now));
        self.waiting.insert(id, waiting);
        self.schedule(now);
        Ok(send)
    }

    /// The receiver has confirmed a message: whether it was waiting. False says that it was confirmed before, or is unknown.
    ///
    /// Akka: `AtLeastOnceDelivery.confirmDelivery`, `ConfirmDelivery`.
    pub fn confirm(&mut self, id: DeliveryId) -> bool {
        let was_waiting = self.waiting.remove(&id).is_some();
        self.rest_if_idle();
        was_waiting
    }

    /// Recovery has ended: what was replayed and not confirmed goes out, before anything new.
    pub fn recovered(&mut self, now: Instant) -> Tick<D, M> {
        self.is_recovering = false;
        let tick = self.redeliver_overdue(now);
        self.schedule(now);
        tick
    }

    /// When to call [`tick`](Self::tick); none while nothing waits. Such a call is no activity of the actor.
    #[must_use]
    pub fn next_tick(&self) -> Option<Instant> {
        self.next_tick
    }

    /// Sends again what is overdue, if it is time.
    pub fn tick(&mut self, now: Instant) -> Tick<D, M> {
        if self.next_tick.is_none_or(|at| now < at) {
            return Tick::default();
        }
        let tick = self.redeliver_overdue(now);
        self.next_tick = None;
        self.schedule(now);
        tick
    }

    /// How many messages wait for confirmation.
    ///
    /// Akka: `AtLeastOnceDelivery.numberOfUnconfirmed`, `UnconfirmedCount`.
    #[must_use]
    pub fn unconfirmed_count(&self) -> usize {
        self.waiting.len()
    }

    /// Whether so many more messages could be delivered.
    #[must_use]
    pub fn has_room(&self, messages: usize) -> bool {
        self.waiting.len().saturating_add(messages) <= self.settings.unconfirmed_max
    }

    /// All that is to be known, for a snapshot of the actor.
    ///
    /// Akka: `AtLeastOnceDelivery.getDeliverySnapshot`, `GetDeliverySnapshot`.
    #[must_use]
    pub fn snapshot(&self) -> DeliverySnapshot<D, M> {
        let unconfirmed = self.waiting.iter().map(|(id, waiting)| waiting.delivery(*id)).collect();
        DeliverySnapshot { current_delivery_id: self.last_id, unconfirmed }
    }

    /// Replaces everything by what was in a snapshot, as never sent. Nothing goes out before the recovery has ended, or before the
    /// next tick if it has.
    ///
    /// Akka: `AtLeastOnceDelivery.setDeliverySnapshot`, `SetDeliverySnapshot`.
    pub fn restore(&mut self, snapshot: DeliverySnapshot<D, M>, now: Instant) {
        let waiting = |delivery: UnconfirmedDelivery<D, M>| {
            let UnconfirmedDelivery { id, destination, message } = delivery;
            (id, Waiting { destination, message, sent_at: None, attempts: 0 })
        };
        self.last_id = snapshot.current_delivery_id;
        self.waiting = snapshot.unconfirmed.into_iter().map(waiting).collect();
        self.rest_if_idle();
        self.schedule(now);
    }

    /// Whether the actor is still recovering.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.is_recovering
    }

    fn redeliver_overdue(&mut self, now: Instant) -> Tick<D, M> {
        let mut tick = Tick::default();
        let DeliverySettings { redeliver_interval, redelivery_burst_max, warn_after_attempts, redeliveries_max, .. } =
            self.settings;
        for (&id, waiting) in &mut self.waiting {
            if tick.sends.len() == redelivery_burst_max {
                break;
            }
            if waiting.sent_at.is_some_and(|at| now < at + redeliver_interval) {
                continue;
            }
            // The first attempt is no redelivery.
            if redeliveries_max.is_some_and(|limit| waiting.attempts > limit) {
                tick.given_up.push(waiting.delivery(id));
                continue;
            }
            if waiting.attempts == warn_after_attempts {
                tick.warnings.push(waiting.delivery(id));
            }
            tick.sends.push(waiting.send(id, now));
        }
        for delivery in &tick.given_up {
            self.waiting.remove(&delivery.id);
        }
        tick
    }

    /// Half an interval between ticks: at the first one after an interval has passed a message is overdue.
    fn schedule(&mut self, now: Instant) {
        if self.next_tick.is_none() && !self.is_recovering && !self.waiting.is_empty() {
            self.next_tick = Some(now + self.settings.redeliver_interval / 2);
        }
    }

    fn rest_if_idle(&mut self) {
        if self.waiting.is_empty() {
            self.next_tick = None;
        }
    }
}

impl<D: Clone, M: Clone> Waiting<D, M> {
    fn send(&mut self, id: DeliveryId, now: Instant) -> UnconfirmedDelivery<D, M> {
        self.sent_at = Some(now);
        self.attempts = self.attempts.saturating_add(1);
        self.delivery(id)
    }

    fn delivery(&self, id: DeliveryId) -> UnconfirmedDelivery<D, M> {
        UnconfirmedDelivery { id, destination: self.destination.clone(), message: self.message.clone() }
    }
}

#[cfg(test)]
mod tests;
