//! Checkpoints on their way between nodes: a head, frames in order, and an end that says how many there were.
//!
//! Invariants
//! - What is sent is read from the tables when it is sent, with its own applied index: nothing is kept for a follower that may come.
//! - Half a checkpoint is never installed: the frames go into a new generation of the tables, and one switch makes it current.
//! - While a checkpoint is on its way to a follower the log is not purged: it would be behind again when it arrives.

mod recovery;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_machine::ShardId;
use cairn_storage::{Checkpoint, CheckpointCursor, CheckpointError, CheckpointInstall, CompleteCheckpoint, Tables};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::entry::MembersRecord;
use crate::group::Group;
use crate::limits::{CHECKPOINT_FINISH_MAX, CHECKPOINT_FRAME_MAX, CHECKPOINT_FRAMES_QUEUED_MAX};
use crate::log_store::raft_log_id;
use crate::peers::{NOT_NOW, PeerLink};
use crate::proto;
use crate::proto::checkpoint_part::Part;
use crate::type_config::{Ballot, CheckpointMeta, StoredMembers, Types};
use crate::wire::{put_ballot, put_log_id, take_ballot, take_log_id};

pub(crate) use recovery::make_good;

type Snapshot = openraft::alias::SnapshotOf<Types, CheckpointHandle>;
type Parts = ReceiverStream<Result<proto::CheckpointPart, Status>>;

/// openraft's snapshot data.
pub(crate) enum CheckpointHandle {
    /// A node's own tables: read when a follower needs them.
    Local(Tables),
    /// Received whole, ready to become current.
    Received(Box<CompleteCheckpoint>),
}

impl CheckpointHandle {
    /// Makes it the current state of `tables`.
    pub async fn install_into(self, tables: &Tables) -> Result<(), CheckpointError> {
        let complete = match self {
            Self::Received(complete) => *complete,
            Self::Local(source) => {
                let mut frames = Frames::of(source.checkpoint().await?);
                let mut install = tables.begin_install().await?;
                while let Some(frame) = frames.next().await? {
                    install.write(frame).await?;
                }
                install.finish().await?
            }
        };
        tables.switch(complete).await.map(|_| ())
    }
}

/// The frames of a checkpoint, one after the other.
struct Frames {
    checkpoint: Checkpoint,
    cursor: Option<CheckpointCursor>,
}

impl Frames {
    fn of(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, cursor: Some(CheckpointCursor::default()) }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, cairn_storage::TablesError> {
        let Some(cursor) = self.cursor.take() else { return Ok(None) };
        let (frame, next) = self.checkpoint.read(cursor).await?;
        self.cursor = next;
        Ok(Some(frame))
    }
}

/// Counts checkpoints on their way to followers.
#[derive(Default)]
pub(crate) struct Transfers(AtomicUsize);

impl Transfers {
    pub fn are_running(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn begin(&self) -> TransferGuard<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        TransferGuard(self)
    }
}

struct TransferGuard<'a>(&'a Transfers);

impl Drop for TransferGuard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Brings a checkpoint to a follower, as the leader; gives the follower's ballot.
pub(crate) async fn send(
    link: &PeerLink,
    request: impl FnOnce(ReceiverStream<proto::CheckpointPart>) -> Request<ReceiverStream<proto::CheckpointPart>>,
    shard: ShardId,
    ballot: &Ballot,
    handle: CheckpointHandle,
    transfers: &Transfers,
) -> Result<Ballot, Status> {
    let CheckpointHandle::Local(tables) = handle else {
        return Err(Status::internal("a checkpoint that was received is not sent on"));
    };
    let _running = transfers.begin();
    let checkpoint = tables.checkpoint().await.map_err(|error| tables_failed(&error))?;
    let (parts, stream) = mpsc::channel(CHECKPOINT_FRAMES_QUEUED_MAX);
    let head = put_head(shard, Some(ballot), &checkpoint)?;
    let mut source = Frames::of(checkpoint);
    let reading = async {
        let mut frames = 0;
        send_part(&parts, Part::Head(head)).await?;
        while let Some(frame) = source.next().await.map_err(|error| tables_failed(&error))? {
            frames += 1;
            send_part(&parts, Part::Frame(frame)).await?;
        }
        send_part(&parts, Part::End(frames)).await?;
        drop(parts);
        // From here on the follower works alone; the answer below ends the wait.
        tokio::time::sleep(CHECKPOINT_FINISH_MAX).await;
        Err::<Ballot, _>(Status::deadline_exceeded("the follower did not install the checkpoint in time"))
    };
    let mut client = link.client();
    let answer = client.checkpoint(request(ReceiverStream::new(stream)));
    tokio::select! {
        biased;
        answer = answer => take_ballot(answer?.into_inner().ballot.as_ref()),
        failed = reading => failed,
    }
}

async fn send_part(parts: &mpsc::Sender<proto::CheckpointPart>, part: Part) -> Result<(), Status> {
    let part = proto::CheckpointPart { part: Some(part) };
    match tokio::time::timeout(CHECKPOINT_FRAME_MAX, parts.send(part)).await {
        Ok(Ok(())) => Ok(()),
        // The other side has ended the call, and its answer says why.
        Ok(Err(_)) => std::future::pending().await,
        Err(_) => Err(Status::deadline_exceeded("a part of the checkpoint was not taken in time")),
    }
}

/// Gives a checkpoint to a node that lost its tables.
pub(crate) fn serve(group: &Group, index_min: u64) -> Result<Parts, Status> {
    let tables = group.tables().clone();
    if tables.applied().is_none_or(|id| id.index < index_min) {
        return Err(Status::failed_precondition(format!("index {index_min} is not applied here")));
    }
    let shard = group.shard();
    let (parts, stream) = mpsc::channel(CHECKPOINT_FRAMES_QUEUED_MAX);
    tokio::spawn(async move {
        let reading = async {
            let checkpoint = tables.checkpoint().await.map_err(|error| tables_failed(&error))?;
            let mut frames = 0;
            let head = put_head(shard, None, &checkpoint)?;
            let mut source = Frames::of(checkpoint);
            put_part(&parts, Part::Head(head)).await?;
            while let Some(frame) = source.next().await.map_err(|error| tables_failed(&error))? {
                frames += 1;
                put_part(&parts, Part::Frame(frame)).await?;
            }
            put_part(&parts, Part::End(frames)).await
        };
        if let Err(status) = reading.await {
            let _ = parts.try_send(Err(status));
        }
    });
    Ok(ReceiverStream::new(stream))
}

async fn put_part(parts: &mpsc::Sender<Result<proto::CheckpointPart, Status>>, part: Part) -> Result<(), Status> {
    let part = proto::CheckpointPart { part: Some(part) };
    match tokio::time::timeout(CHECKPOINT_FRAME_MAX, parts.send(Ok(part))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Status::cancelled("the caller went away")),
        Err(_) => Err(Status::deadline_exceeded("a part of the checkpoint was not taken in time")),
    }
}

/// Takes a checkpoint from the leader and installs it; gives this node's ballot.
pub(crate) async fn receive(
    group: &Group,
    ballot: Ballot,
    head: proto::CheckpointHead,
    parts: &mut Streaming<proto::CheckpointPart>,
) -> Result<Ballot, Status> {
    let installed = take_frames(group.tables(), parts).await?;
    let meta = meta_of(&installed, &head)?;
    let snapshot = Snapshot { meta, snapshot: CheckpointHandle::Received(Box::new(installed)) };
    let install = group.life().scope(group.raft().install_full_snapshot(ballot, snapshot));
    match tokio::time::timeout(CHECKPOINT_FINISH_MAX, install).await {
        Ok(Ok(response)) => Ok(response.vote),
        Ok(Err(fatal)) => Err(Status::new(NOT_NOW, fatal.to_string())),
        Err(_) => Err(Status::deadline_exceeded("the checkpoint was not installed in time")),
    }
}

/// The first part of every checkpoint.
pub(crate) async fn take_head(parts: &mut Streaming<proto::CheckpointPart>) -> Result<proto::CheckpointHead, Status> {
    match next_part(parts).await? {
        Part::Head(head) => Ok(head),
        Part::Frame(_) | Part::End(_) => Err(Status::invalid_argument("a checkpoint begins with its head")),
    }
}

/// Writes all frames into a new generation of the tables.
async fn take_frames(tables: &Tables, parts: &mut Streaming<proto::CheckpointPart>) -> Result<CompleteCheckpoint, Status> {
    let mut install = tables.begin_install().await.map_err(|error| tables_failed(&error))?;
    let mut frames = 0_u64;
    loop {
        match next_part(parts).await? {
            Part::Frame(frame) => {
                write_frame(&mut install, frame).await?;
                frames += 1;
            }
            Part::End(sent) if sent == frames => break,
            Part::End(sent) => {
                return Err(Status::data_loss(format!("the checkpoint has {sent} frames, {frames} came")));
            }
            Part::Head(_) => return Err(Status::invalid_argument("a checkpoint has one head")),
        }
    }
    let finish = tokio::time::timeout(CHECKPOINT_FINISH_MAX, install.finish());
    finish.await.map_err(|_| too_late())?.map_err(|error| tables_failed(&error))
}

async fn write_frame(install: &mut CheckpointInstall, frame: Bytes) -> Result<(), Status> {
    let written = tokio::time::timeout(CHECKPOINT_FRAME_MAX, install.write(frame));
    written.await.map_err(|_| too_late())?.map_err(|error| tables_failed(&error))
}

async fn next_part(parts: &mut Streaming<proto::CheckpointPart>) -> Result<Part, Status> {
    let part = tokio::time::timeout(CHECKPOINT_FRAME_MAX, parts.message()).await.map_err(|_| too_late())??;
    part.and_then(|part| part.part).ok_or_else(|| Status::data_loss("the checkpoint ended early"))
}

fn put_head(shard: ShardId, ballot: Option<&Ballot>, checkpoint: &Checkpoint) -> Result<proto::CheckpointHead, Status> {
    let applied = checkpoint.applied().ok_or_else(|| Status::failed_precondition("the tables are empty"))?;
    Ok(proto::CheckpointHead {
        shard: u32::from(shard.0),
        ballot: ballot.map(put_ballot),
        applied: Some(put_log_id(&raft_log_id(applied))),
    })
}

/// What openraft wants to know of a checkpoint: from what was installed, which is checked, and not from the head. They must agree.
fn meta_of(installed: &CompleteCheckpoint, head: &proto::CheckpointHead) -> Result<CheckpointMeta, Status> {
    let applied = installed.applied().map(raft_log_id);
    if applied.is_none() || applied != head.applied.as_ref().map(take_log_id) {
        return Err(Status::data_loss("the checkpoint does not end where its head says"));
    }
    let (members_at, record) = match installed.membership() {
        Some(membership) => {
            let record = MembersRecord::decode(&membership.bytes, &Bytes::new());
            let record = record.map_err(|error| Status::data_loss(format!("the checkpoint's members: {error}")))?;
            (membership.entry.map(raft_log_id), record)
        }
        None => Default::default(),
    };
    Ok(CheckpointMeta { last_log_id: applied, last_membership: StoredMembers::new(members_at, record.members) })
}

fn tables_failed(error: &impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

fn too_late() -> Status {
    Status::deadline_exceeded("a part of the checkpoint did not come, or was not written, in time")
}

/// Between two rounds of asking peers for a checkpoint.
const ROUND_PAUSE: Duration = Duration::from_millis(250);
