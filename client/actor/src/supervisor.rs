//! Runs the incarnations of an actor, one after the other, and decides after each what comes next.
//!
//! Invariants
//! - One incarnation at a time: the next one starts when the last one is gone.
//! - What waits in the mailbox outlives an incarnation. A command during which it failed is gone: whoever asked is told so.
//! - An actor that was superseded does not take the journal back by itself.
//! - However an incarnation ends, a stop that its owner asked for is not forgotten.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use cairn_client::PersistenceId;
use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::actor_ref::StopReason;
use crate::behavior::Behavior;
use crate::cell::{Cell, Ending};
use crate::kind::ActorKind;
use crate::mailbox::{Mailbox, Wake};
use crate::recovery::Recovery;
use crate::system::ActorSystem;

/// Runs actors of one kind.
pub(crate) struct Supervisor<B: Behavior> {
    system: ActorSystem,
    kind: ActorKind<B>,
}

impl<B: Behavior> Clone for Supervisor<B> {
    fn clone(&self) -> Self {
        Self { system: self.system.clone(), kind: self.kind.clone() }
    }
}

/// When an actor begins to recover.
pub(crate) enum Start {
    AtOnce,
    /// When its owner says so.
    Waiting(oneshot::Receiver<Recovery>),
}

/// What comes after an incarnation.
enum Next {
    Again,
    Over,
}

impl<B: Behavior> Wake<B::Command> for Supervisor<B> {
    fn wake(&self, mailbox: Arc<Mailbox<B::Command>>) {
        self.clone().start(mailbox, Start::AtOnce);
    }
}

impl<B: Behavior> Supervisor<B> {
    pub(crate) fn new(system: ActorSystem, kind: ActorKind<B>) -> Self {
        Self { system, kind }
    }

    pub(crate) fn kind(&self) -> &ActorKind<B> {
        &self.kind
    }

    /// Starts the task of an actor.
    pub(crate) fn start(self, mailbox: Arc<Mailbox<B::Command>>, start: Start) {
        tokio::spawn(self.run(mailbox, start));
    }

    async fn run(self, mailbox: Arc<Mailbox<B::Command>>, start: Start) {
        let recovery = match start {
            Start::AtOnce => self.kind.shared().recovery,
            Start::Waiting(started) => match started.await {
                Ok(recovery) => recovery,
                Err(_) => return mailbox.stop(StopReason::Done),
            },
        };
        let mut failures = 0;
        loop {
            let mut recovered = None;
            let incarnation = self.incarnation(&mailbox, recovery, &mut recovered);
            let ending = AssertUnwindSafe(Box::pin(incarnation)).catch_unwind().await;
            let ending = ending.unwrap_or_else(|panic| Ending::Failed(panic_message(panic.as_ref())));
            if self.kind.shared().supervision.is_stable(recovered) {
                failures = 0;
            }
            match self.next(&mailbox, ending, &mut failures).await {
                Next::Again => {}
                Next::Over => return,
            }
        }
    }

    /// Tells also when it had recovered.
    async fn incarnation(
        &self,
        mailbox: &Arc<Mailbox<B::Command>>,
        recovery: Recovery,
        recovered: &mut Option<Instant>,
    ) -> Ending {
        match Box::pin(Cell::start(&self.system, &self.kind, mailbox, recovery)).await {
            Ok(cell) => {
                *recovered = Some(Instant::now());
                cell.run().await
            }
            Err(ending) => ending,
        }
    }

    async fn next(&self, mailbox: &Mailbox<B::Command>, ending: Ending, failures: &mut u32) -> Next {
        match ending {
            Ending::Rests | Ending::Done if mailbox.can_rest() => rest(mailbox, StopReason::Done),
            Ending::Rests | Ending::Done | Ending::Stopped => {
                mailbox.stop(StopReason::Done);
                Next::Over
            }
            Ending::Superseded => self.give_up(mailbox, StopReason::Superseded),
            Ending::Failed(reason) => {
                let supervision = self.kind.shared().supervision;
                if *failures >= supervision.restarts_max {
                    return self.give_up(mailbox, StopReason::Failed(reason));
                }
                let delay = supervision.backoff.delay(*failures, self.system.random());
                *failures += 1;
                warn_of_restart(mailbox.persistence_id(), &reason, delay);
                // In a box: an actor that runs keeps no room for it.
                Box::pin(tokio::time::sleep(delay)).await;
                Next::Again
            }
        }
    }

    /// Drops what waits: whoever asked is told.
    fn give_up(&self, mailbox: &Mailbox<B::Command>, reason: StopReason) -> Next {
        tracing::warn!(persistence_id = %mailbox.persistence_id(), ?reason, "an actor is given up");
        if !mailbox.can_rest() {
            mailbox.stop(reason);
            return Next::Over;
        }
        mailbox.clear();
        rest(mailbox, reason)
    }
}

/// Lets the actor rest, or stop for this reason if it was asked to, unless commands have come.
fn rest<C>(mailbox: &Mailbox<C>, reason: StopReason) -> Next {
    if mailbox.rest(reason) { Next::Over } else { Next::Again }
}

fn warn_of_restart(persistence_id: &PersistenceId, reason: &str, delay: std::time::Duration) {
    tracing::warn!(%persistence_id, reason, ?delay, "an actor failed and is started again");
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}
