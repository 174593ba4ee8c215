//! What the demo says while it runs: lines on standard output, and a bar between them when a terminal is there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;

use super::record::Record;
use crate::output::line;
use crate::progress;

/// How often progress is told.
const INTERVAL: Duration = Duration::from_millis(250);
/// How many progress lines are written for the whole import where no bar is.
const LINES: u64 = 10;

/// Tells how it goes.
pub struct Narrator {
    bar: ProgressBar,
    total: u64,
    lines: AtomicU64,
}

impl Narrator {
    /// Tells of the work on so many events.
    pub fn new(total: u64) -> Self {
        let bar = progress::bar("import", Some(total));
        Self { bar, total, lines: AtomicU64::new(0) }
    }

    /// A line that stays.
    pub fn say(&self, text: std::fmt::Arguments<'_>) {
        // Nobody may be reading; the exit code still says how it ended.
        self.bar.suspend(|| drop(line(text)));
    }

    /// The bar begins anew for another part of the work.
    pub fn begin(&self, what: &str) {
        self.bar.set_prefix(what.to_owned());
        self.bar.set_position(0);
    }

    /// So many more events are done.
    pub fn add(&self, events: u64) {
        self.bar.inc(events);
    }

    /// Tells how the import goes until it is dropped.
    pub async fn follow(&self, record: &Record) {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            let events = record.events();
            self.bar.set_position(events);
            self.bar.set_message(format!("{} in flight", record.in_flight_everywhere()));
            let lines = events * LINES / self.total.max(1);
            if self.bar.is_hidden() && lines > self.lines.swap(lines, Ordering::Relaxed) {
                self.say(format_args!("imported {events} of {} events", self.total));
            }
        }
    }
}
