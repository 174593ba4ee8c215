//! What decides commands, as a part: Cairn's rules, or wrong ones that a test wants to see caught.

use cairn_machine::{Command, Decision, Timestamp};

use super::{Applying, TablesError};

/// Decides commands. An implementation is deterministic, and the same on all replicas.
pub trait Rules: Send + Sync + 'static {
    /// Answers one command.
    ///
    /// # Errors
    /// Only the view's own.
    fn decide(&self, view: &Applying<'_>, command: &Command, moment: Timestamp) -> Result<Decision, TablesError>;
}

/// The rules of Cairn.
#[derive(Clone, Copy, Debug, Default)]
pub struct CairnRules;

impl Rules for CairnRules {
    fn decide(&self, view: &Applying<'_>, command: &Command, moment: Timestamp) -> Result<Decision, TablesError> {
        cairn_machine::decide(view, command, moment)
    }
}
