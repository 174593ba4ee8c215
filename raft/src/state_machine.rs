//! openraft's state machine, on a shard's tables.
//!
//! The tables are a memtable over the log: what was applied and not flushed is applied again from the log after a restart.
//! openraft's snapshot is our checkpoint, and building one is only saying how far the tables are flushed; its data are read from
//! the tables when a follower needs them.
//!
//! Invariants
//! - Entries are applied in order, and each is answered as soon as it is.
//! - A checkpoint's meta never names an entry that is not flushed: the log goes up to it and no further.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use cairn_machine::{Batch, ShardId};
use cairn_storage::tables::MembershipChange;
use cairn_storage::{EntryId, Tables};
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};

use crate::checkpoint::CheckpointHandle;
use crate::entry::{MembersRecord, RecordError};
use crate::log_store::{entry_id, raft_log_id};
use crate::type_config::{CheckpointMeta, RaftLogId, Replies, StoredMembers, Types};

type Snapshot = openraft::alias::SnapshotOf<Types, CheckpointHandle>;

/// A shard's state machine.
pub(crate) struct StateMachine {
    shard: ShardId,
    tables: Tables,
    shared: Arc<Shared>,
}

impl StateMachine {
    /// Over tables that are not lost.
    pub fn new(tables: Tables) -> Result<Self, RecordError> {
        let shared = Arc::new(Shared::read(&tables)?);
        Ok(Self { shard: tables.shard(), tables, shared })
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    async fn apply_one(&self, (entry, responder): EntryResponder<Types>) -> io::Result<()> {
        let id = entry_id(&entry.log_id);
        let replies = match entry.payload {
            EntryPayload::Blank => self.tables.apply(id, None, None).await,
            EntryPayload::Normal(record) => {
                let batch = Batch::decode(&record.batch()).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("shard {}: entry {id}: {error}", self.shard))
                })?;
                self.tables.apply(id, Some(&batch), None).await
            }
            EntryPayload::Membership(members) => {
                let record = self.shared.current().1.succeeded_by(members);
                let change = MembershipChange { membership: record.encode_members(), seen_nodes: record.encode_seen() };
                // Told first: a checkpoint that covers this entry must know its members.
                self.shared.push(entry.log_id, record);
                self.tables.apply(id, None, Some(change)).await
            }
        };
        let replies = replies.map_err(failed)?;
        if let Some(responder) = responder {
            responder.send(Replies(replies));
        }
        Ok(())
    }

    fn builder(&self, flush: bool) -> CheckpointBuilder {
        CheckpointBuilder { tables: self.tables.clone(), shared: self.shared.clone(), flush }
    }
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = CheckpointHandle;
    type SnapshotBuilder = CheckpointBuilder;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, StoredMembers), io::Error> {
        let (at, record) = self.shared.current();
        Ok((self.tables.applied().map(raft_log_id), StoredMembers::new(at, record.members)))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(entry) = entries.next().await {
            self.apply_one(entry?).await?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<CheckpointBuilder> {
        Some(self.builder(force))
    }

    async fn get_snapshot_builder(&mut self) -> CheckpointBuilder {
        self.builder(true)
    }

    async fn install_snapshot(&mut self, meta: &CheckpointMeta, snapshot: CheckpointHandle) -> Result<(), io::Error> {
        snapshot.install_into(&self.tables).await.map_err(failed)?;
        let (members, _) = Shared::read_members(&self.tables)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("checkpoint's members: {error}")))?;
        self.shared.replace(meta.clone(), members);
        tracing::info!(shard = %self.shard, applied = ?meta.last_log_id, "installed a checkpoint");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.shared.checkpoint().map(|meta| Snapshot { meta, snapshot: CheckpointHandle::Local(self.tables.clone()) }))
    }
}

/// Says how far the tables are flushed, after flushing them if that is wanted.
pub(crate) struct CheckpointBuilder {
    tables: Tables,
    shared: Arc<Shared>,
    flush: bool,
}

impl RaftSnapshotBuilder<Types> for CheckpointBuilder {
    type SnapshotData = CheckpointHandle;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let flushed = match self.tables.flushed() {
            Some(flushed) if !self.flush => Some(flushed),
            _ => self.tables.flush().await.map_err(failed)?,
        };
        let meta = self.shared.advance_checkpoint(flushed);
        Ok(Snapshot { meta, snapshot: CheckpointHandle::Local(self.tables.clone()) })
    }
}

/// A membership, and the entry that brought it.
type MembersAt = (Option<RaftLogId>, MembersRecord);

/// What the state machine and the rest of the group both look at.
pub(crate) struct Shared {
    state: Mutex<SharedState>,
}

struct SharedState {
    /// The newest membership applied.
    current: MembersAt,
    /// Memberships since the one of the checkpoint, oldest first, the newest included.
    since_checkpoint: VecDeque<MembersAt>,
    checkpoint: Option<CheckpointMeta>,
}

impl Shared {
    /// As the tables are when they were opened: all that they hold is flushed.
    fn read(tables: &Tables) -> Result<Self, RecordError> {
        let (current, at) = Self::read_members(tables)?;
        let checkpoint = at.map(|at| meta(at, &current));
        let since_checkpoint = VecDeque::from([current.clone()]);
        Ok(Self { state: Mutex::new(SharedState { current, since_checkpoint, checkpoint }) })
    }

    /// The members, and how far the tables are flushed.
    fn read_members(tables: &Tables) -> Result<(MembersAt, Option<EntryId>), RecordError> {
        let members = match tables.membership() {
            Some(membership) => {
                let record = MembersRecord::decode(&membership.bytes, &tables.seen_nodes())?;
                (membership.entry.map(raft_log_id), record)
            }
            None => Default::default(),
        };
        Ok((members, tables.flushed()))
    }

    /// Node ids ever used in this shard.
    pub fn seen(&self) -> BTreeSet<u64> {
        self.lock().current.1.seen.clone()
    }

    fn current(&self) -> MembersAt {
        self.lock().current.clone()
    }

    fn checkpoint(&self) -> Option<CheckpointMeta> {
        self.lock().checkpoint.clone()
    }

    fn push(&self, at: RaftLogId, record: MembersRecord) {
        let mut state = self.lock();
        state.current = (Some(at), record);
        let current = state.current.clone();
        state.since_checkpoint.push_back(current);
    }

    /// The checkpoint is now what is flushed, with the membership that was in force there.
    fn advance_checkpoint(&self, flushed: Option<EntryId>) -> CheckpointMeta {
        let mut state = self.lock();
        let Some(flushed) = flushed else { return CheckpointMeta::default() };
        let in_force = |at: &Option<RaftLogId>| at.as_ref().is_none_or(|at| at.index <= flushed.index);
        while state.since_checkpoint.get(1).is_some_and(|(at, _)| in_force(at)) {
            state.since_checkpoint.pop_front();
        }
        let members = state.since_checkpoint.front().expect("the newest is always there");
        let meta = meta(flushed, members);
        state.checkpoint = Some(meta.clone());
        meta
    }

    fn replace(&self, checkpoint: CheckpointMeta, members: MembersAt) {
        *self.lock() =
            SharedState { current: members.clone(), since_checkpoint: VecDeque::from([members]), checkpoint: Some(checkpoint) };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SharedState> {
        self.state.lock().expect("no one panics while holding it")
    }
}

fn meta(at: EntryId, (members_at, record): &MembersAt) -> CheckpointMeta {
    CheckpointMeta {
        last_log_id: Some(raft_log_id(at)),
        last_membership: StoredMembers::new(*members_at, record.members.clone()),
    }
}
