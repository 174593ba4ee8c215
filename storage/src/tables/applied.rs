//! Looking on while entries are applied: for tests that compare what replicas make of the same entry.

use cairn_machine::{Batch, Decision, ShardId};

use crate::entry::EntryId;

/// Hears of every entry after it was applied, in order, also of those that are applied again after a restart; not of what an
/// installed checkpoint brings. Called where consensus runs: it must be quick.
pub trait AppliedObserver: Send + Sync + 'static {
    /// An entry was applied.
    fn applied(&self, entry: &AppliedEntry<'_>);
}

/// An entry, and what the rules made of it.
#[derive(Clone, Debug)]
pub struct AppliedEntry<'a> {
    /// Whose.
    pub shard: ShardId,
    /// Which.
    pub entry: EntryId,
    /// The commands; none if the entry is not one of commands.
    pub batch: Option<&'a Batch>,
    /// For each command, in order: the reply, and the changes that were made.
    pub decisions: &'a [Decision],
    /// The hash over every decision up to this entry.
    pub state_hash: u128,
}
