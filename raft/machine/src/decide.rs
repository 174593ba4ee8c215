//! Decisions.

use crate::batch::Batch;
use crate::change::{Change, Decision};
use crate::command::Command;
use crate::ids::Timestamp;
use crate::reply::Reply;
use crate::view::View;

/// A view that changes can be made to.
pub trait Store: View {
    /// Makes one change.
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
pub fn decide<V: View>(_view: &V, _command: &Command, _moment: Timestamp) -> Result<Decision, V::Error> {
    unreachable!()
}

/// Decides a batch's commands in order, each seeing what the earlier ones did, and makes their changes.
///
/// # Errors
/// Only the store's own.
pub fn apply_batch<S: Store>(_store: &mut S, _batch: &Batch) -> Result<Vec<Reply>, S::Error> {
    unreachable!()
}
