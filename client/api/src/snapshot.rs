//! Snapshots: uploads, saves, criteria, deletions and what is known of a saved one.

use bytes::Bytes;
use cairn_machine::limits::{MANIFEST_BYTES_MAX, SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX};
use cairn_machine::{
    Criteria, DeleteSnapshot, DeleteSnapshots, Invalid, Payload, PersistenceId, SaveId, SaveNumber, SaveSnapshot, SequenceNumber,
    SnapshotChunk, SnapshotData, SnapshotRecord, WriterId,
};
use uuid::Uuid;

use crate::event::{check_metadata, persistence_id, within, writer_id};
use crate::journal::Freshness;
use crate::number::{epoch, save_number, sequence_number, signed};
use crate::v1;

fn save_id(bytes: &Bytes) -> Result<SaveId, Invalid> {
    match Uuid::from_slice(bytes) {
        Ok(uuid) if !uuid.is_nil() => Ok(SaveId(uuid)),
        Ok(_) => Err(Invalid::Field { field: "save_id", reason: "nil: it must name one save" }),
        Err(_) => Err(Invalid::Field { field: "save_id", reason: "not a UUID of 16 bytes" }),
    }
}

fn save_id_bytes(save_id: SaveId) -> Bytes {
    Bytes::copy_from_slice(save_id.0.as_bytes())
}

impl TryFrom<v1::UploadRequest> for SnapshotChunk {
    type Error = Invalid;

    fn try_from(wire: v1::UploadRequest) -> Result<Self, Invalid> {
        within("data bytes of a chunk", wire.data.len(), SNAPSHOT_CHUNK_BYTES_MAX)?;
        if wire.data.is_empty() {
            return Err(Invalid::Field { field: "data", reason: "empty: a chunk brings at least one byte" });
        }
        // Whatever the size of its chunks, a snapshot never has more of them than bytes.
        if u64::from(wire.index) >= SNAPSHOT_BYTES_MAX {
            return Err(Invalid::TooLarge { what: "index", found: wire.index.into(), limit: SNAPSHOT_BYTES_MAX - 1 });
        }
        Ok(Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            save_id: save_id(&wire.save_id)?,
            index: wire.index,
            bytes: wire.data,
        })
    }
}

impl From<SnapshotChunk> for v1::UploadRequest {
    fn from(chunk: SnapshotChunk) -> Self {
        Self {
            persistence_id: chunk.persistence_id.as_str().to_owned(),
            save_id: save_id_bytes(chunk.save_id),
            index: chunk.index,
            data: chunk.bytes,
        }
    }
}

impl TryFrom<v1::save_request::Data> for SnapshotData {
    type Error = Invalid;

    fn try_from(wire: v1::save_request::Data) -> Result<Self, Invalid> {
        match wire {
            v1::save_request::Data::Inline(bytes) => {
                within("inline bytes", bytes.len(), SNAPSHOT_CHUNK_BYTES_MAX)?;
                Ok(Self::Inline(bytes))
            }
            v1::save_request::Data::Uploaded(uploaded) => {
                if uploaded.bytes_total > SNAPSHOT_BYTES_MAX {
                    return Err(Invalid::TooLarge {
                        what: "bytes_total of a snapshot",
                        found: uploaded.bytes_total,
                        limit: SNAPSHOT_BYTES_MAX,
                    });
                }
                if uploaded.chunks == 0 {
                    return Err(Invalid::Field { field: "chunks", reason: "none: an empty snapshot is saved inline" });
                }
                Ok(Self::Uploaded { chunks: uploaded.chunks, bytes_total: uploaded.bytes_total })
            }
        }
    }
}

impl From<SnapshotData> for v1::save_request::Data {
    fn from(data: SnapshotData) -> Self {
        match data {
            SnapshotData::Inline(bytes) => Self::Inline(bytes),
            SnapshotData::Uploaded { chunks, bytes_total } => Self::Uploaded(v1::save_request::Uploaded { chunks, bytes_total }),
        }
    }
}

impl TryFrom<v1::SaveRequest> for SaveSnapshot {
    type Error = Invalid;

    fn try_from(wire: v1::SaveRequest) -> Result<Self, Invalid> {
        within("manifest bytes", wire.manifest.len(), MANIFEST_BYTES_MAX)?;
        let metadata = wire.metadata.map(Payload::from);
        check_metadata(metadata.as_ref())?;
        Ok(Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            sequence_number: sequence_number(wire.sequence_number)?,
            timestamp: wire.timestamp,
            save_id: save_id(&wire.save_id)?,
            saves_read: save_number("saves_read", wire.saves_read)?,
            payload: Payload { serializer_id: wire.serializer_id, manifest: wire.manifest, bytes: Bytes::new() },
            data: wire.data.ok_or(Invalid::Field { field: "data", reason: "neither inline nor uploaded" })?.try_into()?,
            metadata,
            writer: writer_id(wire.writer_id)?,
            epoch: wire.epoch.map(|number| epoch("epoch", number)).transpose()?,
        })
    }
}

impl From<SaveSnapshot> for v1::SaveRequest {
    fn from(save: SaveSnapshot) -> Self {
        Self {
            persistence_id: save.persistence_id.as_str().to_owned(),
            sequence_number: signed(save.sequence_number.0),
            timestamp: save.timestamp,
            save_id: save_id_bytes(save.save_id),
            saves_read: signed(save.saves_read.0),
            serializer_id: save.payload.serializer_id,
            manifest: save.payload.manifest,
            data: Some(save.data.into()),
            metadata: save.metadata.map(v1::Payload::from),
            writer_id: save.writer.as_str().to_owned(),
            epoch: save.epoch.map(|epoch| signed(epoch.0)),
        }
    }
}

impl TryFrom<v1::SnapshotCriteria> for Criteria {
    type Error = Invalid;

    fn try_from(wire: v1::SnapshotCriteria) -> Result<Self, Invalid> {
        Ok(Self {
            sequence_number_min: sequence_number(wire.sequence_number_min)?,
            sequence_number_max: sequence_number(wire.sequence_number_max)?,
            timestamp_min: wire.timestamp_min,
            timestamp_max: wire.timestamp_max,
        })
    }
}

impl From<Criteria> for v1::SnapshotCriteria {
    fn from(criteria: Criteria) -> Self {
        Self {
            sequence_number_min: signed(criteria.sequence_number_min.0),
            sequence_number_max: signed(criteria.sequence_number_max.0),
            timestamp_min: criteria.timestamp_min,
            timestamp_max: criteria.timestamp_max,
        }
    }
}

/// Missing criteria are an error and not "all": a caller that forgot them must not delete everything.
fn required(criteria: Option<v1::SnapshotCriteria>) -> Result<Criteria, Invalid> {
    criteria.ok_or(Invalid::Field { field: "criteria", reason: "missing" })?.try_into()
}

impl TryFrom<v1::DeleteSnapshotRequest> for DeleteSnapshot {
    type Error = Invalid;

    fn try_from(wire: v1::DeleteSnapshotRequest) -> Result<Self, Invalid> {
        Ok(Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            sequence_number: sequence_number(wire.sequence_number)?,
            // 0 = any (contract 3.7).
            timestamp: (wire.timestamp != 0).then_some(wire.timestamp),
            saves_read: wire.saves_read.map(|number| save_number("saves_read", number)).transpose()?,
            writer: writer_id(wire.writer_id)?,
            epoch: wire.epoch.map(|number| epoch("epoch", number)).transpose()?,
        })
    }
}

impl From<DeleteSnapshot> for v1::DeleteSnapshotRequest {
    fn from(delete: DeleteSnapshot) -> Self {
        Self {
            persistence_id: delete.persistence_id.as_str().to_owned(),
            sequence_number: signed(delete.sequence_number.0),
            timestamp: delete.timestamp.unwrap_or(0),
            saves_read: delete.saves_read.map(|saves| signed(saves.0)),
            writer_id: delete.writer.as_str().to_owned(),
            epoch: delete.epoch.map(|epoch| signed(epoch.0)),
        }
    }
}

impl TryFrom<v1::DeleteSnapshotsRequest> for DeleteSnapshots {
    type Error = Invalid;

    fn try_from(wire: v1::DeleteSnapshotsRequest) -> Result<Self, Invalid> {
        Ok(Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            criteria: required(wire.criteria)?,
            saves_read: wire.saves_read.map(|number| save_number("saves_read", number)).transpose()?,
            writer: writer_id(wire.writer_id)?,
            epoch: wire.epoch.map(|number| epoch("epoch", number)).transpose()?,
        })
    }
}

impl From<DeleteSnapshots> for v1::DeleteSnapshotsRequest {
    fn from(delete: DeleteSnapshots) -> Self {
        Self {
            persistence_id: delete.persistence_id.as_str().to_owned(),
            criteria: Some(delete.criteria.into()),
            saves_read: delete.saves_read.map(|saves| signed(saves.0)),
            writer_id: delete.writer.as_str().to_owned(),
            epoch: delete.epoch.map(|epoch| signed(epoch.0)),
        }
    }
}

/// A request for the newest snapshot within bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadSnapshot {
    /// Whose.
    pub persistence_id: PersistenceId,
    /// The bounds.
    pub criteria: Criteria,
    /// How fresh it must be.
    pub freshness: Freshness,
}

impl TryFrom<v1::LoadRequest> for LoadSnapshot {
    type Error = Invalid;

    fn try_from(wire: v1::LoadRequest) -> Result<Self, Invalid> {
        Ok(Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            criteria: required(wire.criteria)?,
            freshness: wire.freshness.try_into()?,
        })
    }
}

/// A request for what snapshots there are within bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListSnapshots {
    /// Whose.
    pub persistence_id: PersistenceId,
    /// The bounds.
    pub criteria: Criteria,
    /// How fresh it must be.
    pub freshness: Freshness,
}

impl TryFrom<v1::ListSnapshotsRequest> for ListSnapshots {
    type Error = Invalid;

    fn try_from(wire: v1::ListSnapshotsRequest) -> Result<Self, Invalid> {
        Ok(Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            criteria: required(wire.criteria)?,
            freshness: wire.freshness.try_into()?,
        })
    }
}

/// A snapshot without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Whose.
    pub persistence_id: PersistenceId,
    /// The number of the last event that it covers.
    pub sequence_number: SequenceNumber,
    /// Its timestamp, in the unit of whoever saved it.
    pub timestamp: i64,
    /// The id of its serializer.
    pub serializer_id: i32,
    /// Its serializer's manifest.
    pub manifest: String,
    /// Optional metadata.
    pub metadata: Option<Payload>,
    /// How many bytes it has.
    pub bytes_total: u64,
    /// Who saved it.
    pub writer: WriterId,
    /// Which save it was.
    pub save_number: SaveNumber,
}

impl SnapshotInfo {
    /// What users may know of a stored snapshot.
    #[must_use]
    pub fn new(persistence_id: PersistenceId, record: SnapshotRecord) -> Self {
        Self {
            persistence_id,
            sequence_number: record.sequence_number,
            timestamp: record.timestamp,
            serializer_id: record.payload.serializer_id,
            manifest: record.payload.manifest,
            metadata: record.metadata,
            bytes_total: record.bytes_total,
            writer: record.writer,
            save_number: record.save_number,
        }
    }
}

impl From<SnapshotInfo> for v1::SnapshotInfo {
    fn from(info: SnapshotInfo) -> Self {
        Self {
            persistence_id: info.persistence_id.as_str().to_owned(),
            sequence_number: signed(info.sequence_number.0),
            timestamp: info.timestamp,
            serializer_id: info.serializer_id,
            manifest: info.manifest,
            metadata: info.metadata.map(v1::Payload::from),
            bytes_total: info.bytes_total,
            writer_id: info.writer.as_str().to_owned(),
            save_number: signed(info.save_number.0),
        }
    }
}

impl TryFrom<v1::SnapshotInfo> for SnapshotInfo {
    type Error = Invalid;

    fn try_from(wire: v1::SnapshotInfo) -> Result<Self, Invalid> {
        Ok(Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            sequence_number: sequence_number(wire.sequence_number)?,
            timestamp: wire.timestamp,
            serializer_id: wire.serializer_id,
            manifest: wire.manifest,
            metadata: wire.metadata.map(Payload::from),
            bytes_total: wire.bytes_total,
            writer: writer_id(wire.writer_id)?,
            save_number: save_number("save_number", wire.save_number)?,
        })
    }
}
