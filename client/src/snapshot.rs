//! Snapshots of one persistence id.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cairn_api::{SnapshotInfo, v1};
use cairn_machine::limits::{SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX};
use cairn_machine::{
    Criteria, DeleteSnapshot, DeleteSnapshots, Invalid, Payload, SaveId, SaveNumber, SaveReply, SaveSnapshot, SequenceNumber,
    SnapshotChunk, SnapshotData,
};
use tokio::time::Instant;

use crate::attempt::Failed;
use crate::error::Error;
use crate::journal::Journal;
use crate::limits::UPLOAD_TRIES_MAX;
use crate::node::Node;
use crate::retry::Retry;
use crate::router::Effect;

/// A state to be saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSnapshot {
    /// The number of the last event that it covers; 0 is legal.
    pub sequence_number: SequenceNumber,
    /// The state; up to 256 MiB.
    pub payload: Payload,
    /// Optional metadata; at most 64 KiB.
    pub metadata: Option<Payload>,
    /// Kept as it is; none = the leader's clock, in milliseconds since 1970 UTC.
    pub timestamp: Option<i64>,
}

/// A saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What it is.
    pub info: SnapshotInfo,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Journal {
    /// Saves a snapshot, replacing one at the same number: whole or not at all. A large one travels in chunks.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn save_snapshot(&self, snapshot: NewSnapshot) -> Result<SaveReply, Error> {
        let deadline = self.deadline();
        let NewSnapshot { sequence_number, payload, metadata, timestamp } = snapshot;
        check_number(sequence_number)?;
        // Before the first chunk travels.
        let bytes_total = payload.bytes.len() as u64;
        if bytes_total > SNAPSHOT_BYTES_MAX {
            return Err(Invalid::TooLarge { what: "bytes of a snapshot", found: bytes_total, limit: SNAPSHOT_BYTES_MAX }.into());
        }
        let saves_read = self.saves(deadline).await?;
        let (writer, epoch) = self.identity();
        let bytes = payload.bytes;
        let is_large = bytes.len() > SNAPSHOT_CHUNK_BYTES_MAX;
        let save = SaveSnapshot {
            persistence_id: self.persistence_id().clone(),
            sequence_number,
            timestamp,
            // The same in every try: tells a try from a second save.
            save_id: SaveId(self.client().router().random_uuid()),
            saves_read,
            payload: Payload { bytes: Bytes::new(), ..payload },
            data: if is_large { uploaded(&bytes) } else { SnapshotData::Inline(bytes.clone()) },
            metadata,
            writer,
            epoch,
        };
        if !is_large {
            return self.send_save(save, deadline).await;
        }
        let mut chunks_there = 0;
        for _ in 0..UPLOAD_TRIES_MAX {
            self.upload(&save, &bytes, chunks_there, deadline).await?;
            match self.send_save(save.clone(), deadline).await {
                // The server dropped it in favour of others, or lost it with its leader: what is there is kept.
                Err(Error::UploadIncomplete { chunks }) => chunks_there = chunks,
                outcome => return outcome,
            }
        }
        Err(Error::UploadIncomplete { chunks: chunks_there })
    }

    /// The snapshot with the greatest number within the bounds; none if none matches.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn load_snapshot(&self, criteria: Criteria) -> Result<Option<Snapshot>, Error> {
        let deadline = self.deadline();
        let router = self.client().router();
        let request = v1::LoadRequest {
            persistence_id: self.persistence_id().as_str().to_owned(),
            criteria: Some(criteria.into()),
            freshness: Some(self.freshness().into()),
        };
        let mut retry = Retry::new(router.random_u64());
        loop {
            let attempt = |node: Arc<Node>| {
                let (request, address) = (request.clone(), node.address().to_owned());
                async move {
                    let loaded = node.snapshot_streams().load(node.request(request)).await;
                    Ok((loaded.map_err(|status| Failed::from_status(&status))?.into_inner(), address))
                }
            };
            // Opening is one try; the bytes of a large snapshot may take longer than one.
            let (stream, address) = router.call(&self.read_target(), Effect::Read, deadline, attempt).await?;
            let failed = match tokio::time::timeout_at(deadline, receive(stream)).await {
                Ok(Ok(snapshot)) => return Ok(snapshot),
                Ok(Err(ReceiveError::Failed(failed))) => failed,
                Ok(Err(ReceiveError::Error(error))) => return Err(error),
                Err(_) => Failed::Lost("the snapshot did not come in time".to_owned()),
            };
            if let Some(failure) = failed.final_answer() {
                return Err(Error::from_failure(failure.clone()));
            }
            router.note(&self.read_target(), &address, &failed);
            if !retry.wait(&failed, deadline).await {
                return Err(Error::Unavailable { message: failed.message().to_owned() });
            }
        }
    }

    /// What snapshots there are within the bounds, ascending, without their bytes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn snapshots(&self, criteria: Criteria) -> Result<Vec<SnapshotInfo>, Error> {
        let request = v1::ListSnapshotsRequest {
            persistence_id: self.persistence_id().as_str().to_owned(),
            criteria: Some(criteria.into()),
            freshness: Some(self.freshness().into()),
        };
        let attempt = |node: Arc<Node>| {
            let request = request.clone();
            async move {
                let listed = node.snapshots().list(node.request(request)).await;
                Ok(listed.map_err(|status| Failed::from_status(&status))?.into_inner())
            }
        };
        let listed = self.client().router().call(&self.read_target(), Effect::Read, self.deadline(), attempt).await?;
        listed.snapshots.into_iter().map(snapshot_info).collect()
    }

    /// Deletes the snapshot at a number, if its timestamp is this one; none = any. A snapshot that is saved while the call runs
    /// stays. Returns how many were deleted by the last try.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_snapshot(&self, sequence_number: SequenceNumber, timestamp: Option<i64>) -> Result<u64, Error> {
        check_number(sequence_number)?;
        let deadline = self.deadline();
        let (writer, epoch) = self.identity();
        let delete = DeleteSnapshot {
            persistence_id: self.persistence_id().clone(),
            sequence_number,
            timestamp,
            saves_read: Some(self.saves(deadline).await?),
            writer,
            epoch,
        };
        let request = v1::DeleteSnapshotRequest::from(delete);
        let attempt = |node: Arc<Node>| {
            let request = request.clone();
            async move {
                let deleted = node.snapshots().delete(node.request(request)).await;
                Ok(deleted.map_err(|status| Failed::from_status(&status))?.into_inner().deleted)
            }
        };
        self.client().router().call(&self.target(), Effect::Command, deadline, attempt).await
    }

    /// Deletes the snapshots within the bounds. Those saved while the call runs stay. Returns how many were deleted by the last
    /// try.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_snapshots(&self, criteria: Criteria) -> Result<u64, Error> {
        let deadline = self.deadline();
        let (writer, epoch) = self.identity();
        let delete = DeleteSnapshots {
            persistence_id: self.persistence_id().clone(),
            criteria,
            saves_read: Some(self.saves(deadline).await?),
            writer,
            epoch,
        };
        let request = v1::DeleteSnapshotsRequest::from(delete);
        let attempt = |node: Arc<Node>| {
            let request = request.clone();
            async move {
                let deleted = node.snapshots().delete_matching(node.request(request)).await;
                Ok(deleted.map_err(|status| Failed::from_status(&status))?.into_inner().deleted)
            }
        };
        self.client().router().call(&self.target(), Effect::Command, deadline, attempt).await
    }

    /// How many saves there were: read before the first try, so that a retry is told from what came later.
    async fn saves(&self, deadline: Instant) -> Result<SaveNumber, Error> {
        Ok(self.read_highest(&self.target(), cairn_api::Freshness::Strong, deadline).await?.saves)
    }

    async fn send_save(&self, save: SaveSnapshot, deadline: Instant) -> Result<SaveReply, Error> {
        let request = v1::SaveRequest::from(save);
        let attempt = |node: Arc<Node>| {
            let request = request.clone();
            async move {
                let saved = node.snapshots().save(node.request(request)).await;
                Ok(saved.map_err(|status| Failed::from_status(&status))?.into_inner())
            }
        };
        let saved = self.client().router().call(&self.target(), Effect::Command, deadline, attempt).await?;
        SaveReply::try_from(saved).map_err(|invalid| Error::protocol(invalid.to_string()))
    }

    /// Uploads the chunks from one on. Each is acknowledged before the next one leaves: they come in order.
    async fn upload(&self, save: &SaveSnapshot, bytes: &Bytes, chunks_there: u32, deadline: Instant) -> Result<(), Error> {
        let mut index = chunks_there;
        let mut losses = 0;
        let count = chunk_count(bytes);
        while index < count {
            let start = index as usize * SNAPSHOT_CHUNK_BYTES_MAX;
            let end = bytes.len().min(start + SNAPSHOT_CHUNK_BYTES_MAX);
            let chunk = SnapshotChunk {
                persistence_id: save.persistence_id.clone(),
                save_id: save.save_id,
                index,
                bytes: bytes.slice(start..end),
            };
            let request = v1::UploadRequest::from(chunk);
            let attempt = |node: Arc<Node>| {
                let request = request.clone();
                async move {
                    let uploaded = node.snapshots().upload(node.request(request)).await;
                    Ok(uploaded.map_err(|status| Failed::from_status(&status))?.into_inner().chunks)
                }
            };
            match self.client().router().call(&self.target(), Effect::Command, deadline, attempt).await {
                Ok(chunks) if chunks > index => index = chunks.min(count),
                Ok(chunks) => return Err(Error::protocol(format!("{chunks} chunks after number {index} was sent"))),
                Err(Error::UploadIncomplete { chunks }) if losses < UPLOAD_TRIES_MAX && chunks < index => {
                    losses += 1;
                    index = chunks;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The wire would clamp it: then the snapshot were saved or deleted at another number than the caller's.
fn check_number(number: SequenceNumber) -> Result<(), Error> {
    if number <= SequenceNumber::MAX {
        return Ok(());
    }
    Err(Error::Invalid { message: format!("sequence number {number}: above {}", SequenceNumber::MAX) })
}

fn chunk_count(bytes: &Bytes) -> u32 {
    u32::try_from(bytes.len().div_ceil(SNAPSHOT_CHUNK_BYTES_MAX)).unwrap_or(u32::MAX)
}

fn uploaded(bytes: &Bytes) -> SnapshotData {
    SnapshotData::Uploaded { chunks: chunk_count(bytes), bytes_total: bytes.len() as u64 }
}

pub(crate) fn snapshot_info(info: v1::SnapshotInfo) -> Result<SnapshotInfo, Error> {
    SnapshotInfo::try_from(info).map_err(|invalid| Error::protocol(invalid.to_string()))
}

enum ReceiveError {
    /// The stream broke.
    Failed(Failed),
    Error(Error),
}

impl From<Error> for ReceiveError {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

async fn receive(mut stream: tonic::Streaming<v1::LoadResponse>) -> Result<Option<Snapshot>, ReceiveError> {
    let mut arriving: Option<Arriving> = None;
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(status) => return Err(ReceiveError::Failed(Failed::from_status(&status))),
        };
        match (message.kind, &mut arriving) {
            (Some(v1::load_response::Kind::Snapshot(info)), None) => arriving = Some(Arriving::new(snapshot_info(info)?)),
            (Some(v1::load_response::Kind::Data(data)), Some(arriving)) => arriving.push(&data)?,
            _ => return Err(Error::protocol("a snapshot out of order").into()),
        }
    }
    match arriving {
        None => Ok(None),
        Some(arriving) if arriving.is_whole() => Ok(Some(arriving.finish())),
        Some(_) => Err(ReceiveError::Failed(Failed::Lost("the snapshot ended early".to_owned()))),
    }
}

/// A snapshot whose bytes are coming.
pub(crate) struct Arriving {
    info: SnapshotInfo,
    bytes: BytesMut,
}

impl Arriving {
    pub(crate) fn new(info: SnapshotInfo) -> Self {
        Self { info, bytes: BytesMut::new() }
    }

    pub(crate) fn push(&mut self, data: &Bytes) -> Result<(), Error> {
        if self.bytes.len() as u64 + data.len() as u64 > self.info.bytes_total {
            return Err(Error::protocol("more bytes than the snapshot has"));
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.info.bytes_total
    }

    pub(crate) fn finish(self) -> Snapshot {
        Snapshot { info: self.info, bytes: self.bytes.freeze() }
    }
}
