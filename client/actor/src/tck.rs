//! The test kit: what persistent actors rely on, held against any store.
//!
//! A [`Subject`] is a store with what it can do and hooks around each case; [`examine`] runs one [`Case`], [`run`] many, and
//! [`store_tests!`](crate::store_tests) makes a test of each. A case is a claim: its name says what holds of a store that passes.
//!
//! ```
//! use cairn_actor::store::Store;
//! use cairn_actor::tck::{self, Subject};
//! use cairn_client::{Cairn, memory::MemoryCairn};
//!
//! struct InMemory(Cairn);
//!
//! impl Subject for InMemory {
//!     fn store(&self) -> &dyn Store {
//!         &self.0
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let report = tck::run(&InMemory(MemoryCairn::new().client()), &tck::journal_cases()).await;
//! assert!(report.is_passed(), "{report}");
//! # }
//! ```
//!
//! Invariants
//! - A case uses journals of its own: cases may run in any order, at the same time, and on a store that holds other things.
//! - What a store cannot do is said by the subject, and skipped by name; nothing is skipped silently.
//! - Whoever is told that an outcome is unknown, or that nobody served the call, tries the same again: within a bound.

mod beyond;
mod cases;
mod journal;
mod performance;
mod report;
mod sample;
mod snapshots;
mod subject;
mod violation;

pub use cases::{Case, case_named, cases, journal_cases, performance_cases, snapshot_cases};
pub use report::{CaseReport, Measured, Outcome, Report};
pub use subject::{Capability, Effort, Hook, Subject};
pub use violation::{Verdict, Violation};

use std::time::Duration;

use tokio::time::Instant;

use sample::Examined;

/// Holds a store against one case, with the subject's hooks before and after.
pub async fn examine(subject: &dyn Subject, case: &Case) -> CaseReport {
    if let Some(missing) = case.needs.iter().find(|needed| !subject.can(**needed)) {
        let (name, outcome) = (case.name, Outcome::Skipped(*missing));
        return CaseReport { name, outcome, took: Duration::ZERO, measured: Vec::new() };
    }
    subject.before(case.name).await;
    let begun = Instant::now();
    let examined = Examined::new(subject, case.name);
    let verdict = match tokio::time::timeout(subject.effort().case_time_max, (case.run)(&examined)).await {
        Ok(verdict) => verdict,
        Err(_) => Err(Violation::new(format!("not within {:?}", subject.effort().case_time_max))),
    };
    let took = begun.elapsed();
    subject.after(case.name).await;
    let outcome = verdict.map_or_else(Outcome::Failed, |()| Outcome::Passed);
    let report = CaseReport { name: case.name, outcome, took, measured: examined.into_measured() };
    tracing::info!("{report}");
    report
}

/// Holds a store against cases, one after the other.
///
/// Akka: `JournalSpec`, `SnapshotStoreSpec`, `JournalPerfSpec`, `JavaJournalSpec`, `JavaSnapshotStoreSpec`, `JavaJournalPerfSpec`;
/// `akka-persistence-tck`, `Akka.Persistence.TestKit`.
pub async fn run(subject: &dyn Subject, cases: &[Case]) -> Report {
    let mut report = Report::default();
    for case in cases {
        report.cases.push(examine(subject, case).await);
    }
    report
}
