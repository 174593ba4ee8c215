//! Decisions: what a command does to a shard.
//!
//! One file for each family of commands. The order of checks is the same everywhere: has this been done before, may the sender
//! do it at all, does it fit what is stored.
//!
//! Invariants
//! - A refusal and a retry make no changes.
//! - A journal's head is changed at most once by a command, before anything else that the command changes.

mod chain;
mod claim;
mod delete;
mod fencing;
mod snapshot;
mod write;

use crate::batch::Batch;
use crate::change::{Change, Decision, Head, ShardState};
use crate::command::Command;
use crate::ids::{PersistenceId, Timestamp};
use crate::reply::Reply;
use crate::view::View;

/// A view that changes can be made to.
pub trait Store: View {
    /// Makes one change. A store also passes it to [`ShardState::apply`] of its own state.
    ///
    /// # Errors
    /// The store's own.
    fn change(&mut self, change: Change) -> Result<(), Self::Error>;

    /// The batch is done: the shard's state hash is now `chain`.
    ///
    /// # Errors
    /// The store's own.
    fn seal(&mut self, chain: u128) -> Result<(), Self::Error>;
}

/// Answers one command.
///
/// # Errors
/// Only the view's own.
pub fn decide<V: View>(view: &V, command: &Command, moment: Timestamp) -> Result<Decision, V::Error> {
    match command {
        Command::Write(command) => write::decide(view, command, moment),
        Command::Claim(command) => claim::decide(view, command),
        Command::DeleteTo(command) => delete::decide(view, command),
        Command::SnapshotChunk(command) => snapshot::decide_chunk(view, command, moment),
        Command::SaveSnapshot(command) => snapshot::decide_save(view, command, moment),
        Command::DeleteSnapshot(command) => snapshot::decide_delete_one(view, command),
        Command::DeleteSnapshots(command) => snapshot::decide_delete_matching(view, command),
    }
}

/// Decides a batch's commands in order, each seeing what the earlier ones did, and makes their changes.
///
/// # Errors
/// Only the store's own.
pub fn apply_batch<S: Store>(store: &mut S, batch: &Batch) -> Result<Vec<Reply>, S::Error> {
    apply_batch_by(store, batch, |store, command| decide(store, command, batch.moment))
}

/// As [`apply_batch`], asking `decide` for each decision: for who looks on, or tries other rules.
///
/// # Errors
/// The store's own, and what `decide` gives.
pub fn apply_batch_by<S: Store>(
    store: &mut S,
    batch: &Batch,
    mut decide: impl FnMut(&S, &Command) -> Result<Decision, S::Error>,
) -> Result<Vec<Reply>, S::Error> {
    let mut chain = chain::Chain::after(store.shard().chain);
    let mut replies = Vec::with_capacity(batch.commands.len());
    for command in &batch.commands {
        let decision = decide(store, command)?;
        chain.add(&decision);
        for change in decision.changes {
            store.change(change)?;
        }
        replies.push(decision.reply);
    }
    store.seal(chain.seal())?;
    Ok(replies)
}

/// The head of a journal, or the head that it would get.
fn head_or_new<V: View>(view: &V, persistence_id: &PersistenceId) -> Result<Head, V::Error> {
    Ok(view.head(persistence_id)?.unwrap_or_else(|| new_head(view.shard())))
}

fn new_head(shard: &ShardState) -> Head {
    Head { journal: shard.next_journal, ..Head::default() }
}

/// An answer that changes nothing.
fn unchanged(reply: Reply) -> Decision {
    Decision { reply, changes: Vec::new() }
}
