//! What a world came to, held against every property of what clients saw.

use std::time::Duration;

use crate::audit::AUDITOR;
use crate::dice::Dice;
use crate::evidence::Evidence;
use crate::history::Operation;
use crate::properties::{self, linearizable};

use super::void::Happened;
use super::{Violation, World};

/// Journals of a world that the independent checker is asked about when nothing broke.
const CHECKED_JOURNALS: usize = 4;

impl World {
    /// Holds the history against every property.
    pub(super) fn judge(&self) -> Result<(), Violation> {
        let operations = self.history.operations();
        let evidence = Evidence::new(&operations, self.plan.shards);
        properties::judge(&evidence).map_err(|(property, what)| {
            let second = second_opinion(&evidence);
            self.violation(property, format!("{what}; {second}"))
        })?;
        self.ask_about_sample(&evidence)?;
        properties::check_served(&operations).map_err(|(property, what)| self.violation(property, what))?;
        self.check_not_void(&operations)
    }

    fn ask_about_sample(&self, evidence: &Evidence<'_>) -> Result<(), Violation> {
        let mut dice = Dice::new(self.plan.seed).stream("linearizability");
        let mut journals: Vec<&str> = evidence.journals.keys().copied().filter(|name| !name.is_empty()).collect();
        for _ in 0..CHECKED_JOURNALS.min(journals.len()) {
            let persistence_id = journals.swap_remove(dice.count(0, journals.len() - 1));
            match linearizable::check(evidence, persistence_id) {
                linearizable::Verdict::Linearizable => self.note(format!("linearizable: {persistence_id:?}")),
                linearizable::Verdict::Undecided => self.note(format!("not decided in time: {persistence_id:?}")),
                linearizable::Verdict::NotLinearizable => {
                    return Err(
                        self.violation("J6", format!("{persistence_id:?} is not linearizable, says an independent checker"))
                    );
                }
            }
        }
        Ok(())
    }

    fn check_not_void(&self, operations: &[Operation]) -> Result<(), Violation> {
        let acknowledged =
            operations.iter().filter(|operation| operation.client != AUDITOR && operation.is_acknowledged()).count();
        let worked_for = if self.plan.load.clients > 0 { self.plan.faults_end } else { Duration::ZERO };
        let (planned, fired, sought) = (&self.plan.faults, &self.faults, self.watch.checked());
        match (Happened { acknowledged, worked_for, planned, fired, sought }).why_void() {
            Some(why) => Err(self.violation("H1", format!("void: {why}"))),
            None => Ok(()),
        }
    }
}

/// What the independent checker says of all journals, for whoever looks into a violation.
fn second_opinion(evidence: &Evidence<'_>) -> String {
    let said = |verdict| {
        let journals = evidence.journals.keys().filter(|name| linearizable::check(evidence, name) == verdict);
        journals.copied().collect::<Vec<_>>()
    };
    format!(
        "an independent checker finds not linearizable {:?}, undecided {:?}",
        said(linearizable::Verdict::NotLinearizable),
        said(linearizable::Verdict::Undecided)
    )
}
