//! A message of the pipeline, made of requests that are encoded already.

use bytes::{BufMut, Bytes};
use cairn_api::v1::PipelineResponse;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::RequestKind;

// The field numbers of `cairn.v1.PipelineRequest`; a test compares with the generated code.
const REQUESTS: u32 = 1;
const REQUEST_ID: u32 = 1;

impl RequestKind {
    fn field(self) -> u32 {
        match self {
            Self::Write => 2,
            Self::Claim => 3,
            Self::Highest => 4,
        }
    }
}

/// Encodes to the same bytes as a `PipelineRequest` with these requests.
#[derive(Default)]
pub(super) struct Frame {
    requests: Vec<(u64, RequestKind, Bytes)>,
    encoded_len: usize,
}

impl Frame {
    pub(super) fn push(&mut self, request_id: u64, kind: RequestKind, body: Bytes) {
        let len = request_len(request_id, &body);
        self.encoded_len += 1 + encoded_len_varint(len as u64) + len;
        self.requests.push((request_id, kind, body));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn encoded_len(&self) -> usize {
        self.encoded_len
    }

    fn encode(self, buffer: &mut impl BufMut) {
        for (request_id, kind, body) in self.requests {
            encode_key(REQUESTS, WireType::LengthDelimited, buffer);
            encode_varint(request_len(request_id, &body) as u64, buffer);
            encode_key(REQUEST_ID, WireType::Varint, buffer);
            encode_varint(request_id, buffer);
            encode_key(kind.field(), WireType::LengthDelimited, buffer);
            encode_varint(body.len() as u64, buffer);
            buffer.put(body);
        }
    }
}

fn request_len(request_id: u64, body: &Bytes) -> usize {
    2 + encoded_len_varint(request_id) + encoded_len_varint(body.len() as u64) + body.len()
}

/// Sends frames, receives the generated type.
#[derive(Clone, Copy, Default)]
pub(super) struct PipelineCodec;

impl Codec for PipelineCodec {
    type Encode = Frame;
    type Decode = PipelineResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for PipelineCodec {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(frame.encoded_len());
        frame.encode(buffer);
        Ok(())
    }
}

impl Decoder for PipelineCodec {
    type Item = PipelineResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<PipelineResponse>, Status> {
        PipelineResponse::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use cairn_api::v1::{ClaimRequest, HighestRequest, PipelineRequest, WriteRequest, pipeline_request};

    use super::*;

    #[test]
    fn a_frame_encodes_to_the_bytes_of_the_generated_message() {
        use pipeline_request::request::Kind;
        let write = WriteRequest { persistence_id: "a".repeat(300), after: Some(7), ..Default::default() };
        let claim = ClaimRequest { persistence_id: "b".to_owned(), writer_id: "w".to_owned(), epoch_read: 3 };
        let highest = HighestRequest { persistence_id: "c".to_owned(), freshness: None };
        // The id 0 is left out by the generated code, which reads back the same; other ids give the same bytes.
        let ids = [1u64, 127, 70_000];
        let mut frame = Frame::default();
        frame.push(ids[0], RequestKind::Write, write.encode_to_vec().into());
        frame.push(ids[1], RequestKind::Claim, claim.encode_to_vec().into());
        frame.push(ids[2], RequestKind::Highest, highest.encode_to_vec().into());
        let kinds = [Kind::Write(write), Kind::Claim(claim), Kind::Highest(highest)];
        let requests = ids
            .into_iter()
            .zip(kinds)
            .map(|(request_id, kind)| pipeline_request::Request { request_id, kind: Some(kind) })
            .collect();
        let expected = PipelineRequest { requests }.encode_to_vec();
        assert_eq!(frame.encoded_len(), expected.len());
        let mut encoded = Vec::new();
        frame.encode(&mut encoded);
        assert_eq!(encoded, expected);
    }
}
