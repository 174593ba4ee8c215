//! The client: one for the whole process, cheap to clone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_api::v1::pipeline_response::response;
use cairn_machine::{PersistenceId, Position, ShardId, Slice, WriteReply};
use rand::RngCore;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::attempt::Failed;
use crate::cluster::Cluster;
use crate::connector::{Connector, connect_tcp};
use crate::error::Error;
use crate::follow::FollowShardRequest;
use crate::journal::Journal;
use crate::limits::IN_FLIGHT_REQUEST_BYTES_MIN;
use crate::listing::Journals;
use crate::pipeline::RequestKind;
use crate::router::{Effect, Router, Target};
use crate::write::{Write, parse_persistence_id, write_reply};

/// How long a call may take by default, all its tries together.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// How long one try may take by default.
const ATTEMPT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest that a try may take: gRPC cannot express just any time.
const ATTEMPT_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Bytes of writes in flight by default.
const IN_FLIGHT_BYTES_MAX_DEFAULT: usize = 64 * 1024 * 1024;
/// The least that may be set: the largest write must fit.
const IN_FLIGHT_BYTES_MAX_LEAST: usize = 8 * 1024 * 1024;

/// A client of a Cairn cluster.
///
/// One for the whole process: all journals share its connections and its bound on what is in flight.
#[derive(Clone)]
pub struct Cairn {
    inner: Arc<Inner>,
    deadline: Duration,
}

struct Inner {
    router: Arc<Router>,
    /// In bytes: what may be in flight.
    admission: Arc<Semaphore>,
    admission_bytes_max: usize,
}

impl Cairn {
    /// Connects to a cluster through any of its nodes: one that answers is enough, the others are learnt from it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no node answers before the deadline, [`Error::Invalid`] for an address that is none.
    pub async fn connect<A: Into<String>>(endpoints: impl IntoIterator<Item = A>) -> Result<Self, Error> {
        Self::builder().endpoints(endpoints).connect().await
    }

    /// A client with settings and parts of its own.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The same client with another deadline for the calls made through it.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { inner: self.inner.clone(), deadline }
    }

    /// A journal, which need not exist yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the persistence id is blank or longer than 1024 bytes.
    pub fn journal(&self, persistence_id: impl Into<String>) -> Result<Journal, Error> {
        Ok(Journal::new(self.clone(), parse_persistence_id(persistence_id)?))
    }

    /// A journal whose name is parsed already.
    #[must_use]
    pub fn journal_of(&self, persistence_id: PersistenceId) -> Journal {
        Journal::new(self.clone(), persistence_id)
    }

    /// The journals whose persistence id begins with `prefix`, in bytewise order.
    #[must_use]
    pub fn journals(&self, prefix: impl Into<String>) -> Journals {
        Journals::new(self.clone(), prefix.into())
    }

    /// The events of a whole shard after a position, in commit order, and then those to come.
    pub fn follow_shard(&self, shard: ShardId, after: Position) -> FollowShardRequest {
        FollowShardRequest::new(self.clone(), shard, after)
    }

    /// How many shards the cluster has.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no node answers before the deadline.
    pub async fn shards(&self) -> Result<u16, Error> {
        let router = self.router();
        if let Some(shards) = router.shards() {
            return Ok(shards);
        }
        let learn = |_| async {
            // It ends when the round has ended, also where that failed.
            drop(router.refresh().await);
            router.shards().ok_or_else(|| Failed::NotSent(router.obstacle("the cluster does not answer")))
        };
        router.call(&Target::Any, Effect::Read, self.deadline(), learn).await
    }

    /// Who is in the cluster, and changing that.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        Cluster::new(self.clone())
    }

    /// Writes with everything chosen by the caller, and again until the outcome is known: for importing, and for writers that
    /// keep their own numbers. Writes of one journal are sent one after the other; [`Journal::claim`] gives a writer that keeps
    /// many in flight.
    ///
    /// # Errors
    /// See [`Error`]; a refusal of one of several atomic writes stands in the reply.
    pub async fn write(&self, write: &Write) -> Result<WriteReply, Error> {
        let slice = Slice::of(&write.persistence_id);
        let count = write.atomic_writes.len();
        let body = write.encode()?;
        let deadline = self.deadline();
        let permit = self.admit(body.len(), deadline).await?;
        let answer = self.pipelined(&Target::Slice(slice), Effect::Command, deadline, RequestKind::Write, body).await;
        drop(permit);
        match answer? {
            response::Kind::Write(response) => write_reply(response, count),
            _ => Err(Error::protocol("an answer of another kind")),
        }
    }

    /// Sends a request through the pipeline of the node that can serve it, until it is answered.
    pub(crate) async fn pipelined(
        &self,
        target: &Target,
        effect: Effect,
        deadline: Instant,
        kind: RequestKind,
        body: Bytes,
    ) -> Result<response::Kind, Error> {
        let attempt = |node: Arc<crate::node::Node>| {
            let body = body.clone();
            async move { node.pipeline().call(kind, body).await }
        };
        self.router().call(target, effect, deadline, attempt).await
    }

    /// Waits until so many bytes more may be in flight.
    pub(crate) async fn admit(&self, bytes: usize, deadline: Instant) -> Result<OwnedSemaphorePermit, Error> {
        let bytes = (bytes + IN_FLIGHT_REQUEST_BYTES_MIN).min(self.inner.admission_bytes_max);
        let permits = u32::try_from(bytes).expect("at most the bound, which fits");
        match tokio::time::timeout_at(deadline, self.inner.admission.clone().acquire_many_owned(permits)).await {
            Ok(permit) => Ok(permit.expect("never closed")),
            Err(_) => Err(Error::Unavailable { message: "as much is in flight as may be, and stays so".to_owned() }),
        }
    }

    pub(crate) fn router(&self) -> &Arc<Router> {
        &self.inner.router
    }

    /// How long a call may take, all its tries together.
    pub(crate) fn call_deadline(&self) -> Duration {
        self.deadline
    }

    /// When a call that begins now must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        deadline_in(self.deadline)
    }
}

/// An error unless the text is `host:port`.
pub(crate) fn check_address(what: &str, address: &str) -> Result<(), Error> {
    if address.parse::<http::uri::Authority>().is_ok_and(|authority| authority.port().is_some()) {
        return Ok(());
    }
    Err(Error::Invalid { message: format!("{what} {address:?} is not host:port") })
}

/// So far from now, or as good as never.
pub(crate) fn deadline_in(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + FAR)
}

/// Thirty years: further than any call can wait, and still a moment that clocks can express.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

impl std::fmt::Debug for Cairn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cairn").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Settings and parts of a client.
pub struct Builder {
    endpoints: Vec<String>,
    connector: Arc<dyn Connector>,
    deadline: Duration,
    attempt_timeout: Duration,
    in_flight_bytes_max: usize,
    seed: Option<u64>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            connector: Arc::new(connect_tcp),
            deadline: DEADLINE_DEFAULT,
            attempt_timeout: ATTEMPT_TIMEOUT_DEFAULT,
            in_flight_bytes_max: IN_FLIGHT_BYTES_MAX_DEFAULT,
            seed: None,
        }
    }
}

impl Builder {
    /// Where nodes of the cluster may be reached: `host:port`.
    #[must_use]
    pub fn endpoints<A: Into<String>>(mut self, endpoints: impl IntoIterator<Item = A>) -> Self {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// How to reach an address; TCP by default.
    #[must_use]
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.connector = Arc::new(connector);
        self
    }

    /// How long a call may take, all its tries together; 30 s by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long one try may take before the call is tried again, perhaps elsewhere; 5 s by default,
    /// an hour at most.
    #[must_use]
    pub fn attempt_timeout(mut self, attempt_timeout: Duration) -> Self {
        self.attempt_timeout = attempt_timeout.min(ATTEMPT_TIMEOUT_MAX);
        self
    }

    /// How many bytes of writes may be in flight, each counting for 1 KiB at least; 64 MiB by default, 8 MiB at least.
    #[must_use]
    pub fn in_flight_bytes_max(mut self, bytes: usize) -> Self {
        self.in_flight_bytes_max = bytes;
        self
    }

    /// Makes the client's random choices (names of writers and saves, jitter) those of this seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// A client that connects when it is first used.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no endpoint, or one is not an address.
    pub fn build(self) -> Result<Cairn, Error> {
        if self.endpoints.is_empty() {
            return Err(Error::Invalid { message: "no endpoint is given".to_owned() });
        }
        self.endpoints.iter().try_for_each(|endpoint| check_address("endpoint", endpoint))?;
        // The default of the part, for production: anything that needs the same choices again hands in a seed.
        let seed = self.seed.unwrap_or_else(|| StdRng::from_os_rng().next_u64());
        let most = u32::MAX as usize;
        let admission_bytes_max = self.in_flight_bytes_max.clamp(IN_FLIGHT_BYTES_MAX_LEAST, most.min(Semaphore::MAX_PERMITS));
        let inner = Inner {
            router: Arc::new(Router::new(self.endpoints, self.connector, self.attempt_timeout, seed)),
            admission: Arc::new(Semaphore::new(admission_bytes_max)),
            admission_bytes_max,
        };
        Ok(Cairn { inner: Arc::new(inner), deadline: self.deadline })
    }

    /// A client of a cluster that has answered.
    ///
    /// # Errors
    /// As [`Builder::build`]; [`Error::Unavailable`] if no node answers before the deadline.
    pub async fn connect(self) -> Result<Cairn, Error> {
        let cairn = self.build()?;
        cairn.shards().await?;
        Ok(cairn)
    }
}
