//! What must hold, one file a property, each worded in its first line.
//!
//! A property looks at evidence and says what breaks it, naming the operations. Most take time in proportion to the history.

mod j01_durability;
mod j02_atomicity;
mod j03_order;
mod j04_chain;
mod j05_highest_never_decreases;
mod j06_linear_order;
mod j07_one_state;
mod j08_deletion_is_final;
mod j09_refused_never_appears;
mod j10_applied_once;
mod j11_fencing;
mod j12_unknown_is_superseded;
mod j13_independent_entries;
mod j14_edges;
mod j15_no_cross_talk;
pub(crate) mod linearizable;
mod positions;
mod s1_greatest_within_bounds;
mod s2_last_save_wins;
mod s3_deletions_are_exact;
mod s4_whole_or_not;
mod s6_timestamps;
mod s7_snapshot_and_replay;

use crate::audit::AUDITOR;
use crate::evidence::Evidence;
use crate::history::{Operation, Outcome};

/// A property: its name in the list of invariants, and its check, which says what breaks it.
pub(crate) type Property = (&'static str, fn(&Evidence<'_>) -> Result<(), String>);

/// All properties that are judged from what clients saw.
const OF_HISTORY: &[Property] = &[
    ("J15", j15_no_cross_talk::check),
    ("J3", j03_order::check),
    ("J14", j14_edges::check),
    ("J9", j09_refused_never_appears::check),
    ("J10", j10_applied_once::check),
    ("J12", j12_unknown_is_superseded::check),
    ("J1", j01_durability::check),
    ("J2", j02_atomicity::check),
    ("J4", j04_chain::check),
    ("J5", j05_highest_never_decreases::check),
    ("J6", j06_linear_order::check),
    ("J7", j07_one_state::check),
    ("J8", j08_deletion_is_final::check),
    ("J11", j11_fencing::check),
    ("J13", j13_independent_entries::check),
    ("positions", positions::check),
    ("S4", s4_whole_or_not::check),
    ("S6", s6_timestamps::check),
    ("S2", s2_last_save_wins::check),
    ("S3", s3_deletions_are_exact::check),
    ("S1", s1_greatest_within_bounds::check),
    ("S7", s7_snapshot_and_replay::check),
];

/// Holds evidence against every property.
///
/// # Errors
/// The first property that does not hold, and what breaks it.
pub(crate) fn judge(evidence: &Evidence<'_>) -> Result<(), (&'static str, String)> {
    OF_HISTORY.iter().try_for_each(|(property, check)| check(evidence).map_err(|what| (*property, what)))
}

/// L1: a cluster that is whole serves the auditor.
///
/// # Errors
/// What it did not answer.
pub(crate) fn check_served(operations: &[Operation]) -> Result<(), (&'static str, String)> {
    let unserved =
        operations.iter().find(|operation| operation.client == AUDITOR && !matches!(operation.outcome, Outcome::Ok(_)));
    unserved.map_or(Ok(()), |operation| Err(("L1", format!("a healed cluster does not serve: {operation:?}"))))
}
