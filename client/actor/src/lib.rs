//! Persistent actors on Cairn: a state that is the sum of its events, and comes back after a crash.
//!
//! Everything here goes through the public client: there is no private door to the cluster.
//!
//! Where to start reading: the [`book`] tells how to write persistent actors and what they promise, chapter by chapter.
//!
//! Of the code, [`behavior`] is what an actor is and has a whole one; [`effect`] is what it can ask for, [`kind`] how all of a
//! kind are set up, [`registry`] how they start, rest and start again. [`format`](mod@format), [`codec`] and [`adapter`] make events into bytes;
//! [`outbox`] delivers at least once; [`view`] and [`query`] read; [`testing`] and [`tck`] are for tests. Items that correspond to a
//! member of Akka say so.

pub mod actor_ref;
pub mod adapter;
pub mod akka;
pub mod backoff;
pub mod behavior;
pub mod book;
mod cell;
pub mod circuit_breaker;
pub mod codec;
pub mod context;
pub mod delivery;
pub mod effect;
pub mod format;
pub mod kind;
mod lazy_timer;
mod mailbox;
mod maintenance;
mod newest_snapshot;
pub mod outbox;
pub mod query;
pub mod recovery;
pub mod registry;
pub mod replay_filter;
pub mod retention;
pub mod signal;
mod stash;
pub mod store;
mod supervisor;
pub mod system;
pub mod tck;
pub mod testing;
pub mod view;

pub use actor_ref::{ActorRef, AskError, ReplyTo, StopReason, TellError};
pub use behavior::Behavior;
pub use context::Context;
pub use effect::Effect;
pub use kind::{ActorKind, Supervision};
pub use recovery::Recovery;
pub use registry::Entities;
pub use system::{ActorSystem, ManualRecovery};
