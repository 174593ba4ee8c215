//! What tellus encodes as Cairn stores it.

use bytes::Bytes;
use cairn_client::{Event, Payload, PersistenceId, Snapshot};
use tellus::{EncodedEvent, EncodedSnapshot, SchemaVersion, SeqNo, StoredEvent, StoredSnapshot};

use crate::StoreError;

/// The serializer id of everything that this crate stores. Persisted: never changes.
pub const SERIALIZER_ID: i32 = 4210;
/// Stands between name and version in a manifest. Persisted.
const VERSION_SEPARATOR: char = '#';

pub(crate) fn to_payload(manifest: &str, version: SchemaVersion, bytes: Vec<u8>) -> Payload {
    let manifest = format!("{manifest}{VERSION_SEPARATOR}{version}");
    Payload { serializer_id: SERIALIZER_ID, manifest, bytes: Bytes::from(bytes) }
}

/// Name and version of a manifest; none if it is not one of ours.
fn parse(serializer_id: i32, manifest: &str) -> Option<(String, SchemaVersion)> {
    if serializer_id != SERIALIZER_ID {
        return None;
    }
    // A name may hold the separator, a version never does.
    let (name, version) = manifest.rsplit_once(VERSION_SEPARATOR)?;
    Some((name.to_owned(), SchemaVersion::new(version.parse().ok()?)))
}

fn foreign(persistence_id: &PersistenceId, serializer_id: i32, manifest: String) -> StoreError {
    StoreError::Foreign { persistence_id: persistence_id.clone(), serializer_id, manifest }
}

pub(crate) fn read_event(persistence_id: &PersistenceId, event: Event) -> Result<StoredEvent, StoreError> {
    let Payload { serializer_id, manifest, bytes } = event.payload;
    match (parse(serializer_id, &manifest), event.sequence_number.0.checked_sub(1)) {
        (Some((name, schema_version)), Some(seq_no)) => {
            let event = EncodedEvent { manifest: name.into(), schema_version, payload: bytes.into() };
            Ok(StoredEvent { seq_no: SeqNo::new(seq_no), event })
        }
        _ => Err(foreign(persistence_id, serializer_id, manifest)),
    }
}

pub(crate) fn read_snapshot(snapshot: Snapshot) -> Result<StoredSnapshot, StoreError> {
    let Snapshot { info, bytes } = snapshot;
    match parse(info.serializer_id, &info.manifest) {
        Some((name, schema_version)) => {
            let snapshot = EncodedSnapshot { manifest: name.into(), schema_version, payload: bytes.into() };
            Ok(StoredSnapshot { next_seq_no: SeqNo::new(info.sequence_number.0), snapshot })
        }
        None => Err(foreign(&info.persistence_id, info.serializer_id, info.manifest)),
    }
}
