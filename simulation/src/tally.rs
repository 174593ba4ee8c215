//! What many worlds came to, as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_simulation::{Outcome, Report};
use comfy_table::Table;

/// Sums over worlds.
#[derive(Default)]
pub(crate) struct Tally {
    pub seeds: u64,
    pub violations: Vec<u64>,
    operations: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
    marks: BTreeMap<&'static str, u64>,
    simulated: Duration,
    cpu: Duration,
}

impl Tally {
    pub(crate) fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.simulated += report.elapsed;
        self.cpu += report.cpu;
        for operation in &report.history {
            let kind = match operation.outcome {
                Outcome::Ok(_) => "ok",
                Outcome::NotApplied(_) => "refused or not applied",
                Outcome::Unknown(_) => "unknown",
                Outcome::Pending => "pending",
                Outcome::Wrong(_) => "wrong",
            };
            *self.operations.entry(kind).or_default() += 1;
        }
        for (kind, count) in &report.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (mark, count) in &report.chronicle.marks {
            *self.marks.entry(mark).or_default() += count;
        }
        if report.violation.is_some() {
            self.violations.push(report.plan.seed);
        }
    }

    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        let operations: u64 = self.operations.values().sum();
        let faults: u64 = self.faults.values().sum();
        let minutes = self.cpu.as_secs_f64() / 60.0;
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("seeds", format!("{}, {} with a violation", self.seeds, self.violations.len()));
        row("simulated", format!("{:.1} h", self.simulated.as_secs_f64() / 3600.0));
        row("operations", format!("{operations}: {}", listed(&self.operations)));
        row("faults", format!("{faults}: {}", listed(&self.faults)));
        row("marks", listed(&self.marks));
        row(
            "a CPU minute",
            format!(
                "{:.2} simulated hours, {:.0} operations, {:.0} faults",
                self.simulated.as_secs_f64() / 3600.0 / minutes,
                operations as f64 / minutes,
                faults as f64 / minutes
            ),
        );
        table.to_string()
    }
}

fn listed(counts: &BTreeMap<&'static str, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}
