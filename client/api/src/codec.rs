//! The codec of all services: as prost's, but what a message would grow to is known before it is decoded.
//!
//! An empty event takes four bytes on the wire and some two hundred in memory: a message within its limit in bytes could be two
//! million of them. So a large message is walked over first, along its framing, and one whose elements would take too much memory is
//! refused without being decoded.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

use crate::v1::{Failure, Reason};

/// What the requests, atomic writes, events and tags of one message may take in memory beside their contents, in bytes: an atomic write
/// of 10,000 events with 64 tags each is within it, and so are 250,000 events without tags.
pub const MESSAGE_ELEMENTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Messages below this size are not counted, in bytes: whatever they hold, it is little.
const COUNTED_FROM_BYTES: usize = 64 * 1024;

/// A request or a response of a service: which of its fields may be repeated without end.
pub trait Bounded {
    /// The fields in which elements are counted; none where nothing is repeated, or where the sender is trusted.
    const ELEMENTS: &'static [Repeated] = &[];
}

/// A field that holds messages or strings.
#[derive(Debug)]
pub struct Repeated {
    /// Its number.
    field: u32,
    /// What one takes in memory beside its contents, in bytes.
    bytes: usize,
    /// The fields of what it holds.
    inside: &'static [Repeated],
}

/// A string, and the least that the allocator gives.
const TAGS: Repeated = Repeated { field: 5, bytes: size_of::<String>() + 32, inside: &[] };
const EVENTS: Repeated = Repeated { field: 1, bytes: size_of::<crate::v1::Event>() + 32, inside: &[TAGS] };
const ATOMIC_WRITES: Repeated = Repeated { field: 5, bytes: size_of::<crate::v1::AtomicWrite>(), inside: &[EVENTS] };
const WRITE: Repeated = Repeated { field: 2, bytes: 0, inside: &[ATOMIC_WRITES] };
const REQUESTS: Repeated = Repeated { field: 1, bytes: size_of::<crate::v1::pipeline_request::Request>(), inside: &[WRITE] };

impl Bounded for crate::v1::WriteRequest {
    const ELEMENTS: &'static [Repeated] = &[ATOMIC_WRITES];
}

impl Bounded for crate::v1::PipelineRequest {
    const ELEMENTS: &'static [Repeated] = &[REQUESTS];
}

macro_rules! bounded {
    ($($message:ident),* $(,)?) => { $(impl Bounded for crate::v1::$message {})* };
}

bounded!(
    AddRequest,
    ChangeResponse,
    ClaimRequest,
    ClaimResponse,
    DeleteSnapshotRequest,
    DeleteSnapshotsRequest,
    DeleteSnapshotsResponse,
    DeleteToRequest,
    DeleteToResponse,
    FollowRequest,
    FollowResponse,
    FollowShardRequest,
    FollowShardResponse,
    HighestRequest,
    HighestResponse,
    ListRequest,
    ListResponse,
    ListSnapshotsRequest,
    ListSnapshotsResponse,
    LoadRequest,
    LoadResponse,
    PipelineResponse,
    RecoverRequest,
    RecoverResponse,
    RemoveRequest,
    ReplaceRequest,
    ReplayRequest,
    ReplayResponse,
    SaveRequest,
    SaveResponse,
    StatusRequest,
    StatusResponse,
    TransferLeaderRequest,
    UploadRequest,
    UploadResponse,
    WriteResponse,
);

/// Encodes as prost does, and decodes what has been counted.
#[derive(Clone, Debug)]
pub struct CountingCodec<Sent, Received>(PhantomData<(Sent, Received)>);

impl<Sent, Received> Default for CountingCodec<Sent, Received> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Sent, Received> Codec for CountingCodec<Sent, Received>
where
    Sent: Message + Send + 'static,
    Received: Message + Default + Bounded + Send + 'static,
{
    type Encode = Sent;
    type Decode = Received;
    type Encoder = <ProstCodec<Sent, Received> as Codec>::Encoder;
    type Decoder = CountingDecoder<Received>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Sent, Received>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        CountingDecoder(PhantomData)
    }
}

/// Counts, then decodes.
#[derive(Clone, Debug)]
pub struct CountingDecoder<Received>(PhantomData<Received>);

impl<Received: Message + Default + Bounded> Decoder for CountingDecoder<Received> {
    type Item = Received;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Received>, Status> {
        // The buffer is in one piece: nothing is copied.
        let bytes = source.copy_to_bytes(source.remaining());
        if bytes.len() >= COUNTED_FROM_BYTES && !Received::ELEMENTS.is_empty() {
            let mut left = MESSAGE_ELEMENTS_BYTES_MAX;
            count(&bytes, Received::ELEMENTS, &mut left)?;
        }
        Received::decode(bytes).map(Some).map_err(|error| malformed(&error))
    }
}

fn malformed(error: &prost::DecodeError) -> Status {
    Status::internal(error.to_string())
}

/// Takes what every element needs off `left`.
fn count(mut message: &[u8], repeated: &[Repeated], left: &mut usize) -> Result<(), Status> {
    while !message.is_empty() {
        let (field, wire_type) = decode_key(&mut message).map_err(|error| malformed(&error))?;
        let len = match wire_type {
            WireType::Varint => {
                decode_varint(&mut message).map_err(|error| malformed(&error))?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => decode_varint(&mut message).map_err(|error| malformed(&error))?,
            // Groups are not used, and prost skips them: what is inside is not part of a repeated field.
            WireType::StartGroup | WireType::EndGroup => 0,
        };
        let held = usize::try_from(len).ok().and_then(|len| message.split_at_checked(len));
        let Some((held, rest)) = held else { return Err(Status::internal("a message ends within a field")) };
        message = rest;
        let Some(found) = repeated.iter().find(|repeated| repeated.field == field) else { continue };
        if wire_type == WireType::LengthDelimited {
            *left = left.checked_sub(found.bytes).ok_or_else(too_many)?;
            // A string, or what holds nothing that is counted, is no message to walk over.
            if !found.inside.is_empty() {
                count(held, found.inside, left)?;
            }
        }
    }
    Ok(())
}

fn too_many() -> Status {
    let text = format!(
        "the requests, atomic writes, events and tags of a message take more than {MESSAGE_ELEMENTS_BYTES_MAX} bytes in memory"
    );
    Failure::new(Reason::TooLarge, text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{AtomicWrite, Event, PipelineRequest, WriteRequest, pipeline_request};

    fn write(atomic_writes: usize, events: usize, tags: usize) -> WriteRequest {
        let event = Event { sequence_number: 1, tags: vec!["green".to_owned(); tags], ..Event::default() };
        let atomic_write = AtomicWrite { events: vec![event; events] };
        WriteRequest { persistence_id: "a".into(), atomic_writes: vec![atomic_write; atomic_writes], ..WriteRequest::default() }
    }

    fn needed(message: &impl Message, repeated: &[Repeated]) -> Option<usize> {
        let mut left = MESSAGE_ELEMENTS_BYTES_MAX;
        count(&message.encode_to_vec(), repeated, &mut left).ok().map(|()| MESSAGE_ELEMENTS_BYTES_MAX - left)
    }

    #[test]
    fn every_atomic_write_event_and_tag_is_counted() {
        assert_eq!(needed(&write(0, 0, 0), WriteRequest::ELEMENTS), Some(0));
        let expected = 3 * ATOMIC_WRITES.bytes + 12 * EVENTS.bytes + 24 * TAGS.bytes;
        assert_eq!(needed(&write(3, 4, 2), WriteRequest::ELEMENTS), Some(expected));
    }

    #[test]
    fn in_a_pipeline_requests_and_what_they_write_are_counted() {
        let kind = Some(pipeline_request::request::Kind::Write(write(1, 2, 0)));
        let request = pipeline_request::Request { request_id: 7, kind };
        let expected = 3 * (REQUESTS.bytes + ATOMIC_WRITES.bytes + 2 * EVENTS.bytes);
        assert_eq!(needed(&PipelineRequest { requests: vec![request; 3] }, PipelineRequest::ELEMENTS), Some(expected));
    }

    #[test]
    fn one_event_too_many_is_refused_and_one_less_is_not() {
        let full = (MESSAGE_ELEMENTS_BYTES_MAX - ATOMIC_WRITES.bytes) / EVENTS.bytes;
        assert!(needed(&write(1, full, 0), WriteRequest::ELEMENTS).is_some());
        assert!(needed(&write(1, full + 1, 0), WriteRequest::ELEMENTS).is_none());
    }

    #[test]
    fn the_atomic_write_with_most_events_and_tags_is_within_the_bound() {
        use cairn_machine::limits::{ATOMIC_WRITE_EVENTS_MAX, TAGS_MAX};
        assert!(needed(&write(1, ATOMIC_WRITE_EVENTS_MAX, TAGS_MAX), WriteRequest::ELEMENTS).is_some());
    }

    #[test]
    fn any_bytes_are_counted_or_refused_without_a_panic() {
        proptest::proptest!(|(bytes: Vec<u8>)| {
            let mut left = 1000;
            let _ = count(&bytes, PipelineRequest::ELEMENTS, &mut left);
            proptest::prop_assert!(left <= 1000);
        });
    }
}
