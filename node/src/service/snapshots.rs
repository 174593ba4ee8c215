//! The snapshot service.

use std::sync::Arc;

use bytes::Bytes;
use cairn_api::reply::answer;
use cairn_api::v1::snapshots_server::Snapshots;
use cairn_api::v1::{self, Failure, load_response};
use cairn_api::{ListSnapshots, LoadSnapshot, SnapshotInfo};
use cairn_machine::limits::SNAPSHOTS_MAX;
use cairn_machine::{Command, DeleteSnapshot, DeleteSnapshots, Reply, SaveSnapshot, SnapshotChunk, SnapshotRecord};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::stream::{Answers, End, Sink, produce};
use super::{answered, deadline};
use crate::core::{Core, Shard};
use crate::failure::unexpected;

/// Snapshots that are read at once for a list.
const PAGE_SNAPSHOTS: usize = 1_000;

/// The snapshot service of one node.
#[derive(Clone)]
pub(crate) struct SnapshotsService {
    pub core: Arc<Core>,
}

#[tonic::async_trait]
impl Snapshots for SnapshotsService {
    type LoadStream = Answers<v1::LoadResponse>;

    async fn upload(&self, request: Request<v1::UploadRequest>) -> Result<Response<v1::UploadResponse>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = async {
            let chunk = SnapshotChunk::try_from(request.into_inner())?;
            match self.core.command(Command::SnapshotChunk(chunk), deadline).await? {
                Reply::SnapshotChunk(reply) => answer(reply),
                other => Err(unexpected(&other)),
            }
        };
        answered(&self.core, "Snapshots/Upload", outcome.await)
    }

    async fn save(&self, request: Request<v1::SaveRequest>) -> Result<Response<v1::SaveResponse>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = async {
            let save = SaveSnapshot::try_from(request.into_inner())?;
            match self.core.command(Command::SaveSnapshot(save), deadline).await? {
                Reply::SaveSnapshot(reply) => answer(reply),
                other => Err(unexpected(&other)),
            }
        };
        answered(&self.core, "Snapshots/Save", outcome.await)
    }

    async fn load(&self, request: Request<v1::LoadRequest>) -> Result<Response<Self::LoadStream>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = async { load(&self.core, request.into_inner().try_into()?, deadline).await };
        answered(&self.core, "Snapshots/Load", outcome.await)
    }

    async fn list(&self, request: Request<v1::ListSnapshotsRequest>) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = async { list(&self.core, request.into_inner().try_into()?, deadline).await };
        answered(&self.core, "Snapshots/List", outcome.await)
    }

    async fn delete(&self, request: Request<v1::DeleteSnapshotRequest>) -> Result<Response<v1::DeleteSnapshotsResponse>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = async {
            let delete = DeleteSnapshot::try_from(request.into_inner())?;
            deleted(self.core.command(Command::DeleteSnapshot(delete), deadline).await?)
        };
        answered(&self.core, "Snapshots/Delete", outcome.await)
    }

    async fn delete_matching(
        &self,
        request: Request<v1::DeleteSnapshotsRequest>,
    ) -> Result<Response<v1::DeleteSnapshotsResponse>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = async {
            let delete = DeleteSnapshots::try_from(request.into_inner())?;
            deleted(self.core.command(Command::DeleteSnapshots(delete), deadline).await?)
        };
        answered(&self.core, "Snapshots/DeleteMatching", outcome.await)
    }
}

fn deleted(reply: Reply) -> Result<v1::DeleteSnapshotsResponse, Failure> {
    match reply {
        Reply::DeleteSnapshots(reply) => answer(reply),
        other => Err(unexpected(&other)),
    }
}

async fn load(core: &Arc<Core>, load: LoadSnapshot, deadline: Instant) -> Result<Answers<v1::LoadResponse>, Failure> {
    let place = core.replay_place()?;
    let shard = core.shard_of(&load.persistence_id).clone();
    core.freshen(&shard, &load.persistence_id, load.freshness, deadline).await?;
    let snapshot = shard.tables().latest_snapshot(&load.persistence_id, load.criteria).await;
    let snapshot = snapshot.map_err(|error| core.tables_failure(&error))?;
    let shared = Arc::clone(core);
    Ok(produce(core, |sink| async move {
        let _place = place;
        let Some(record) = snapshot else { return Ok(()) };
        let info = SnapshotInfo::new(load.persistence_id, record.clone());
        sink.send(response(load_response::Kind::Snapshot(info.into()))).await?;
        send_bytes(&shared, &shard, &record, &sink, |bytes| response(load_response::Kind::Data(bytes))).await
    }))
}

fn response(kind: load_response::Kind) -> v1::LoadResponse {
    v1::LoadResponse { kind: Some(kind) }
}

/// Sends a snapshot's bytes, chunk by chunk.
pub(super) async fn send_bytes<T>(
    core: &Core,
    shard: &Shard,
    record: &SnapshotRecord,
    sink: &Sink<T>,
    wrap: impl Fn(Bytes) -> T,
) -> Result<(), End> {
    for index in 0..record.chunks {
        let bytes = shard.tables().read_snapshot_chunk(record, index).await.map_err(|error| core.tables_failure(&error))?;
        sink.send(wrap(bytes)).await?;
    }
    Ok(())
}

async fn list(core: &Core, list: ListSnapshots, deadline: Instant) -> Result<v1::ListSnapshotsResponse, Failure> {
    let shard = core.shard_of(&list.persistence_id);
    core.freshen(shard, &list.persistence_id, list.freshness, deadline).await?;
    let mut snapshots = Vec::new();
    let mut from = Some(list.criteria.sequence_number_min);
    // The rules keep no more for one journal.
    while let Some(start) = from.filter(|_| snapshots.len() < SNAPSHOTS_MAX) {
        let page = shard.tables().list_snapshots(&list.persistence_id, list.criteria, start, PAGE_SNAPSHOTS).await;
        let page = page.map_err(|error| core.tables_failure(&error))?;
        let infos = page.snapshots.into_iter().map(|record| SnapshotInfo::new(list.persistence_id.clone(), record).into());
        snapshots.extend(infos);
        from = page.next;
    }
    Ok(v1::ListSnapshotsResponse { snapshots })
}
