//! An event as people and programs see it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cairn_machine::{Payload, PersistenceId, StoredEvent, Timestamp};
use serde::Serialize;

use crate::output::{Item, one_line};

/// One stored event. The fields are part of the command line's contract.
#[derive(Clone, Debug, Serialize)]
pub struct EventView {
    persistence_id: String,
    sequence_number: u64,
    /// The first number of its atomic write.
    write: u64,
    position: u64,
    /// When it was stored: RFC 3339, UTC.
    stored: String,
    stored_micros: i64,
    writer: String,
    deleted: bool,
    payload: PayloadView,
    #[serde(skip_serializing_if = "String::is_empty")]
    adapter_manifest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<PayloadView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

/// A serialised value: as text if it is text, else in base64.
#[derive(Clone, Debug, Serialize)]
pub struct PayloadView {
    serializer_id: i32,
    manifest: String,
    bytes: usize,
    #[serde(flatten)]
    data: Data,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Data {
    Text(String),
    Base64(String),
}

impl EventView {
    /// How an event of a journal looks.
    pub fn of(persistence_id: &PersistenceId, stored: StoredEvent) -> Self {
        let event = stored.event;
        Self {
            persistence_id: persistence_id.as_str().to_owned(),
            sequence_number: event.sequence_number.0,
            write: stored.write_first.0,
            position: stored.position.0,
            stored: time(stored.timestamp),
            stored_micros: stored.timestamp.0,
            writer: stored.writer.as_str().to_owned(),
            deleted: stored.deleted,
            payload: PayloadView::of(&event.payload),
            adapter_manifest: event.adapter_manifest,
            metadata: event.metadata.as_ref().map(PayloadView::of),
            tags: event.tags,
        }
    }
}

impl PayloadView {
    fn of(payload: &Payload) -> Self {
        let data = match std::str::from_utf8(&payload.bytes) {
            Ok(text) => Data::Text(text.to_owned()),
            Err(_) => Data::Base64(BASE64_STANDARD.encode(&payload.bytes)),
        };
        Self { serializer_id: payload.serializer_id, manifest: payload.manifest.clone(), bytes: payload.bytes.len(), data }
    }
}

impl Item for EventView {
    fn text(&self) -> String {
        let data = match &self.payload.data {
            Data::Text(text) => one_line(text),
            Data::Base64(text) => format!("base64:{text}"),
        };
        let mut cells = vec![one_line(&self.persistence_id), self.sequence_number.to_string(), self.stored.clone()];
        if self.deleted {
            cells.push("DELETED".to_owned());
        }
        if !self.payload.manifest.is_empty() {
            cells.push(one_line(&self.payload.manifest));
        }
        if !self.tags.is_empty() {
            cells.push(format!("[{}]", one_line(&self.tags.join(" "))));
        }
        cells.push(data);
        cells.join("  ")
    }
}

/// A time as RFC 3339, UTC.
pub fn time(timestamp: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(timestamp.0).map_or_else(|_| timestamp.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_utc() {
        assert_eq!(time(Timestamp(1_388_326_658_000_001)), "2013-12-29T14:17:38.000001Z");
    }
}
