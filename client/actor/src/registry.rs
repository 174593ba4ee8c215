//! Actors by persistence id: they start when they are needed, and rest when they are not.
//!
//! Invariants
//! - One mailbox for one persistence id, as long as anybody holds a reference to it: so there is one actor at most.
//! - A reference stays good while its actor rests; a command through it starts the actor again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cairn_client::{Error, PersistenceId};

use crate::actor_ref::ActorRef;
use crate::behavior::Behavior;
use crate::mailbox::{Asked, Mailbox, Wake};
use crate::supervisor::Supervisor;
use crate::system::parse_persistence_id;

/// Names of actors that nobody refers to are looked for when there are twice as many names as after the last look, and this many.
const LOOK_FROM: usize = 1024;

/// The actors of one kind in this process. Cheap to clone.
///
/// Akka: `ClusterSharding` of one process, `EntityRef`
pub struct Entities<B: Behavior> {
    shared: Arc<Shared<B>>,
}

struct Shared<B: Behavior> {
    supervisor: Supervisor<B>,
    waker: Arc<dyn Wake<B::Command>>,
    mailboxes: Mutex<Mailboxes<B::Command>>,
}

struct Mailboxes<C> {
    by_id: HashMap<PersistenceId, Weak<Mailbox<C>>>,
    /// How many names there may be before the next look.
    look_at: usize,
}

impl<B: Behavior> Clone for Entities<B> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<B: Behavior> Entities<B> {
    pub(crate) fn new(supervisor: Supervisor<B>) -> Self {
        let mailboxes = Mutex::new(Mailboxes { by_id: HashMap::new(), look_at: LOOK_FROM });
        let waker = Arc::new(supervisor.clone());
        Self { shared: Arc::new(Shared { supervisor, waker, mailboxes }) }
    }

    /// A reference to an actor, which starts with the first command.
    ///
    /// Akka: `entityRefFor`
    ///
    /// # Errors
    /// [`Error::Invalid`] if the persistence id is blank or longer than 1024 bytes.
    pub fn get(&self, persistence_id: impl Into<String>) -> Result<ActorRef<B::Command>, Error> {
        Ok(self.get_by_id(&parse_persistence_id(persistence_id)?))
    }

    /// A reference to an actor whose name is parsed already.
    #[must_use]
    pub fn get_by_id(&self, persistence_id: &PersistenceId) -> ActorRef<B::Command> {
        let mut mailboxes = self.shared.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mailbox) = mailboxes.by_id.get(persistence_id).and_then(Weak::upgrade)
            && mailbox.stop_reason().is_none()
        {
            return ActorRef::new(mailbox);
        }
        let bound = self.shared.supervisor.kind().shared().mailbox;
        let mailbox = Arc::new(Mailbox::resting(persistence_id.clone(), bound, self.shared.waker.clone()));
        mailboxes.by_id.insert(persistence_id.clone(), Arc::downgrade(&mailbox));
        mailboxes.forget_the_unused();
        ActorRef::new(mailbox)
    }

    /// Lets an actor rest as soon as it has nothing left to do. A command that comes then starts it again.
    ///
    /// Akka: `Passivate`
    pub fn passivate(&self, persistence_id: &PersistenceId) {
        let mailboxes = self.shared.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let mailbox = mailboxes.by_id.get(persistence_id).and_then(Weak::upgrade);
        drop(mailboxes);
        if let Some(mailbox) = mailbox {
            mailbox.ask(Asked::Rest);
        }
    }
}

impl<C> Mailboxes<C> {
    fn forget_the_unused(&mut self) {
        if self.by_id.len() >= self.look_at {
            self.by_id.retain(|_, mailbox| mailbox.strong_count() > 0);
            self.look_at = (2 * self.by_id.len()).max(LOOK_FROM);
        }
    }
}
