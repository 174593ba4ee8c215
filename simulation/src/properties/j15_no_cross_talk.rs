//! J15: no answer mixes journals: names that are prefixes of each other, hold NUL or look alike have nothing in common.
//!
//! Everything that is read is made again from its stamp and its journal's name while it is read; what does not fit is recorded as wrong.

use crate::evidence::Evidence;
use crate::history::Outcome;

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (id, operation) in evidence.operations.iter().enumerate() {
        if let Outcome::Wrong(what) = &operation.outcome {
            return Err(format!("operation {id} on {:?}: {what}", operation.persistence_id));
        }
    }
    Ok(())
}
