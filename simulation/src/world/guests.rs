//! Guests: a user's closures, each a client host of its own, in place of the workload.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use turmoil::Sim;

use crate::cluster::{Asked, Cluster, Request, Requests};
use crate::fault::Scheduled;
use crate::plan::{FAULTS_FROM, Plan};

use super::{Violation, World, client_host};

/// How a closure ends.
pub(crate) type Ended = Result<(), Box<dyn std::error::Error>>;
/// A user's closure.
pub(crate) type Guest = Box<dyn FnOnce(Cluster) -> LocalBoxFuture<'static, Ended> + Send>;

/// The guests of a world that has not begun.
#[derive(Default)]
pub(crate) struct GuestList {
    /// Them; none = the workload runs.
    pub guests: Vec<Guest>,
    /// How long they may take.
    pub time_max: Duration,
}

/// The guests of a world.
#[derive(Default)]
pub(super) struct Guests {
    count: usize,
    time_max: Duration,
    requests: Requests,
    /// Why a guest failed.
    failed: Rc<RefCell<Option<String>>>,
}

impl Guests {
    pub(super) fn start(sim: &mut Sim<'_>, plan: &Plan, list: GuestList, ended: &Rc<Cell<u16>>) -> Self {
        let this = Self { count: list.guests.len(), time_max: list.time_max, ..Self::default() };
        for (number, guest) in (1..).zip(list.guests) {
            let cluster = Cluster::new(plan, number, this.requests.clone());
            let (failed, ended) = (this.failed.clone(), ended.clone());
            sim.client(client_host(number), async move {
                cluster.begun().await;
                let outcome = AssertUnwindSafe(async { guest(cluster).await }).catch_unwind().await;
                let why = match outcome {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(panic) => Some(super::panic_text(&*panic)),
                };
                if let Some(why) = why {
                    failed.borrow_mut().get_or_insert(format!("client-{number}: {why}"));
                }
                ended.set(ended.get() + 1);
                Ok(())
            });
        }
        this
    }

    /// Whether this world has guests in place of the workload.
    pub(super) fn are_here(&self) -> bool {
        self.count > 0
    }
}

impl World {
    /// Does what guests ask for, and ends the world if one failed.
    pub(super) fn serve_guests(&mut self) -> Result<(), Violation> {
        if let Some(why) = self.guests.failed.borrow_mut().take() {
            return Err(self.violation("the workload", why));
        }
        let asked: Vec<Asked> = self.guests.requests.lock().drain(..).collect();
        for Asked { request, answer } in asked {
            match self.grant(request) {
                // A guest that ended meanwhile needs no answer.
                Some(granted) => drop(answer.send(granted)),
                None => self.guests.requests.lock().push_back(Asked { request, answer }),
            }
        }
        Ok(())
    }

    /// None if it has to wait.
    fn grant(&mut self, request: Request) -> Option<u64> {
        match request {
            Request::Begin { fault, lasts } => Some(self.begin(Scheduled { at: self.now(), lasts, fault }).unwrap_or_default()),
            Request::Heal => {
                self.heal();
                Some(0)
            }
            Request::Restart(node) => {
                let now = self.now();
                self.up_at.entry(node).and_modify(|at| *at = now);
                Some(0)
            }
            Request::Ready => self.all_ready().then_some(0),
            Request::Begun => (self.all_ready() || self.now() >= FAULTS_FROM).then_some(0),
        }
    }

    /// Whether faults are over early, because all guests have ended.
    pub(super) fn guests_are_done(&self) -> bool {
        self.guests.are_here() && self.clients_have_ended()
    }

    /// How long clients may take to end when faults are over.
    pub(super) fn clients_end_max(&self) -> Duration {
        if self.guests.are_here() {
            self.guests.time_max.saturating_sub(self.now())
        } else {
            self.plan.load.deadline + super::CLIENTS_END_MAX
        }
    }
}
