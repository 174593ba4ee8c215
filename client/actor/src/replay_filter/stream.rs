//! A replay that is filtered on its way.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use cairn_client::{Error, PersistenceId, StoredEvent};
use futures::Stream;

use super::{Anomaly, ReplayFilter, ReplayFilterMode, ReplayFilterSettings, Step};
use crate::store::Events;

/// Sees each anomaly, and whose journal it is in.
type Watch = Arc<dyn Fn(&PersistenceId, &Anomaly) + Send + Sync>;

/// What all actors or views of one kind do with the events that they replay.
#[derive(Clone, Default)]
pub(crate) struct Filtering {
    settings: Option<ReplayFilterSettings>,
    watch: Option<Watch>,
}

impl Filtering {
    pub(crate) fn set(&mut self, settings: ReplayFilterSettings) {
        self.settings = Some(settings);
    }

    pub(crate) fn watch(&mut self, watch: impl Fn(&PersistenceId, &Anomaly) + Send + Sync + 'static) {
        self.watch = Some(Arc::new(watch));
    }

    /// Whether there is a filter, which has an opinion of its own about the order of events.
    pub(crate) fn is_set(&self) -> bool {
        self.settings.is_some()
    }

    /// The events through the filter, if there is one.
    pub(crate) fn filtered(&self, persistence_id: &PersistenceId, events: Events) -> Events {
        let Some(settings) = self.settings else { return events };
        Box::pin(FilteredEvents { watch: self.watch.clone(), ..FilteredEvents::new(persistence_id.clone(), events, settings) })
    }
}

/// The events of a replay without those that the filter leaves out. Anomalies are logged: as errors in the mode
/// [`Fail`](ReplayFilterMode::Fail), which ends the replay with [`Error::Damaged`], and else as warnings.
pub struct FilteredEvents {
    persistence_id: PersistenceId,
    mode: ReplayFilterMode,
    source: Events,
    /// None once the source has ended.
    filter: Option<ReplayFilter>,
    ready: VecDeque<Result<StoredEvent, Error>>,
    anomalies: u64,
    watch: Option<Watch>,
}

impl FilteredEvents {
    /// Filters the events of a replay.
    #[must_use]
    pub fn new(persistence_id: PersistenceId, events: Events, settings: ReplayFilterSettings) -> Self {
        Self {
            persistence_id,
            mode: settings.mode,
            source: events,
            filter: Some(ReplayFilter::new(settings)),
            ready: VecDeque::new(),
            anomalies: 0,
            watch: None,
        }
    }

    /// How many anomalies there were so far.
    #[must_use]
    pub fn anomalies(&self) -> u64 {
        self.anomalies
    }

    fn take(&mut self, step: Step) {
        self.ready.extend(step.released.map(Ok));
        for anomaly in &step.anomalies {
            self.anomalies += 1;
            let Self { persistence_id, mode, watch, .. } = self;
            match mode {
                ReplayFilterMode::Fail => tracing::error!(%persistence_id, %anomaly, "replay filter: fail the replay"),
                _ => tracing::warn!(%persistence_id, %mode, %anomaly, "replay filter: writers overlap"),
            }
            if let Some(watch) = watch {
                watch(persistence_id, anomaly);
            }
        }
        if let (ReplayFilterMode::Fail, Some(anomaly)) = (self.mode, step.anomalies.first()) {
            let message = format!("replay of {}: {anomaly}", self.persistence_id);
            self.end(Some(Error::Damaged { message }));
        }
    }

    /// What is held back comes before the end of the replay, also before a bad one.
    fn end(&mut self, error: Option<Error>) {
        self.ready.extend(self.filter.take().into_iter().flat_map(ReplayFilter::finish).map(Ok));
        self.ready.extend(error.map(Err));
    }
}

impl Stream for FilteredEvents {
    type Item = Result<StoredEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(next) = self.ready.pop_front() {
                return Poll::Ready(Some(next));
            }
            if self.filter.is_none() {
                return Poll::Ready(None);
            }
            match ready!(self.source.as_mut().poll_next(context)) {
                Some(Ok(event)) => {
                    tracing::trace!(persistence_id = %self.persistence_id, number = event.event.sequence_number.0, "replayed");
                    if let Some(step) = self.filter.as_mut().map(|filter| filter.offer(event)) {
                        self.take(step);
                    }
                }
                Some(Err(error)) => self.end(Some(error)),
                None => self.end(None),
            }
        }
    }
}
