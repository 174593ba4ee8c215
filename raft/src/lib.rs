//! Consensus for Cairn: openraft over Cairn's log, tables and rules.
mod beats;

mod entry;
mod error;
mod identity;
pub mod limits;
mod peers;
mod settings;
mod status;
mod type_config;
mod wire;

#[allow(missing_docs, clippy::all, unused_qualifications, reason = "generated; its comments are in the protocol's file")]
pub(crate) mod proto {
    tonic::include_proto!("cairn.peer.v1");
}
