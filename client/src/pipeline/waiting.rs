//! Who waits for which answer on one pipeline.
//!
//! Invariant: a request id is in use from the moment when its request goes into a message until its answer comes, also when
//! nobody waits for that any more.

use tokio::time::Instant;

use super::Waiter;

/// The waiters, by request id: their places are used again, so that looking one up is an index.
#[derive(Default)]
pub(super) struct Waiting {
    places: Vec<Option<Place>>,
    free: Vec<u64>,
    is_closed: bool,
}

struct Place {
    /// None if it was given up.
    waiter: Option<Waiter>,
    is_for_leader: bool,
    since: Instant,
}

/// There is no request with this id.
pub(super) struct NoSuchRequest;

impl Waiting {
    /// Gives a waiter its request id.
    pub(super) fn put(&mut self, waiter: Waiter, is_for_leader: bool, since: Instant) -> u64 {
        let place = Some(Place { waiter: Some(waiter), is_for_leader, since });
        if let Some(id) = self.free.pop() {
            self.places[usize::try_from(id).expect("ids are indexes")] = place;
            return id;
        }
        self.places.push(place);
        self.places.len() as u64 - 1
    }

    /// Takes out who waits for this request; nobody if it was given up.
    pub(super) fn take(&mut self, request_id: u64) -> Result<Option<Waiter>, NoSuchRequest> {
        let index = usize::try_from(request_id).map_err(|_| NoSuchRequest)?;
        let place = self.places.get_mut(index).and_then(Option::take).ok_or(NoSuchRequest)?;
        self.free.push(request_id);
        Ok(place.waiter)
    }

    /// How many requests have no answer.
    pub(super) fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether somebody waits for the answer to a request which only a leader carries out, and which left before a moment.
    pub(super) fn has_one_for_leader_before(&self, moment: Instant) -> bool {
        let waits = |place: &Place| place.waiter.as_ref().is_some_and(|waiter| !waiter.is_gone());
        self.places.iter().flatten().any(|place| place.is_for_leader && place.since < moment && waits(place))
    }

    /// Gives up the requests that left before a moment.
    pub(super) fn give_up_before(&mut self, moment: Instant) -> Vec<Waiter> {
        let late = |place: &mut Place| if place.since < moment { place.waiter.take() } else { None };
        self.places.iter_mut().flatten().filter_map(late).collect()
    }

    /// Ends it: everybody who waits is given out.
    pub(super) fn close(&mut self) -> Vec<Waiter> {
        self.is_closed = true;
        self.free.clear();
        std::mem::take(&mut self.places).into_iter().flatten().filter_map(|place| place.waiter).collect()
    }

    /// Whether it has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }
}
