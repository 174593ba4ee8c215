//! What the kit found.

use std::fmt;
use std::time::Duration;

use super::subject::Capability;
use super::violation::Violation;

/// What a case measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// What was done.
    pub what: String,
    /// Events of a round.
    pub events: u64,
    /// How often it was done.
    pub rounds: u32,
    /// The mean time of a round.
    pub mean: Duration,
    /// How long a round may take.
    pub bar: Duration,
}

/// What became of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The claim holds.
    Passed,
    /// It does not.
    Failed(Violation),
    /// The store cannot do what the case needs.
    Skipped(Capability),
}

/// One case, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseReport {
    /// The claim.
    pub name: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took, the hooks excluded.
    pub took: Duration,
    /// What it measured.
    pub measured: Vec<Measured>,
}

/// All cases of a run, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The cases.
    pub cases: Vec<CaseReport>,
}

impl CaseReport {
    /// Fails the test that calls it unless the claim holds; what was skipped is told and passes.
    ///
    /// # Panics
    /// If the claim does not hold.
    pub fn assert_passed(&self) {
        assert!(!matches!(self.outcome, Outcome::Failed(_)), "{self}");
        if matches!(self.outcome, Outcome::Skipped(_)) {
            println!("{self}");
        }
    }
}

impl Report {
    /// Whether no claim was broken.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_))) == 0
    }

    /// How many cases were skipped.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Skipped(_)))
    }

    fn count(&self, is_counted: impl Fn(&Outcome) -> bool) -> usize {
        self.cases.iter().filter(|case| is_counted(&case.outcome)).count()
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, events, rounds, mean, bar } = self;
        let each = |time: Duration| time.div_f64(self.events.max(1) as f64);
        write!(f, "{what}: {events} events in {mean:?} ({rounds} rounds), {:?} each; ", each(*mean))?;
        write!(f, "the bar is {bar:?}, {:?} each", each(*bar))
    }
}

impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Passed => write!(f, "passed   {} ({:?})", self.name, self.took)?,
            Outcome::Failed(violation) => write!(f, "FAILED   {}: {violation}", self.name)?,
            Outcome::Skipped(missing) => write!(f, "skipped  {}: the store cannot do {missing:?}", self.name)?,
        }
        self.measured.iter().try_for_each(|measured| write!(f, "\n         {measured}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.cases {
            writeln!(f, "{case}")?;
        }
        let failed = self.count(|outcome| matches!(outcome, Outcome::Failed(_)));
        write!(f, "{} cases, {failed} failed, {} skipped", self.cases.len(), self.skipped())
    }
}
