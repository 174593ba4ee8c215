//! One line of progress: a bar on a terminal, a plain line now and then elsewhere.

use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use quanta::Instant;

/// How often a plain line is printed.
const PLAIN_EVERY: Duration = Duration::from_secs(30);

/// Shows how far many worlds are.
pub(crate) struct Progress {
    bar: ProgressBar,
    said: Instant,
}

impl Progress {
    /// Of so many seeds; none if nobody knows how many there will be.
    pub(crate) fn new(seeds: Option<u64>) -> anyhow::Result<Self> {
        let (bar, template) = match seeds {
            Some(seeds) => (ProgressBar::new(seeds), "{bar:30} {pos}/{len} seeds, {elapsed} of {duration}, {msg}"),
            None => (ProgressBar::no_length(), "{pos} seeds, {elapsed}, {msg}"),
        };
        let bar = bar.with_style(ProgressStyle::with_template(template).context("the bar's template")?);
        Ok(Self { bar, said: Instant::now() })
    }

    /// One more world; `line` says how it stands.
    pub(crate) fn advance(&mut self, line: String) {
        self.bar.inc(1);
        if self.bar.is_hidden() && self.said.elapsed() >= PLAIN_EVERY {
            self.said = Instant::now();
            eprintln!("{} seeds, {line}", self.bar.position());
        }
        self.bar.set_message(line);
    }

    /// Prints above the line.
    pub(crate) fn print(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
