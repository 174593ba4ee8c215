//! At-least-once delivery as a part of an actor: it sends, and sends again until the receiver has confirmed.
//!
//! An actor keeps an [`Outbox`] as a field, gives it to its cell by [`Behavior::outbox`](crate::behavior::Behavior::outbox), and
//! calls [`deliver`](Outbox::deliver) and [`confirm`](Outbox::confirm) in
//! [`Behavior::applied`](crate::behavior::Behavior::applied): so each message belongs to an event, and a replay leads to the same
//! deliveries. What was not confirmed before a crash goes out when recovery is over.
//!
//! Invariants
//! - Nothing is sent before the event that it belongs to is stored, nor during recovery.
//! - A message that cannot be sent now, as the receiver has no room, say, is one that was lost: it is sent again.

use cairn_client::PersistenceId;
use tokio::time::Instant;

use crate::delivery::{Delivery, DeliveryId, DeliverySettings, DeliverySnapshot, Tick, TooManyUnconfirmed, UnconfirmedDelivery};

type Sender<D, M> = Box<dyn FnMut(UnconfirmedDelivery<D, M>) + Send>;
type Tell<C, D, M> = Box<dyn FnMut(Vec<UnconfirmedDelivery<D, M>>) -> C + Send>;

/// What the cell needs of an actor's deliveries, whatever they deliver.
pub trait Redelivery<C> {
    /// Recovery has ended: sends what is not confirmed. Gives the commands that the actor shall handle.
    fn recovered(&mut self, now: Instant) -> Vec<C>;

    /// When [`tick`](Self::tick) is due; none while nothing waits for confirmation.
    fn next_tick(&self) -> Option<Instant>;

    /// Sends again what is overdue. Gives the commands that the actor shall handle.
    fn tick(&mut self, now: Instant) -> Vec<C>;
}

/// The deliveries of an actor with commands `C`, to destinations `D`, of messages `M`.
///
/// Akka: `AtLeastOnceDelivery`, `AtLeastOnceDeliveryActor`, `AtLeastOnceDeliveryReceiveActor`, `GuaranteedDeliveryActor`
pub struct Outbox<C, D, M> {
    persistence_id: PersistenceId,
    delivery: Delivery<D, M>,
    send: Sender<D, M>,
    on_warning: Option<Tell<C, D, M>>,
    on_given_up: Option<Tell<C, D, M>>,
}

impl<C, D: Clone, M: Clone> Outbox<C, D, M> {
    /// An outbox of an actor, which sends with `send`: it must not wait.
    pub fn new(
        persistence_id: PersistenceId,
        settings: DeliverySettings,
        send: impl FnMut(UnconfirmedDelivery<D, M>) + Send + 'static,
    ) -> Self {
        Self { persistence_id, delivery: Delivery::new(settings), send: Box::new(send), on_warning: None, on_given_up: None }
    }

    /// Makes a command of messages that were sent too often in vain; else there is a line in the log.
    ///
    /// Akka: `UnconfirmedWarning`
    #[must_use]
    pub fn on_warning(mut self, tell: impl FnMut(Vec<UnconfirmedDelivery<D, M>>) -> C + Send + 'static) -> Self {
        self.on_warning = Some(Box::new(tell));
        self
    }

    /// Makes a command of messages that are given up; else there is a line in the log. After a restart they would be sent again:
    /// the actor persists that it gave them up, and confirms them in [`applied`](crate::behavior::Behavior::applied).
    #[must_use]
    pub fn on_given_up(mut self, tell: impl FnMut(Vec<UnconfirmedDelivery<D, M>>) -> C + Send + 'static) -> Self {
        self.on_given_up = Some(Box::new(tell));
        self
    }

    /// Delivers a message, now and again until it is confirmed; during recovery when that is over.
    ///
    /// Akka: `deliver`, `Deliver`
    ///
    /// # Errors
    /// [`TooManyUnconfirmed`]; see [`has_room`](Self::has_room), to be asked before the event is persisted.
    pub fn deliver(&mut self, destination: D, message: impl FnOnce(DeliveryId) -> M) -> Result<(), TooManyUnconfirmed> {
        if let Some(delivery) = self.delivery.deliver(destination, message, Instant::now())? {
            (self.send)(delivery);
        }
        Ok(())
    }

    /// The receiver has confirmed a message: whether it was waiting.
    ///
    /// Akka: `confirmDelivery`, `ConfirmDelivery`
    pub fn confirm(&mut self, id: DeliveryId) -> bool {
        self.delivery.confirm(id)
    }

    /// How many messages wait for confirmation.
    ///
    /// Akka: `numberOfUnconfirmed`, `UnconfirmedCount`
    #[must_use]
    pub fn unconfirmed_count(&self) -> usize {
        self.delivery.unconfirmed_count()
    }

    /// Whether so many more messages could be delivered.
    #[must_use]
    pub fn has_room(&self, messages: usize) -> bool {
        self.delivery.has_room(messages)
    }

    /// All that is to be known of the deliveries, for a snapshot of the actor.
    ///
    /// Akka: `getDeliverySnapshot`, `GetDeliverySnapshot`
    #[must_use]
    pub fn snapshot(&self) -> DeliverySnapshot<D, M> {
        self.delivery.snapshot()
    }

    /// Replaces all deliveries by those of a snapshot.
    ///
    /// Akka: `setDeliverySnapshot`, `SetDeliverySnapshot`
    pub fn restore(&mut self, snapshot: DeliverySnapshot<D, M>) {
        self.delivery.restore(snapshot, Instant::now());
    }

    fn carry_out(&mut self, tick: Tick<D, M>) -> Vec<C> {
        tick.sends.into_iter().for_each(&mut self.send);
        let warned = tell(&mut self.on_warning, tick.warnings, &self.persistence_id, "messages are not confirmed");
        let given_up = tell(&mut self.on_given_up, tick.given_up, &self.persistence_id, "messages are given up");
        warned.into_iter().chain(given_up).collect()
    }
}

fn tell<C, D, M>(
    command: &mut Option<Tell<C, D, M>>,
    deliveries: Vec<UnconfirmedDelivery<D, M>>,
    persistence_id: &PersistenceId,
    what: &str,
) -> Option<C> {
    if deliveries.is_empty() {
        return None;
    }
    if command.is_none() {
        let (first, count) = (deliveries[0].id, deliveries.len());
        tracing::warn!(%persistence_id, %first, count, "{what}");
    }
    command.as_mut().map(|command| command(deliveries))
}

impl<C, D: Clone, M: Clone> Redelivery<C> for Outbox<C, D, M> {
    fn recovered(&mut self, now: Instant) -> Vec<C> {
        let tick = self.delivery.recovered(now);
        self.carry_out(tick)
    }

    fn next_tick(&self) -> Option<Instant> {
        self.delivery.next_tick()
    }

    fn tick(&mut self, now: Instant) -> Vec<C> {
        let tick = self.delivery.tick(now);
        self.carry_out(tick)
    }
}
