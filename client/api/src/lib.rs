//! Cairn's public wire schema, and its conversion from and to the vocabulary of the rules.
//!
//! Why a crate of its own: server and client must agree, so each conversion exists once, in both directions, next to the schema.
//! Input is parsed here and never checked again: what comes out of a conversion is within every limit of
//! [`cairn_machine::limits`], and what goes over one is refused with the name of the field, its size and the limit.
//!
//! Where to start reading: [`v1`] is generated from `proto/cairn/v1/*.proto`, whose comments are the reference; [`failure`] is the
//! one table from domain error to gRPC code; [`event`], [`write`](mod@write), [`journal`], [`snapshot`] and [`reply`] hold the
//! conversions; [`v1::StoredEvent`] alone is not generated, and needs none; [`event_codec`] writes and reads events without anything in
//! between.

pub mod codec;
pub mod event;
pub mod event_codec;
pub mod failure;
pub mod journal;
mod number;
pub mod reply;
pub mod snapshot;
mod stored_event;
pub mod write;

pub use failure::code_of;
pub use journal::{Follow, FollowShard, Freshness, HighestReply, List, Listing, ReadHighest, Recover, Replay};
pub use snapshot::{ListSnapshots, LoadSnapshot, SnapshotInfo};

/// The generated wire types and services of package `cairn.v1`.
#[allow(missing_docs, clippy::all, unused_qualifications, rustdoc::all)]
pub mod v1 {
    pub use crate::stored_event::StoredEvent;
    tonic::include_proto!("cairn.v1");
}

/// Largest message that servers and clients accept, in bytes: the largest write and its framing fit, as do a full pipeline
/// message and the largest chunk of a replay.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How often a node tells a follower how far it has come, where nothing else is to be told.
pub const FOLLOW_PROGRESS_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);

/// Most requests in one message of a pipeline.
pub const PIPELINE_MESSAGE_REQUESTS_MAX: usize = 1024;

const _: () = assert!(cairn_machine::limits::WRITE_BYTES_MAX < MESSAGE_BYTES_MAX);
