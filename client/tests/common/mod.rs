//! What tests of several kinds of calls share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_client::memory::Fault;
use cairn_machine::Command;

/// Faults for a command that is tried again after a foreign one: of the commands that are meant, the first try is carried out and its
/// answer lost, and the next ones come to nothing until `is_due`, so that the foreign command is there by then.
pub fn retried_after_a_foreign_one(
    is_due: Arc<AtomicBool>,
    is_meant: impl Fn(&Command) -> bool + Send + 'static,
) -> impl FnMut(&Command) -> Fault + Send + 'static {
    let mut tries = 0;
    move |command| {
        if !is_meant(command) {
            return Fault::None;
        }
        tries += 1;
        match (tries, is_due.load(Ordering::Relaxed)) {
            (1, _) => Fault::LoseAnswer,
            (_, false) => Fault::LoseRequest,
            (_, true) => Fault::None,
        }
    }
}
