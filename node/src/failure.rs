//! The one place where what can fail inside a node becomes what a caller is told. The codes themselves stand in
//! `cairn_api::failure`.

use std::time::Duration;

use cairn_api::v1::{Failure, Reason};
use cairn_machine::Reply;
use cairn_raft::{MembersError, NodeInfo, ProposeError, ReadError};
use cairn_storage::TablesError;

/// The leader is elsewhere, or nowhere.
pub(crate) fn not_leader(leader: Option<NodeInfo>) -> Failure {
    Failure::not_leader(leader.map(|leader| (leader.node_id, leader.client_address)))
}

/// A proposal without a reply.
pub(crate) fn of_propose(error: ProposeError) -> Failure {
    match error {
        ProposeError::NotLeader { leader } => not_leader(leader),
        ProposeError::Unknown => Failure::unknown("the leader was lost while the command was on its way"),
        ProposeError::Stopped => Failure::new(Reason::Unavailable, "the node is stopping"),
        ProposeError::Overloaded { retry_after } => Failure::overloaded("proposals", retry_after),
    }
}

/// A reply of another kind than the command's: an error in the program, which may have been applied all the same.
pub(crate) fn unexpected(reply: &Reply) -> Failure {
    tracing::error!(?reply, "a command was answered with another command's reply");
    Failure::unknown("the node gave an answer of another kind")
}

/// A read whose freshness was not reached.
pub(crate) fn of_read(error: ReadError) -> Failure {
    match error {
        ReadError::NoLeader { leader } => not_leader(leader),
        ReadError::Deadline => Failure::new(Reason::Behind, "the replica did not catch up within the deadline"),
        ReadError::Stopped => Failure::new(Reason::Unavailable, "the node is stopping"),
        ReadError::Overloaded { retry_after } => Failure::overloaded("reads", retry_after),
    }
}

/// A failed look into the tables.
pub(crate) fn of_tables(error: &TablesError) -> Failure {
    match error {
        TablesError::Broken { .. } => Failure::new(Reason::Unavailable, "the node is about to stop: its tables are broken"),
        TablesError::Damaged { what } => Failure::new(Reason::Damaged, what.clone()),
        TablesError::Gone { removed_to } => {
            Failure::new(Reason::Gone, format!("events up to {removed_to} were permanently removed while they were read"))
        }
        TablesError::TooMany { what } => Failure::overloaded(what, Duration::from_millis(200)),
    }
}

/// A change of the members that was not made.
pub(crate) fn of_members(error: MembersError) -> Failure {
    match error {
        MembersError::Refused { reason } => Failure::new(Reason::Unsafe, reason),
        MembersError::NotLeader { leader } => not_leader(leader),
        MembersError::Busy { reason } => {
            let mut failure = Failure::new(Reason::Unavailable, reason);
            failure.retry_after_millis = 1_000;
            failure
        }
        MembersError::Unknown { reason } => Failure::unknown(reason),
        MembersError::Stopped => Failure::new(Reason::Unavailable, "the node is stopping"),
    }
}
