//! Events as JSON lines: what `cairn journal import` reads and `cairn journal export` writes.
//!
//! A line is one event. `timestamp_ms` and `event` together are its payload, kept as the text that they were, so that an export
//! gives the same line byte for byte. An event that does not come from such a line (another serializer's bytes, tags, metadata)
//! has `payload` instead, its bytes in base64.
//!
//! Invariants
//! - Reading a written line gives the same event; writing a read line in canonical form (no spaces between fields, fields in
//!   the order below) gives the same bytes.
//! - What a line cannot express is an error of that line, never dropped.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use cairn_machine::{Event, Payload, PersistenceId, SequenceNumber, StoredEvent};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The serializer of a payload made from `timestamp_ms` and `event`. Persisted: never reuse.
pub const LINE_SERIALIZER_ID: i32 = 0;
/// The manifest of a payload made from `timestamp_ms` and `event`. Persisted: never reuse.
pub const LINE_MANIFEST: &str = "cairn.line.v1";

/// One event as a line tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its journal.
    pub persistence_id: PersistenceId,
    /// The first number of the atomic write that it belongs to.
    pub write: SequenceNumber,
    /// The event.
    pub event: Event,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Text<'a> {
    #[serde(borrow)]
    persistence_id: Cow<'a, str>,
    sequence_number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    write: Option<u64>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    timestamp_ms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<PayloadText>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    adapter_manifest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<PayloadText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

/// A field that is there, also if it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The payload of a line: these two fields, in this order.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LinePayload<'a> {
    #[serde(borrow)]
    timestamp_ms: &'a RawValue,
    #[serde(borrow)]
    event: &'a RawValue,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PayloadText {
    serializer_id: i32,
    #[serde(default)]
    manifest: String,
    base64: String,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It is not such a JSON object.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A field cannot be used.
    #[error(transparent)]
    Invalid(#[from] cairn_machine::Invalid),
    /// It has neither kind of payload, or both.
    #[error("give either `timestamp_ms` and `event`, or `payload`")]
    Payload,
    /// The bytes of a payload are not base64.
    #[error("{field}: not base64: {source}")]
    Base64 {
        /// Which payload.
        field: &'static str,
        /// Where.
        source: base64::DecodeError,
    },
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// [`LineError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let text: Text<'_> = serde_json::from_str(text)?;
        let payload = match (text.timestamp_ms, text.event, text.payload) {
            (Some(timestamp_ms), Some(event), None) => Payload {
                serializer_id: LINE_SERIALIZER_ID,
                manifest: LINE_MANIFEST.to_owned(),
                bytes: serde_json::to_vec(&LinePayload { timestamp_ms, event })?.into(),
            },
            (None, None, Some(payload)) => payload.decode("payload")?,
            _ => return Err(LineError::Payload),
        };
        let event = Event {
            sequence_number: SequenceNumber(text.sequence_number),
            payload,
            adapter_manifest: text.adapter_manifest,
            metadata: text.metadata.map(|metadata| metadata.decode("metadata")).transpose()?,
            tags: text.tags,
        };
        let write = SequenceNumber(text.write.unwrap_or(text.sequence_number));
        Ok(Self { persistence_id: PersistenceId::new(text.persistence_id.into_owned())?, write, event })
    }

    /// A stored event as a line tells it.
    pub fn of(persistence_id: &PersistenceId, stored: StoredEvent) -> Self {
        Self { persistence_id: persistence_id.clone(), write: stored.write_first, event: stored.event }
    }

    /// Writes the line, with its end.
    pub fn render(&self, out: &mut Vec<u8>) {
        let event = &self.event;
        let line = line_payload(&event.payload);
        let text = Text {
            persistence_id: Cow::Borrowed(self.persistence_id.as_str()),
            sequence_number: event.sequence_number.0,
            write: Some(self.write.0),
            timestamp_ms: line.as_ref().map(|line| line.timestamp_ms),
            event: line.as_ref().map(|line| line.event),
            payload: line.is_none().then(|| PayloadText::encode(&event.payload)),
            adapter_manifest: event.adapter_manifest.clone(),
            metadata: event.metadata.as_ref().map(PayloadText::encode),
            tags: event.tags.clone(),
        };
        serde_json::to_writer(&mut *out, &text).expect("text keys into memory");
        out.push(b'\n');
    }
}

/// The payload's two fields, if a line made it: anybody may store other bytes under the same names.
fn line_payload(payload: &Payload) -> Option<LinePayload<'_>> {
    if payload.serializer_id != LINE_SERIALIZER_ID || payload.manifest != LINE_MANIFEST {
        return None;
    }
    let fields: LinePayload<'_> = serde_json::from_slice(&payload.bytes).ok()?;
    let same = serde_json::to_vec(&fields).is_ok_and(|again| again == payload.bytes) && !payload.bytes.contains(&b'\n');
    same.then_some(fields)
}

impl PayloadText {
    fn decode(self, field: &'static str) -> Result<Payload, LineError> {
        let bytes = BASE64_STANDARD.decode(self.base64).map_err(|source| LineError::Base64 { field, source })?;
        Ok(Payload { serializer_id: self.serializer_id, manifest: self.manifest, bytes: Bytes::from(bytes) })
    }

    fn encode(payload: &Payload) -> Self {
        Self {
            serializer_id: payload.serializer_id,
            manifest: payload.manifest.clone(),
            base64: BASE64_STANDARD.encode(&payload.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(line: &Line) -> String {
        let mut out = Vec::new();
        line.render(&mut out);
        String::from_utf8(out).expect("JSON is text")
    }

    fn survives(text: &str) {
        let line = Line::parse(text).expect("a good line");
        assert_eq!(rendered(&line), format!("{text}\n"));
    }

    #[test]
    fn every_line_of_the_sample_comes_back_byte_for_byte() {
        let sample = include_str!("../data/sample.jsonl");
        assert!(sample.lines().count() > 4_000);
        for line in sample.lines() {
            survives(line);
        }
    }

    #[test]
    fn numbers_and_escapes_of_the_payload_are_kept_as_they_are() {
        survives(
            r#"{"persistence_id":"a","sequence_number":1,"write":1,"timestamp_ms":1.50e3,"event":{"b": 1,"a":"\u00e9\/", "n":123456789012345678901234567890}}"#,
        );
        survives(r#"{"persistence_id":"a\"\u0000é","sequence_number":7,"write":5,"timestamp_ms":-1,"event":null}"#);
    }

    #[test]
    fn bytes_that_are_no_line_are_kept_in_base64() {
        let payload = Payload { serializer_id: -7, manifest: "M".to_owned(), bytes: Bytes::from_static(&[0, 255, 10]) };
        for (manifest, bytes) in [("M", &b"\0\xff\n"[..]), (LINE_MANIFEST, b"{\"timestamp_ms\":1}"), (LINE_MANIFEST, b"{")] {
            let line = Line {
                persistence_id: PersistenceId::new("p").expect("a good id"),
                write: SequenceNumber(3),
                event: Event {
                    sequence_number: SequenceNumber(4),
                    payload: Payload { serializer_id: 0, manifest: manifest.to_owned(), bytes: Bytes::from_static(bytes) },
                    adapter_manifest: "adapter".to_owned(),
                    metadata: Some(payload.clone()),
                    tags: vec!["blue".to_owned(), "red".to_owned()],
                },
            };
            assert_eq!(Line::parse(&rendered(&line)).expect("a good line"), line);
        }
    }

    #[test]
    fn a_payload_with_spaces_between_its_fields_is_kept_in_base64() {
        let bytes = Bytes::from_static(b"{\"timestamp_ms\":1, \"event\":2}");
        let payload = Payload { serializer_id: LINE_SERIALIZER_ID, manifest: LINE_MANIFEST.to_owned(), bytes };
        assert!(line_payload(&payload).is_none());
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong() {
        for (text, expected) in [
            (r#"{"persistence_id":"a"}"#, "sequence_number"),
            (r#"{"persistence_id":"a","sequence_number":1,"timestamp_ms":1,"event":1,"colour":1}"#, "colour"),
            (r#"{"persistence_id":"a","sequence_number":1,"timestamp_ms":1}"#, "either"),
            (r#"{"persistence_id":" ","sequence_number":1,"timestamp_ms":1,"event":1}"#, "blank"),
            (r#"{"persistence_id":"a","sequence_number":-1,"timestamp_ms":1,"event":1}"#, "-1"),
            (r#"{"persistence_id":"a","sequence_number":1,"payload":{"serializer_id":1,"base64":"*"}}"#, "base64"),
            ("", "EOF"),
        ] {
            let found = Line::parse(text).expect_err(text).to_string();
            assert!(found.contains(expected), "{text}: {found}");
        }
    }
}
