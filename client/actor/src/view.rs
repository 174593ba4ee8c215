//! Views: read-only followers of an actor's journal, with a state, an id and snapshots of their own.
//!
//! A view sees the same events as the actor, and answers questions of its own from them. By default the journal pushes events to it as
//! they are stored; it can also look for them at intervals, or only when it is told to. It claims nothing: it never fences the actor
//! that it follows.
//!
//! An *update* brings a view to what the journal holds. While one is under way that others wait for, messages wait, too: they see its
//! outcome.
//!
//! Invariants
//! - Every event is applied once and in order to a state, and none is left out: after a failure the view goes on after the last one, after
//!   a restart after its snapshot.
//! - Events and messages are handled one at a time.
//! - A failing journal does not stop a view: it tries again.
//!
//! ```
//! use std::time::Duration;
//!
//! use cairn_actor::actor_ref::ReplyTo;
//! use cairn_actor::adapter::Format;
//! use cairn_actor::codec::Cbor;
//! use cairn_actor::format::Codec;
//! use cairn_actor::system::ActorSystem;
//! use cairn_actor::view::{Update, View, ViewContext, ViewKind};
//! use cairn_client::memory::MemoryCairn;
//!
//! struct Largest;
//!
//! impl View for Largest {
//!     type State = u64;
//!     type Event = u64;
//!     type Message = ReplyTo<u64>;
//!
//!     fn empty_state(&self) -> u64 {
//!         0
//!     }
//!
//!     fn apply(&mut self, largest: &mut u64, amount: &u64, _: &mut ViewContext<ReplyTo<u64>>) {
//!         *largest = *amount.max(largest);
//!     }
//!
//!     fn handle(&mut self, largest: &mut u64, reply_to: ReplyTo<u64>, _: &mut ViewContext<ReplyTo<u64>>) {
//!         reply_to.send(*largest);
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cairn = MemoryCairn::new().client();
//! let mut account = cairn.journal("account-1")?.claim().await?;
//! for amount in [5_u64, 9, 7] {
//!     account.append(Cbor.encode(&amount)?).await?;
//! }
//!
//! let kind = ViewKind::new(|_| Largest, Format::new(Cbor));
//! let view = ActorSystem::new(cairn).spawn_view(&kind, "account-1", "largest-of-account-1")?;
//! view.update(Duration::from_secs(5), Update::default()).await?;
//! assert_eq!(view.ask(Duration::from_secs(5), |reply_to| reply_to).await?, 9);
//! # Ok(()) }
//! ```

mod cell;
mod context;
mod feed;
mod kind;
mod reference;

use std::time::Duration;

use cairn_client::{Error, SequenceNumber};

pub use context::{ViewContext, ViewIds};
pub use kind::{AutoUpdate, ViewKind};
pub use reference::{UpdateError, ViewRef};

use crate::format::FormatError;
use crate::newest_snapshot::{SearchFailure, Unusable};
use crate::signal::Signal;

/// A kind of view.
///
/// Akka: `PersistentView`, `PersistentView.Receive`; what `IsPersistent` tells is told by which of the two functions is called.
pub trait View: Sized + Send + 'static {
    /// What the events add up to.
    type State: Send + 'static;
    /// The events of the actor that it follows.
    type Event: Send + 'static;
    /// What it is asked for.
    type Message: Send + 'static;

    /// The state before the first event.
    fn empty_state(&self) -> Self::State;

    /// Changes the state by an event of the journal. After a panic the view is started again from its snapshot.
    ///
    /// Akka: `PersistentView.receive` with `isPersistent`
    fn apply(&mut self, state: &mut Self::State, event: &Self::Event, context: &mut ViewContext<Self::Message>);

    /// Handles a message that is no event.
    ///
    /// Akka: `PersistentView.receive`
    fn handle(&mut self, state: &mut Self::State, message: Self::Message, context: &mut ViewContext<Self::Message>);

    /// Whether a snapshot that was read shall be the state; if not, an older one is, or all events are replayed. Yes unless it is overridden.
    ///
    /// Akka: `SnapshotOffer`
    fn accepts_snapshot(&self, snapshot: &Self::State, number: SequenceNumber) -> bool {
        let _ = (snapshot, number);
        true
    }

    /// Told that an update failed, the first one or another, or that the journal does not push any more. The view goes on with what it has,
    /// and tries again as it updates itself. Logs unless it is overridden.
    ///
    /// Akka: `PersistentView.onReplayError`, `OnReplayError`
    fn update_failed(&mut self, failure: &UpdateFailure, context: &mut ViewContext<Self::Message>) {
        let ViewIds { persistence_id, view_id } = context.ids();
        tracing::error!(%persistence_id, %view_id, %failure, "a view was not updated");
    }

    /// Told how a snapshot's save, load or deletion ended. Logs failures unless it is overridden.
    ///
    /// Akka: `SaveSnapshotSuccess`, `SaveSnapshotFailure` and their like
    fn on_signal(&mut self, signal: Signal<Self::State>, state: &mut Self::State, context: &mut ViewContext<Self::Message>) {
        let _ = state;
        signal.warn_of_failure(context.view_id());
    }
}

/// Brings a view to what the journal holds.
///
/// Akka: `Update`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Whether messages wait until it is over, and one that falls into another update is done after that. If not, messages are
    /// handled meanwhile, and an update that falls into another is that one.
    ///
    /// Akka: `Update.await`, `Update.isAwait`
    pub awaits: bool,
    /// How many stored events to apply at most.
    ///
    /// Akka: `Update.replayMax`
    pub max: u64,
}

impl Default for Update {
    /// Awaited, and all there is.
    fn default() -> Self {
        Self { awaits: true, max: u64::MAX }
    }
}

/// Why a view was not updated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateFailure {
    /// The store failed; also if a snapshot is damaged there, and not all events before it are there any more.
    #[error(transparent)]
    Store(#[from] Error),
    /// Nothing came for so long.
    #[error("nothing came for {0:?}")]
    TimedOut(Duration),
    /// A stored event does not become an event.
    #[error("event {number}: {error}")]
    Format {
        /// Which.
        number: SequenceNumber,
        /// Why.
        error: FormatError,
    },
    /// An event came out of order.
    #[error("event {number} after {last}")]
    Order {
        /// The number that came.
        number: SequenceNumber,
        /// The number before it.
        last: SequenceNumber,
    },
    /// The journal ended a stream that has no end.
    #[error("the journal ended the stream of events")]
    Ended,
    /// The snapshot cannot be used, and not all events before it are there any more.
    #[error("the snapshot at {snapshot} cannot be used, and the events before it are deleted: {reason}")]
    SnapshotNeeded {
        /// The number of the snapshot.
        snapshot: SequenceNumber,
        /// Why it cannot be used.
        reason: String,
    },
}

impl From<SearchFailure> for UpdateFailure {
    fn from(failure: SearchFailure) -> Self {
        match failure {
            SearchFailure::Store(error) => Self::Store(error),
            SearchFailure::TimedOut(idle) => Self::TimedOut(idle),
        }
    }
}

impl From<Unusable> for UpdateFailure {
    /// What becomes of an update that needs it.
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Refused { number: snapshot, reason } => Self::SnapshotNeeded { snapshot, reason },
            Unusable::Damaged(error) => Self::Store(error),
        }
    }
}

#[cfg(test)]
mod tests;
