//! What a follower has told a leader to be on its disk, and the follower's check that it still has it.
//!
//! A node that comes back with an older copy of its files has broken the promise on which every quorum rests, and nothing in its own
//! directory tells: all checksums are right. Its leader can tell. With every append it says what the receiver has acknowledged to it;
//! a receiver that does not hold that any more stops, loudly, before it votes or answers again.
//!
//! Invariants
//! - Only what was acknowledged as stored on disk under the same ballot is held against a node: another leader's ballot may have
//!   truncated entries that were acknowledged to this one.
//! - A leader's memory ends with its process; what nobody remembers cannot be found here.

use std::collections::BTreeMap;
use std::sync::Mutex;

use cairn_storage::log::ShardLog;
use cairn_storage::{EntryId, Tables};

use crate::entry::decode_ballot;
use crate::identity::Party;
use crate::log_store::entry_id;
use crate::type_config::{Ballot, RaftLogId};

/// One shard's followers: the last entry that each has acknowledged, and to which ballot.
#[derive(Default)]
pub(crate) struct Acknowledged {
    followers: Mutex<BTreeMap<Party, (Ballot, RaftLogId)>>,
}

impl Acknowledged {
    /// Takes note that `follower` has everything up to `last` on its disk.
    pub fn note(&self, follower: Party, ballot: Ballot, last: RaftLogId) {
        let mut followers = self.followers.lock().expect("no one panics while holding it");
        match followers.get_mut(&follower) {
            Some((known, until)) if *known == ballot => *until = (*until).max(last),
            Some(other) => *other = (ballot, last),
            None => {
                followers.insert(follower, (ballot, last));
            }
        }
    }

    /// What `follower` has acknowledged to `ballot`.
    pub fn to(&self, follower: Party, ballot: &Ballot) -> Option<RaftLogId> {
        let followers = self.followers.lock().expect("no one panics while holding it");
        followers.get(&follower).filter(|(known, _)| known == ballot).map(|(_, last)| *last)
    }
}

/// What log and tables lack of what their node has acknowledged to the leader of `ballot`; none if nothing is missing, or if that leader is not
/// the one that the node follows.
pub(crate) fn missing(log: &ShardLog, tables: &Tables, ballot: &Ballot, acknowledged: &RaftLogId) -> Option<String> {
    let before = log.state().vote;
    let voted = before.as_ref().and_then(|vote| decode_ballot(vote).ok());
    if voted.is_some_and(|voted| voted > *ballot) {
        return None;
    }
    let acknowledged = entry_id(acknowledged);
    if voted.is_some_and(|voted| voted == *ballot) && holds(log, tables, acknowledged) {
        return None;
    }
    // Whoever was elected meanwhile may have truncated what was looked for.
    let state = log.state();
    (state.vote == before).then(|| {
        format!(
            "this node has acknowledged entry {acknowledged} to the leader of {ballot}, but its log ends at {} and its vote is {}: \
             the data directory is an older copy. Wipe it and replace the node under a new id",
            state.last.or(state.purged).map_or_else(|| "the beginning".to_owned(), |last| last.to_string()),
            voted.map_or_else(|| "none".to_owned(), |voted| voted.to_string()),
        )
    })
}

/// A checkpoint stands for the entries that it holds, before the log has taken note of it.
fn holds(log: &ShardLog, tables: &Tables, id: EntryId) -> bool {
    let is_covered = |until: Option<EntryId>| until.is_some_and(|until| id.index <= until.index);
    log.entry_id(id.index) == Some(id) || is_covered(log.state().purged) || is_covered(tables.applied())
}

#[cfg(test)]
mod tests {
    use cairn_machine::NodeId;
    use uuid::Uuid;

    use super::*;
    use crate::type_config::log_id;

    #[test]
    fn what_was_acknowledged_to_one_ballot_is_not_held_against_a_node_under_another() {
        let acknowledged = Acknowledged::default();
        let follower = Party { node_id: NodeId(2), birth_id: Uuid::from_u128(2) };
        let (first, second) = (Ballot::new_committed(1, 1), Ballot::new_committed(3, 1));
        acknowledged.note(follower, first, log_id(1, 1, 9));
        acknowledged.note(follower, first, log_id(1, 1, 7));
        assert_eq!(acknowledged.to(follower, &first), Some(log_id(1, 1, 9)), "answers may come late");
        assert_eq!(acknowledged.to(follower, &second), None);
        acknowledged.note(follower, second, log_id(3, 1, 8));
        assert_eq!(acknowledged.to(follower, &second), Some(log_id(3, 1, 8)));
        let reborn = Party { birth_id: Uuid::from_u128(3), ..follower };
        assert_eq!(acknowledged.to(reborn, &second), None, "a new birth has promised nothing");
    }
}
