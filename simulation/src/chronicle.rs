//! What everybody in a world says while it goes on: the log lines of nodes and clients, kept for people, counted as marks, and, where a
//! whole trace is wanted, every message on the network too.
//!
//! A mark is a place in the product that a run came by, known by a line that the product writes there anyway. A swarm that never comes by
//! proves nothing about it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, registry};
use xxhash_rust::xxh3::Xxh3;

use crate::entropy;

/// Lines that are kept for people.
const LINES_KEPT_MAX: usize = 400;

/// Marks: their name, and what the line of the product contains.
const MARKS: &[(&str, &str)] = &[
    ("cluster born", "the cluster is born"),
    ("checkpoint installed", "installed a checkpoint"),
    ("tables lost", "tables are lost"),
    ("tables fetched", "fetched the tables from a peer"),
    ("torn tail cut", "torn_tail: Some"),
    ("log opened after a crash", "closed: false"),
    ("leadership balanced", "handed leadership to the preferred node"),
    ("handed over by a full disk", "handed over: the disk is nearly full"),
    ("disk nearly full", "the disk's state has changed nearly_full=true"),
    ("no room for a segment", "no room for the log's next segment"),
    ("node gave up", "the node cannot go on"),
    ("core stopped", "a shard's core has stopped"),
    ("stopped in order", "ended: Stopped"),
    ("checked as linearizable", "linearizable: "),
    ("not decided in time", "not decided in time: "),
];

/// One line of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When, since the world began.
    pub at: Duration,
    /// On which host; empty for the world itself.
    pub host: String,
    /// What was said.
    pub text: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>9.3} {:<10} {}", self.at.as_secs_f64(), self.host, self.text)
    }
}

/// How much of a world is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// What nodes say to operators.
    #[default]
    Lines,
    /// Every message on the network and every answer too, as a hash.
    TraceHash,
    /// The same, printed as it happens.
    TracePrinted,
}

/// The record; clones share it.
#[derive(Clone)]
pub(crate) struct Chronicle {
    state: Arc<Mutex<State>>,
    detail: Detail,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    marks: BTreeMap<&'static str, u64>,
    hash: Xxh3,
    traced: u64,
}

/// What was written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chronicled {
    /// The last lines.
    pub lines: Vec<Line>,
    /// How often a run came by each mark.
    pub marks: BTreeMap<&'static str, u64>,
    /// A hash of the whole trace, and how many lines it has; zero if none was wanted.
    pub trace: (u64, u64),
}

impl Chronicle {
    pub(crate) fn new(detail: Detail) -> Self {
        Self { state: Arc::default(), detail }
    }

    /// Makes what this thread says part of the record while `work` runs.
    pub(crate) fn record<T>(&self, work: impl FnOnce() -> T) -> T {
        let subscriber = Registry::default().with(self.clone());
        tracing::subscriber::with_default(subscriber, work)
    }

    pub(crate) fn take(&self) -> Chronicled {
        let mut state = self.lock();
        Chronicled {
            lines: std::mem::take(&mut state.lines).into(),
            marks: std::mem::take(&mut state.marks),
            trace: (state.hash.digest(), state.traced),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn level(&self) -> Level {
        if self.detail == Detail::Lines { Level::INFO } else { Level::TRACE }
    }
}

/// Whose lines are part of a trace: those of the program itself and of the network, not those of libraries, whose wording may depend on
/// addresses in memory.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    target.starts_with("cairn") || target.starts_with("turmoil") || target == "world" || target == "history"
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Chronicle {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level() && (metadata.is_span() || is_traced(metadata))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        // The world's span around each host.
        if attributes.metadata().name() != "node" {
            return;
        }
        let mut name = Words::default();
        attributes.record(&mut name);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Host(name.name));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let host = context.event_scope(event).into_iter().flatten().find_map(|span| host_of(&span)).unwrap_or_default();
        // Between two ticks nobody's turn it is, but the thread is the world's.
        let at = turmoil::sim_elapsed().unwrap_or_else(entropy::elapsed);
        let text = format!("{}{}", words.message, words.rest);
        let mut state = self.lock();
        if self.detail != Detail::Lines {
            let line = format!("{:>12} {host} {} {text}", at.as_micros(), event.metadata().target());
            if self.detail == Detail::TracePrinted {
                println!("{line}");
            }
            state.hash.update(line.as_bytes());
            state.traced += 1;
        }
        if *event.metadata().level() > Level::INFO {
            return;
        }
        for (mark, part) in MARKS {
            if text.contains(part) {
                *state.marks.entry(mark).or_default() += 1;
            }
        }
        if state.lines.len() == LINES_KEPT_MAX {
            state.lines.pop_front();
        }
        state.lines.push_back(Line { at, host, text });
    }
}

struct Host(String);

fn host_of<'a, S: LookupSpan<'a>>(span: &registry::SpanRef<'a, S>) -> Option<String> {
    span.extensions().get::<Host>().map(|host| host.0.clone())
}

/// The fields of an event as words.
#[derive(Default)]
struct Words {
    name: String,
    message: String,
    rest: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "name" => write!(self.name, "{value:?}"),
            name => write!(self.rest, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            value.clone_into(&mut self.name);
        } else {
            self.record_debug(field, &format_args!("{value}"));
        }
    }
}
