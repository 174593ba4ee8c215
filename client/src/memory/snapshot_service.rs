//! `Snapshots` in memory: the rules, called directly.

use std::pin::Pin;
use std::sync::Arc;

use cairn_api::v1::snapshots_server::Snapshots;
use cairn_api::v1::{self, Failure, load_response};
use cairn_api::{ListSnapshots, LoadSnapshot, SnapshotInfo, reply};
use cairn_machine::{Command, DeleteSnapshot, DeleteSnapshots, Reply, SaveSnapshot, SnapshotChunk};
use futures::Stream;
use tonic::{Request, Response, Status};

use super::answers::{answered, data_messages, until_broken};
use super::world::{Trouble, World};

pub(super) struct SnapshotService {
    pub(super) world: Arc<World>,
    pub(super) node: u16,
}

#[tonic::async_trait]
impl Snapshots for SnapshotService {
    type LoadStream = Pin<Box<dyn Stream<Item = Result<v1::LoadResponse, Status>> + Send>>;

    async fn upload(&self, request: Request<v1::UploadRequest>) -> Result<Response<v1::UploadResponse>, Status> {
        let chunk = SnapshotChunk::try_from(request.into_inner()).map_err(Failure::from)?;
        let uploaded = self.world.execute(self.node, Command::SnapshotChunk(chunk)).and_then(|reply| match reply {
            Reply::SnapshotChunk(reply) => Ok(reply::answer(reply)?),
            _ => unreachable!("a reply is of its command's kind"),
        });
        answered(uploaded).await
    }

    async fn save(&self, request: Request<v1::SaveRequest>) -> Result<Response<v1::SaveResponse>, Status> {
        let save = SaveSnapshot::try_from(request.into_inner()).map_err(Failure::from)?;
        let saved = self.world.execute(self.node, Command::SaveSnapshot(save)).and_then(|reply| match reply {
            Reply::SaveSnapshot(reply) => Ok(reply::answer(reply)?),
            _ => unreachable!("a reply is of its command's kind"),
        });
        answered(saved).await
    }

    async fn load(&self, request: Request<v1::LoadRequest>) -> Result<Response<Self::LoadStream>, Status> {
        let load = LoadSnapshot::try_from(request.into_inner()).map_err(Failure::from)?;
        let found = self.world.look(&load.persistence_id, |store| {
            let record = store.latest_snapshot(&load.persistence_id, &load.criteria)?;
            Some((record.clone(), store.snapshot_bytes(record)?))
        });
        let kinds = found.into_iter().flat_map(move |(record, bytes)| {
            let info = SnapshotInfo::new(load.persistence_id.clone(), record);
            let data = data_messages(bytes).map(load_response::Kind::Data);
            std::iter::once(load_response::Kind::Snapshot(info.into())).chain(data)
        });
        let messages = kinds.map(|kind| Ok(v1::LoadResponse { kind: Some(kind) }));
        Ok(Response::new(until_broken(&self.world, futures::stream::iter(messages))))
    }

    async fn list(&self, request: Request<v1::ListSnapshotsRequest>) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        let list = ListSnapshots::try_from(request.into_inner()).map_err(Failure::from)?;
        let snapshots = self.world.look(&list.persistence_id, |store| {
            let matching = store
                .snapshots_of(&list.persistence_id)
                .filter(|record| list.criteria.matches(record.sequence_number, record.timestamp));
            matching.map(|record| SnapshotInfo::new(list.persistence_id.clone(), record.clone()).into()).collect()
        });
        Ok(Response::new(v1::ListSnapshotsResponse { snapshots }))
    }

    async fn delete(&self, request: Request<v1::DeleteSnapshotRequest>) -> Result<Response<v1::DeleteSnapshotsResponse>, Status> {
        let delete = DeleteSnapshot::try_from(request.into_inner()).map_err(Failure::from)?;
        answered(self.delete_snapshots(Command::DeleteSnapshot(delete))).await
    }

    async fn delete_matching(
        &self,
        request: Request<v1::DeleteSnapshotsRequest>,
    ) -> Result<Response<v1::DeleteSnapshotsResponse>, Status> {
        let delete = DeleteSnapshots::try_from(request.into_inner()).map_err(Failure::from)?;
        answered(self.delete_snapshots(Command::DeleteSnapshots(delete))).await
    }
}

impl SnapshotService {
    fn delete_snapshots(&self, command: Command) -> Result<v1::DeleteSnapshotsResponse, Trouble> {
        match self.world.execute(self.node, command)? {
            Reply::DeleteSnapshots(reply) => Ok(reply::answer(reply)?),
            _ => unreachable!("a reply is of its command's kind"),
        }
    }
}
