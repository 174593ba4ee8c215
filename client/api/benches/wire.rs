//! The wire: what the server does with a request before the rules see it, and with their answers before they leave.
//!
//! A request is a message of the pipeline that holds one write of one atomic write. Of the services' codec only the stream around it
//! is public: `receive` measures it so, with the framing; a message of 1000 events is large enough to be counted before it is
//! decoded. Bytes are those of the protobuf message.

#[path = "../../../raft/machine/benches/sample/mod.rs"]
mod sample;

use std::hint::black_box;

use bytes::{BufMut, Bytes, BytesMut};
use cairn_api::codec::CountingCodec;
use cairn_api::reply::write_response;
use cairn_api::v1::{self, pipeline_request, pipeline_response};
use cairn_machine::{
    AtomicWrite, Position, SequenceNumber, StoredEvent, Timestamp, Write, WriteOutcome, WriteReply, WriterEpoch,
};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use http_body_util::Full;
use prost::Message;
use tonic::Streaming;
use tonic::codec::Codec;

use sample::{events, persistence_id, throughput, writer};

/// A write of one atomic write, as a client sends it.
fn write_request(count: u64) -> v1::WriteRequest {
    v1::WriteRequest {
        persistence_id: persistence_id(1).as_str().to_owned(),
        writer_id: writer().as_str().to_owned(),
        epoch: Some(1),
        after: Some(0),
        atomic_writes: vec![v1::AtomicWrite { events: events(1..count + 1).into_iter().map(v1::Event::from).collect() }],
    }
}

fn message(count: u64) -> Bytes {
    let kind = Some(pipeline_request::request::Kind::Write(write_request(count)));
    let request = v1::PipelineRequest { requests: vec![pipeline_request::Request { request_id: 1, kind }] };
    request.encode_to_vec().into()
}

/// The message behind its prefix: not compressed, and its length.
fn framed(message: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("far below 4 GiB"));
    frame.put_slice(message);
    frame.freeze()
}

fn receive(frame: &Bytes) -> v1::PipelineRequest {
    let decoder = CountingCodec::<v1::PipelineResponse, v1::PipelineRequest>::default().decoder();
    let mut stream = Streaming::new_request(decoder, Full::new(frame.clone()), None, Some(cairn_api::MESSAGE_BYTES_MAX));
    let message = stream.message().now_or_never().expect("the whole body is there");
    message.expect("encoded just now").expect("one message")
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    for count in [1, 100, 1_000] {
        let message = message(count);
        let frame = framed(&message);
        let decode = |message: &Bytes| v1::PipelineRequest::decode(message.clone()).expect("encoded just now");
        assert_eq!(receive(&frame), decode(&message), "both read the same");
        group.throughput(throughput(count, message.len()));
        group.bench_function(BenchmarkId::new("decode", count), |bencher| bencher.iter(|| decode(black_box(&message))));
        group.bench_function(BenchmarkId::new("receive", count), |bencher| bencher.iter(|| receive(black_box(&frame))));
    }
    group.finish();
}

/// From the wire to the rules: the checks, and the one encoding of the atomic write.
fn converting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    for count in [1, 100] {
        let request = write_request(count);
        let convert = |request: v1::WriteRequest| Write::try_from(request).expect("within the limits");
        let expected = AtomicWrite::new(&events(1..count + 1)).expect("within the limits");
        let write = convert(request.clone());
        assert_eq!(write.atomic_writes, [expected]);
        assert_eq!((write.epoch, write.after), (Some(WriterEpoch(1)), Some(SequenceNumber(0))));
        group.throughput(throughput(count, message(count).len()));
        group.bench_function(BenchmarkId::new("to_rules", count), |bencher| {
            bencher.iter_batched(|| request.clone(), convert, BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// From the rules to the wire: the answers to so many writes of one atomic write each, in one message.
fn answering(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("response");
    for count in [1, 100] {
        let stored = |number: u64| WriteOutcome::Stored {
            previous: SequenceNumber(number - 1),
            position: Position(1_000_000 + number),
            timestamp: Timestamp(1_767_225_600_000_000),
        };
        let reply = |number| WriteReply { highest: SequenceNumber(number), check: None, outcomes: vec![stored(number)] };
        let replies: Vec<WriteReply> = (1..=count).map(reply).collect();
        let to_wire = |replies: Vec<WriteReply>| {
            let responses = replies.into_iter().zip(0..).map(|(reply, request_id)| {
                let response = write_response(reply).expect("it is stored");
                let kind = Some(pipeline_response::response::Kind::Write(response));
                pipeline_response::Response { request_id, kind }
            });
            v1::PipelineResponse { responses: responses.collect() }
        };
        let response = to_wire(replies.clone());
        assert_eq!(response.responses.len(), replies.len(), "each is answered");
        group.throughput(throughput(count, response.encoded_len()));
        group.bench_function(BenchmarkId::new("from_rules", count), |bencher| {
            bencher.iter_batched(|| replies.clone(), to_wire, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("encode", count), |bencher| {
            bencher.iter(|| black_box(&response).encode_to_vec());
        });
    }
    group.finish();
}

/// From the rules to the wire: a page of a replay.
fn replaying(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay_page");
    for count in [1, 100] {
        let stored = events(1..count + 1).into_iter().map(|event| StoredEvent {
            position: Position(1_000_000 + event.sequence_number.0),
            timestamp: Timestamp(1_767_225_600_000_000),
            writer: writer(),
            write_first: event.sequence_number,
            deleted: false,
            event,
        });
        let stored: Vec<StoredEvent> = stored.collect();
        let to_wire = |events: Vec<StoredEvent>| v1::ReplayResponse {
            events: events.into_iter().map(v1::StoredEvent::from).collect(),
            ..Default::default()
        };
        let page = to_wire(stored.clone());
        let back: Vec<StoredEvent> =
            page.events.iter().cloned().map(|event| event.try_into().expect("it was converted just now")).collect();
        assert_eq!(back, stored, "it comes back as it was");
        group.throughput(throughput(count, page.encoded_len()));
        group.bench_function(BenchmarkId::new("from_rules", count), |bencher| {
            bencher.iter_batched(|| stored.clone(), to_wire, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("encode", count), |bencher| bencher.iter(|| black_box(&page).encode_to_vec()));
    }
    group.finish();
}

criterion_group!(benches, decoding, converting, answering, replaying);
criterion_main!(benches);
