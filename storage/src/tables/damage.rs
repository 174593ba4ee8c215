//! Damage that was found: counted, and never answered with less than what was asked for.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::TablesError;

/// Counts damage.
#[derive(Debug, Default)]
pub(crate) struct Damages(AtomicU64);

impl Damages {
    /// How much was found since the tables were opened.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts and reports an error if it is damage.
    pub(crate) fn note(&self, error: TablesError) -> TablesError {
        if let TablesError::Damaged { what } = &error {
            self.0.fetch_add(1, Ordering::Relaxed);
            tracing::error!(what, "tables are damaged");
        }
        error
    }
}
