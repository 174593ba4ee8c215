//! What all actors of a process share: the store, the permits to recover, and where names and chance come from.

use std::sync::{Arc, Mutex, PoisonError};

use cairn_client::{Error, PersistenceId, WriterId};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::actor_ref::ActorRef;
use crate::behavior::Behavior;
use crate::kind::ActorKind;
use crate::mailbox::Mailbox;
use crate::recovery::Recovery;
use crate::registry::Entities;
use crate::store::Store;
use crate::supervisor::{Start, Supervisor};

/// Actors that may recover at the same time by default (contract 3.4).
const RECOVERIES_MAX_DEFAULT: usize = 50;

/// What all actors of a process share. Cheap to clone.
///
/// Akka: `ActorSystem`, `Persistence` extension
#[derive(Clone)]
pub struct ActorSystem {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    /// First come, first served.
    recoveries: Arc<Semaphore>,
    random: Mutex<StdRng>,
}

/// Settings and parts of a system.
pub struct Builder {
    store: Arc<dyn Store>,
    recoveries_max: usize,
    seed: Option<u64>,
}

impl ActorSystem {
    /// A system on a store: [`Cairn`](cairn_client::Cairn), say.
    ///
    /// Akka: `akka.persistence.journal.plugin`, `akka.persistence.snapshot-store.plugin`
    pub fn new(store: impl Store) -> Self {
        Self::builder(store).build()
    }

    /// A system with settings of its own.
    pub fn builder(store: impl Store) -> Builder {
        Builder { store: Arc::new(store), recoveries_max: RECOVERIES_MAX_DEFAULT, seed: None }
    }

    /// Starts an actor, once: when it has stopped, it stays so.
    ///
    /// Akka: `spawn`, `ActorOf`; `PersistenceId.ofUniqueId`, `PersistenceId.of` with a bar between the type and the id
    ///
    /// # Errors
    /// [`Error::Invalid`] if the persistence id is blank or longer than 1024 bytes.
    pub fn spawn<B: Behavior>(
        &self,
        kind: &ActorKind<B>,
        persistence_id: impl Into<String>,
    ) -> Result<ActorRef<B::Command>, Error> {
        self.start(kind, persistence_id, Start::AtOnce)
    }

    /// Makes an actor that does not recover before its owner says so, and how.
    ///
    /// Akka: `Recover` as a message, `PreStart` without recovery
    ///
    /// # Errors
    /// [`Error::Invalid`] if the persistence id is blank or longer than 1024 bytes.
    pub fn spawn_waiting<B: Behavior>(
        &self,
        kind: &ActorKind<B>,
        persistence_id: impl Into<String>,
    ) -> Result<(ActorRef<B::Command>, ManualRecovery), Error> {
        let (start, started) = oneshot::channel();
        Ok((self.start(kind, persistence_id, Start::Waiting(started))?, ManualRecovery { start }))
    }

    fn start<B: Behavior>(
        &self,
        kind: &ActorKind<B>,
        persistence_id: impl Into<String>,
        start: Start,
    ) -> Result<ActorRef<B::Command>, Error> {
        let mailbox = Arc::new(Mailbox::active(parse_persistence_id(persistence_id)?, kind.shared().mailbox));
        Supervisor::new(self.clone(), kind.clone()).start(mailbox.clone(), start);
        Ok(ActorRef::new(mailbox))
    }

    /// Actors of a kind that start with the first command and may rest when they have nothing to do.
    ///
    /// Akka: `ClusterSharding.init`
    pub fn entities<B: Behavior>(&self, kind: ActorKind<B>) -> Entities<B> {
        Entities::new(Supervisor::new(self.clone(), kind))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// A name for an incarnation, which no other has.
    pub(crate) fn new_writer(&self) -> WriterId {
        let mut bytes = [0; 16];
        self.shared.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        let uuid = uuid::Builder::from_random_bytes(bytes).into_uuid();
        WriterId::new(uuid.hyphenated().to_string()).expect("short, and of letters that are allowed")
    }

    pub(crate) fn random(&self) -> u64 {
        self.shared.random.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// Waits until one more may recover.
    pub(crate) async fn recovery_permit(&self) -> OwnedSemaphorePermit {
        self.shared.recoveries.clone().acquire_owned().await.expect("never closed")
    }
}

pub(crate) fn parse_persistence_id(text: impl Into<String>) -> Result<PersistenceId, Error> {
    Ok(PersistenceId::new(text.into())?)
}

impl Builder {
    /// Makes the names of incarnations and all jitter those of this seed: for tests and simulations. Two processes on one journal
    /// must not have the same seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How many actors may recover at the same time; 50 by default, 1 at least.
    ///
    /// Akka: `max-concurrent-recoveries`
    #[must_use]
    pub fn recoveries_max(mut self, recoveries: usize) -> Self {
        self.recoveries_max = recoveries;
        self
    }

    /// The system.
    #[must_use]
    pub fn build(self) -> ActorSystem {
        // The default of the part, for production: anything that needs the same choices again hands in a seed.
        let random = self.seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64);
        let shared = Shared {
            store: self.store,
            recoveries: Arc::new(Semaphore::new(self.recoveries_max.clamp(1, Semaphore::MAX_PERMITS))),
            random: Mutex::new(random),
        };
        ActorSystem { shared: Arc::new(shared) }
    }
}

/// Starts an actor that waits for it. Dropped, it stops the actor.
///
/// Akka: `Recover`
#[derive(Debug)]
#[must_use = "the actor waits for it"]
pub struct ManualRecovery {
    start: oneshot::Sender<Recovery>,
}

impl ManualRecovery {
    /// Starts the actor's recovery.
    pub fn start(self, recovery: Recovery) {
        // An actor that is gone needs none.
        let _ = self.start.send(recovery);
    }
}
