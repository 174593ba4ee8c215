//! What a shard's log durably holds on one node.

use std::collections::BTreeMap;

use cairn_node::EntryId;
use cairn_storage::log::inspect::Content;

use super::Ballot;

/// A shard's log as far as it was synced, or left by a power cut.
#[derive(Clone, Debug, Default)]
pub(super) struct DurableShard {
    /// Live entries by index.
    pub entries: BTreeMap<u64, DurableEntry>,
    /// The last entry that left the log.
    pub purged: Option<EntryId>,
    /// The greatest index that was known to be committed.
    pub committed: Option<u64>,
    /// The vote, and whether that one was elected.
    pub vote: Option<(Ballot, bool)>,
}

/// An entry that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DurableEntry {
    pub id: EntryId,
    /// The newest segment that holds it.
    pub segment: u32,
}

impl DurableShard {
    /// Whether an index is there, or has left the log for the tables.
    pub fn has(&self, index: u64) -> bool {
        self.is_purged(index) || self.entries.contains_key(&index)
    }

    /// Whether this very entry is there, or has left the log for the tables.
    pub fn has_entry(&self, id: EntryId) -> bool {
        self.is_purged(id.index) || self.entries.get(&id.index).is_some_and(|entry| entry.id == id)
    }

    /// The entry at an index, if it is in the log.
    pub fn id_at(&self, index: u64) -> Option<EntryId> {
        match self.purged {
            Some(purged) if purged.index == index => Some(purged),
            _ => self.entries.get(&index).map(|entry| entry.id),
        }
    }

    /// The last index that is there, or has left the log.
    pub fn last(&self) -> Option<u64> {
        let purged = self.purged.map(|purged| purged.index);
        self.entries.last_key_value().map(|(index, _)| *index).max(purged)
    }

    pub fn ballot(&self) -> Ballot {
        self.vote.map(|(ballot, _)| ballot).unwrap_or_default()
    }

    fn is_purged(&self, index: u64) -> bool {
        self.purged.is_some_and(|purged| purged.index >= index)
    }

    /// Takes over a record that has become durable, which was checked before.
    pub fn take(&mut self, segment: u32, content: &Content, vote: Option<(Ballot, bool)>) {
        match content {
            Content::Entry { id, .. } => {
                self.entries.insert(id.index, DurableEntry { id: *id, segment });
            }
            Content::Copied { id, .. } => {
                // What was truncated or purged after it was chosen for copying stays away.
                if let Some(entry) = self.entries.get_mut(&id.index).filter(|entry| entry.id == *id) {
                    entry.segment = segment;
                }
            }
            Content::Truncated { last_kept } => {
                let _ = self.entries.split_off(&first_gone(*last_kept));
            }
            Content::Purged { up_to } => {
                self.entries = self.entries.split_off(&(up_to.index + 1));
                self.purged = self.purged.max(Some(*up_to));
            }
            Content::Vote { .. } => self.vote = vote,
            Content::Committed { id } => self.committed = self.committed.max(Some(id.index)),
        }
    }
}

/// The first index that a truncation removes.
pub(super) fn first_gone(last_kept: Option<EntryId>) -> u64 {
    last_kept.map_or(0, |kept| kept.index + 1)
}
