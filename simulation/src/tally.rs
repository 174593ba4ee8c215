//! What many worlds came to, as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_simulation::Summary;
use comfy_table::{ContentArrangement, Table};

/// How wide a table is.
const COLUMNS: u16 = 120;

/// Sums over worlds.
#[derive(Default)]
pub(crate) struct Tally {
    seeds: u64,
    broken: u64,
    operations: BTreeMap<String, u64>,
    faults: BTreeMap<String, u64>,
    marks: BTreeMap<String, u64>,
    simulated: Duration,
    cpu: Duration,
}

impl Tally {
    pub(crate) fn add(&mut self, summary: &Summary) {
        self.seeds += 1;
        self.broken += u64::from(summary.broken.is_some());
        self.simulated += summary.elapsed;
        self.cpu += summary.cpu;
        add(&mut self.operations, &summary.operations);
        add(&mut self.faults, &summary.faults);
        add(&mut self.marks, &summary.marks);
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.broken == 0
    }

    /// How far it is, in a line.
    pub(crate) fn line(&self) -> String {
        let operations: u64 = self.operations.values().sum();
        let faults: u64 = self.faults.values().sum();
        format!("{} violations, {operations} operations, {faults} faults", self.broken)
    }

    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(COLUMNS);
        let operations: u64 = self.operations.values().sum();
        let faults: u64 = self.faults.values().sum();
        let minutes = self.cpu.as_secs_f64() / 60.0;
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("seeds", format!("{}, {} with a violation", self.seeds, self.broken));
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

fn add(sums: &mut BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) {
    for (name, count) in counts {
        *sums.entry(name.clone()).or_default() += count;
    }
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}
