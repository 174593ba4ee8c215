//! The state that all nodes in memory share, and what goes wrong on purpose.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cairn_api::v1::{Failure, Reason};
use cairn_machine::{Batch, Command, MemoryStore, NodeId, PersistenceId, Reply, ShardId, Slice, Timestamp};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The leader's clock begins here: 2023-11-14 22:13:20 UTC, in microseconds since 1970.
const CLOCK_START: i64 = 1_700_000_000_000_000;

/// What shall happen to a command that reached a leader.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing bad.
    None,
    /// It is not carried out; the caller's connection breaks.
    LoseRequest,
    /// It is carried out; the caller's connection breaks.
    LoseAnswer,
    /// It is not carried out, and nothing is answered.
    Silence,
    /// It is not carried out; this is answered.
    Refuse(Box<Failure>),
    /// It is carried out; this is answered.
    Answer(Box<Failure>),
}

/// How an answer fails.
pub(super) enum Trouble {
    /// With an answer that says why.
    Failure(Box<Failure>),
    /// The connection breaks.
    Break,
    /// Nothing is ever answered.
    Silence,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(Box::new(failure))
    }
}

type Choose = Box<dyn FnMut(&Command) -> Fault + Send>;

pub(super) struct World {
    nodes: u16,
    state: Mutex<State>,
    faults: Mutex<Option<Choose>>,
    /// Counts what was carried out: followers wait for it.
    changed: watch::Sender<u64>,
}

pub(super) struct State {
    pub(super) shards: Vec<MemoryStore>,
    leader: Option<u16>,
    term: u64,
    stopped: BTreeSet<u16>,
    connections: Vec<(u16, AbortHandle)>,
    stream_messages_max: Option<usize>,
    started: Option<Instant>,
}

impl World {
    pub(super) fn new(nodes: u16, shards: u16) -> Self {
        let state = State {
            shards: (0..shards).map(|_| MemoryStore::new()).collect(),
            leader: Some(0),
            term: 1,
            stopped: BTreeSet::new(),
            connections: Vec::new(),
            stream_messages_max: None,
            started: None,
        };
        Self { nodes, state: Mutex::new(state), faults: Mutex::new(None), changed: watch::channel(0).0 }
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        (0..self.nodes).map(|node| self.address(node)).collect()
    }

    pub(super) fn address(&self, node: u16) -> String {
        format!("memory-{node}:7101")
    }

    pub(super) fn node_at(&self, address: &str) -> Option<u16> {
        (0..self.nodes).find(|node| self.address(*node) == address)
    }

    /// Node ids begin at 1, as 0 means none.
    pub(super) fn node_id(node: u16) -> NodeId {
        NodeId(u64::from(node) + 1)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lead(&self, node: Option<u16>) {
        assert!(node.is_none_or(|node| node < self.nodes), "no such node: {node:?}");
        let mut state = self.lock();
        state.leader = node;
        state.term += 1;
    }

    pub(super) fn leader(&self) -> (Option<NodeId>, u64) {
        let state = self.lock();
        (state.leader.map(Self::node_id), state.term)
    }

    pub(super) fn stop(&self, node: u16) {
        let mut state = self.lock();
        state.stopped.insert(node);
        state.sever(|at| at == node);
    }

    pub(super) fn start(&self, node: u16) {
        self.lock().stopped.remove(&node);
    }

    pub(super) fn break_connections(&self) {
        self.lock().sever(|_| true);
    }

    pub(super) fn is_stopped(&self, node: u16) -> bool {
        self.lock().stopped.contains(&node)
    }

    pub(super) fn connected(&self, node: u16, connection: AbortHandle) {
        let mut state = self.lock();
        state.connections.retain(|(_, connection)| !connection.is_finished());
        state.connections.push((node, connection));
    }

    pub(super) fn inject(&self, choose: Choose) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = Some(choose);
    }

    pub(super) fn break_streams_after(&self, messages: Option<usize>) {
        self.lock().stream_messages_max = messages;
    }

    pub(super) fn stream_messages_max(&self) -> usize {
        self.lock().stream_messages_max.unwrap_or(usize::MAX)
    }

    /// Wakes whenever something was carried out.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Carries out a command as the leader would.
    pub(super) fn execute(&self, node: u16, command: Command) -> Result<Reply, Trouble> {
        self.check_leader(node)?;
        let fault = match &mut *self.faults.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(choose) => choose(&command),
            None => Fault::None,
        };
        match fault {
            Fault::LoseRequest => return Err(Trouble::Break),
            Fault::Silence => return Err(Trouble::Silence),
            Fault::Refuse(failure) => return Err(Trouble::Failure(failure)),
            Fault::None | Fault::LoseAnswer | Fault::Answer(_) => {}
        }
        let reply = self.apply(command);
        match fault {
            Fault::LoseAnswer => Err(Trouble::Break),
            Fault::Answer(failure) => Err(Trouble::Failure(failure)),
            _ => Ok(reply),
        }
    }

    fn apply(&self, command: Command) -> Reply {
        let reply = {
            let mut state = self.lock();
            let started = *state.started.get_or_insert_with(Instant::now);
            let elapsed = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX - CLOCK_START);
            let batch = Batch { moment: Timestamp(CLOCK_START + elapsed), commands: vec![command] };
            let shard = state.shard_of(batch.commands[0].persistence_id());
            let mut replies = state.shards[usize::from(shard.0)].apply(&batch);
            replies.pop().expect("one reply for one command")
        };
        self.changed.send_modify(|count| *count += 1);
        reply
    }

    fn check_leader(&self, node: u16) -> Result<(), Failure> {
        match self.lock().leader {
            Some(leader) if leader == node => Ok(()),
            leader => Err(Failure::not_leader(leader.map(|leader| (Self::node_id(leader), self.address(leader))))),
        }
    }

    /// Looks at the shard of a journal.
    pub(super) fn look<T>(&self, persistence_id: &PersistenceId, look: impl FnOnce(&MemoryStore) -> T) -> T {
        let state = self.lock();
        let shard = state.shard_of(persistence_id);
        look(&state.shards[usize::from(shard.0)])
    }

    /// Looks at a shard.
    pub(super) fn look_at_shard<T>(&self, shard: ShardId, look: impl FnOnce(&MemoryStore) -> T) -> Result<T, Failure> {
        match self.lock().shards.get(usize::from(shard.0)) {
            Some(store) => Ok(look(store)),
            None => Err(Failure::new(Reason::Invalid, format!("shard: there is no shard {shard}"))),
        }
    }
}

impl State {
    pub(super) fn shard_of(&self, persistence_id: &PersistenceId) -> ShardId {
        Slice::of(persistence_id).shard(u16::try_from(self.shards.len()).expect("made from a number of 16 bits"))
    }

    fn sever(&mut self, mut is_severed: impl FnMut(u16) -> bool) {
        self.connections.retain(|(node, connection)| {
            let is_severed = is_severed(*node);
            if is_severed {
                connection.abort();
            }
            !is_severed
        });
    }
}
