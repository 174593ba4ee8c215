//! The journal service: which call goes where.

use std::sync::Arc;

use cairn_api::reply::{answer, write_response};
use cairn_api::v1::journal_server::Journal;
use cairn_api::v1::{self, Failure};
use cairn_api::{HighestReply, List, Listing, ReadHighest, Recover, Replay};
use cairn_machine::{Claim, Command, DeleteTo, PersistenceId, Reply, Write};
use tonic::{Request, Response, Status, Streaming};

use super::stream::Answers;
use super::{answered, deadline, follow, pipeline, recover, replay};
use crate::core::Core;
use crate::failure::unexpected;

/// The journal service of one node.
#[derive(Clone)]
pub(crate) struct JournalService {
    pub core: Arc<Core>,
}

#[tonic::async_trait]
impl Journal for JournalService {
    type PipelineStream = Answers<v1::PipelineResponse>;
    type ReplayStream = Answers<v1::ReplayResponse>;
    type RecoverStream = Answers<v1::RecoverResponse>;
    type FollowStream = Answers<v1::FollowResponse>;
    type FollowShardStream = Answers<v1::FollowShardResponse>;

    async fn pipeline(&self, request: Request<Streaming<v1::PipelineRequest>>) -> Result<Response<Self::PipelineStream>, Status> {
        answered(&self.core, "Journal/Pipeline", Ok(pipeline::open(&self.core, request.into_inner())))
    }

    async fn write(&self, request: Request<v1::WriteRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = async {
            let write = Write::try_from(request.into_inner())?;
            match self.core.command(Command::Write(write), deadline).await? {
                Reply::Write(reply) => write_response(reply),
                other => Err(unexpected(&other)),
            }
        };
        answered(&self.core, "Journal/Write", outcome.await)
    }

    async fn claim(&self, request: Request<v1::ClaimRequest>) -> Result<Response<v1::ClaimResponse>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = async {
            let claim = Claim::try_from(request.into_inner())?;
            match self.core.command(Command::Claim(claim), deadline).await? {
                Reply::Claim(reply) => answer(reply),
                other => Err(unexpected(&other)),
            }
        };
        answered(&self.core, "Journal/Claim", outcome.await)
    }

    async fn highest(&self, request: Request<v1::HighestRequest>) -> Result<Response<v1::HighestResponse>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = async {
            let read = ReadHighest::try_from(request.into_inner())?;
            let shard = self.core.shard_of(&read.persistence_id);
            self.core.freshen(shard, &read.persistence_id, read.freshness, deadline).await?;
            let head = self.core.head(shard, &read.persistence_id).await?;
            Ok(HighestReply::from(&head).into())
        };
        answered(&self.core, "Journal/Highest", outcome.await)
    }

    async fn replay(&self, request: Request<v1::ReplayRequest>) -> Result<Response<Self::ReplayStream>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = match Replay::try_from(request.into_inner()) {
            Ok(read) => replay::open(&self.core, read, deadline).await,
            Err(invalid) => Err(invalid.into()),
        };
        answered(&self.core, "Journal/Replay", outcome)
    }

    async fn recover(&self, request: Request<v1::RecoverRequest>) -> Result<Response<Self::RecoverStream>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = match Recover::try_from(request.into_inner()) {
            Ok(read) => recover::open(&self.core, read, deadline).await,
            Err(invalid) => Err(invalid.into()),
        };
        answered(&self.core, "Journal/Recover", outcome)
    }

    async fn follow(&self, request: Request<v1::FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let outcome = async { follow::open(&self.core, request.into_inner().try_into()?).await };
        answered(&self.core, "Journal/Follow", outcome.await)
    }

    async fn follow_shard(&self, request: Request<v1::FollowShardRequest>) -> Result<Response<Self::FollowShardStream>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = async { follow::open_shard(&self.core, request.into_inner().try_into()?, deadline).await };
        answered(&self.core, "Journal/FollowShard", outcome.await)
    }

    async fn delete_to(&self, request: Request<v1::DeleteToRequest>) -> Result<Response<v1::DeleteToResponse>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = async {
            let delete = DeleteTo::try_from(request.into_inner())?;
            match self.core.command(Command::DeleteTo(delete), deadline).await? {
                Reply::DeleteTo(reply) => answer(reply),
                other => Err(unexpected(&other)),
            }
        };
        answered(&self.core, "Journal/DeleteTo", outcome.await)
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        let deadline = deadline(&self.core, request.metadata());
        let outcome = async { list(&self.core, request.into_inner().try_into()?, deadline).await };
        answered(&self.core, "Journal/List", outcome.await)
    }
}

/// One page over all shards, in bytewise order: each shard gives a page, and the first of them all are taken.
async fn list(core: &Core, list: List, deadline: tokio::time::Instant) -> Result<v1::ListResponse, Failure> {
    use cairn_api::Freshness;
    let limit = list.limit as usize;
    let mut journals = Vec::new();
    // A shard's page may end early: what lies behind its end in other shards must wait for the next page.
    let mut complete_to: Option<PersistenceId> = None;
    let mut more = false;
    for shard in &core.shards {
        match list.freshness {
            Freshness::Local => {}
            Freshness::Strong => core.barrier(shard, deadline).await?,
            Freshness::AtLeast(_) => {
                let reason = "at_least is a journal's or a shard's number; a listing spans all shards: ask for strong or local";
                return Err(Failure::new(v1::Reason::Invalid, format!("freshness: {reason}")));
            }
        }
        let after = (!list.after.is_empty()).then(|| PersistenceId::new(list.after.clone())).transpose()?;
        let page = shard.tables().list_journals(&list.prefix, after.as_ref(), limit).await;
        let page = page.map_err(|error| core.tables_failure(&error))?;
        if page.has_more {
            more = true;
            let last = page.journals.last().map(|journal| journal.persistence_id.clone());
            complete_to = [complete_to, last].into_iter().flatten().min();
        }
        let listings = page.journals.into_iter();
        journals.extend(listings.map(|journal| Listing::new(journal.persistence_id, &journal.head, shard.id)));
    }
    journals.retain(|journal| complete_to.as_ref().is_none_or(|end| journal.persistence_id <= *end));
    journals.sort_by(|left, right| left.persistence_id.cmp(&right.persistence_id));
    let more = more || journals.len() > limit;
    journals.truncate(limit);
    Ok(v1::ListResponse { journals: journals.into_iter().map(Into::into).collect(), more })
}
