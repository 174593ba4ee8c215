//! Bad input at the client port and at the peer port: a clear error or a closed connection, no panic, no growth, and everybody else is served.

mod common;

use std::time::Duration;

use bytes::Bytes;
use cairn_api::v1::{self, Reason};
use cairn_node::{Io, Network};
use common::{Cluster, Disk, client_address, founder_settings, peer_address, reason, replay_request, strong, write_request};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn node() -> Cluster {
    node_with(|_| {}).await
}

async fn node_with(change: impl FnOnce(&mut cairn_node::Settings)) -> Cluster {
    let mut settings = founder_settings(1, 1, 1);
    change(&mut settings);
    let mut cluster = Cluster::of_nobody();
    cluster.enlist(settings, Disk::memory());
    cluster.start(1).await;
    cluster.all_ready().await;
    cluster
}

/// The node still serves somebody else, and has not failed.
async fn assert_serves(cluster: &Cluster, number: i64) {
    assert_eq!(cluster.write("witness", number, b"x").await.highest, number);
    let failed = tokio::time::timeout(Duration::from_millis(1), cluster.node(1).failed()).await;
    assert!(failed.is_err(), "{failed:?}");
}

/// A port of the node that strangers can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Client,
    Peer,
}

const PORTS: [Port; 2] = [Port::Client, Port::Peer];

impl Port {
    fn address(self) -> String {
        match self {
            Self::Client => client_address(1),
            Self::Peer => peer_address(1),
        }
    }

    /// The path of a call that this port knows.
    fn method(self) -> &'static str {
        match self {
            Self::Client => WRITE,
            Self::Peer => VOTE,
        }
    }
}

async fn connect(cluster: &Cluster, port: Port) -> Io {
    cluster.network.connect(&port.address()).await.expect("connects")
}

/// An HTTP/2 connection whose requests the test writes itself.
async fn http2(cluster: &Cluster, port: Port) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(connect(cluster, port).await).await.expect("shakes hands");
    tokio::spawn(connection);
    client.ready().await.expect("is ready")
}

fn post(path: &str, content_type: &str) -> Request<()> {
    Request::post(format!("http://node{path}"))
        .header("content-type", content_type)
        .header("te", "trailers")
        .body(())
        .expect("valid")
}

/// What came back: HTTP status and gRPC status, which may stand in the headers or in the trailers.
async fn call(cluster: &Cluster, port: Port, request: Request<()>, body: Vec<Bytes>) -> (u16, Option<String>) {
    let mut client = http2(cluster, port).await;
    let (response, mut stream) = client.send_request(request, false).expect("is sent");
    for part in body {
        stream.reserve_capacity(part.len());
        stream.send_data(part, false).expect("is sent");
    }
    stream.send_data(Bytes::new(), true).expect("is sent");
    let answered = async {
        let response = response.await.expect("an answer");
        let grpc = |headers: &HeaderMap| headers.get("grpc-status").map(|value| value.to_str().expect("digits").to_owned());
        let (status, in_headers) = (response.status().as_u16(), grpc(response.headers()));
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let data = data.expect("data");
            body.flow_control().release_capacity(data.len()).expect("was received");
        }
        let trailers = body.trailers().await.expect("trailers");
        (status, in_headers.or_else(|| trailers.as_ref().and_then(grpc)))
    };
    tokio::time::timeout(common::WAIT_MAX, answered).await.expect("in time")
}

/// A message with gRPC's prefix, which may lie about the length.
fn message(claimed: u32, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![0];
    message.extend_from_slice(&claimed.to_be_bytes());
    message.extend_from_slice(bytes);
    message
}

fn honest(bytes: &[u8]) -> Vec<u8> {
    message(bytes.len() as u32, bytes)
}

const WRITE: &str = "/cairn.v1.Journal/Write";
const VOTE: &str = "/cairn.peer.v1.Peer/Vote";
const GRPC: &str = "application/grpc";

#[tokio::test]
async fn numbers_out_of_range_are_named() {
    let cluster = node().await;
    for number in [0, -1, i64::MIN] {
        let mut write = write_request("account-1", 1, b"x");
        write.atomic_writes[0].events[0].sequence_number = number;
        assert_eq!(reason(cluster.journal(1).write(write).await), Reason::Invalid, "{number}");
    }
    let mut journal = cluster.journal(1);
    let replay = replay_request("account-1", strong());
    for bad in [
        v1::ReplayRequest { from: -1, ..replay.clone() },
        v1::ReplayRequest { to: -1, ..replay.clone() },
        v1::ReplayRequest { max: -1, ..replay.clone() },
        v1::ReplayRequest { to: i64::MIN, ..replay.clone() },
        v1::ReplayRequest { persistence_id: String::new(), ..replay },
    ] {
        assert_eq!(reason(journal.replay(bad).await), Reason::Invalid);
    }
    let delete = v1::DeleteToRequest {
        persistence_id: "account-1".into(),
        to: -1,
        permanent: false,
        writer_id: String::new(),
        epoch: None,
    };
    assert_eq!(reason(journal.delete_to(delete.clone()).await), Reason::Invalid);
    let everything = journal.delete_to(v1::DeleteToRequest { to: i64::MAX, ..delete }).await.expect("is clamped").into_inner();
    assert_eq!((everything.deleted_to, everything.highest), (0, 0));
    // The greatest number is a number: nothing can follow it.
    let mut last = write_request("account-2", 1, b"x");
    last.after = None;
    last.atomic_writes[0].events[0].sequence_number = i64::MAX;
    assert_eq!(journal.write(last).await.expect("is stored").into_inner().highest, i64::MAX);
    let (events, end) = cluster.replay(1, "account-2", strong()).await;
    assert_eq!((events.len(), end.highest), (1, i64::MAX));
    let behind = v1::FollowRequest { persistence_id: "account-2".into(), from: i64::MAX };
    let mut stream = journal.follow(behind).await.expect("opens").into_inner();
    assert_eq!(stream.message().await.expect("goes on").expect("the event").followed_to, i64::MAX);
    assert_serves(&cluster, 1).await;
}

#[tokio::test]
async fn names_are_held_to_their_limits_and_otherwise_taken_as_they_are() {
    let cluster = node().await;
    for (name, expected) in [
        (String::new(), Reason::Invalid),
        (" \t".into(), Reason::Invalid),
        ("x".repeat(1025), Reason::TooLarge),
        ("x".repeat(64 * 1024), Reason::TooLarge),
    ] {
        assert_eq!(reason(cluster.journal(1).write(write_request(&name, 1, b"x")).await), expected, "{} bytes", name.len());
    }
    for name in ["\0", "a\0b", "a", "é", "e\u{301}", &"x".repeat(1024)] {
        assert_eq!(cluster.write(name, 1, name.as_bytes()).await.highest, 1, "{name:?} is a journal of its own");
    }
    for name in ["\0", "a\0b", "a", "é", "e\u{301}"] {
        assert_eq!(cluster.payloads(1, name).await, [name.as_bytes()]);
    }
}

#[tokio::test]
async fn empty_and_giant_writes_are_answered() {
    let cluster = node().await;
    let none = v1::WriteRequest { atomic_writes: vec![v1::AtomicWrite::default()], ..write_request("account-1", 1, b"") };
    assert_eq!(reason(cluster.journal(1).write(none).await), Reason::Invalid, "an atomic write without events");
    assert_eq!(cluster.write("account-1", 1, b"").await.highest, 1, "an empty payload is a payload");
    let many = v1::WriteRequest { atomic_writes: vec![v1::AtomicWrite::default(); 1001], ..write_request("account-1", 2, b"") };
    assert_eq!(reason(cluster.journal(1).write(many).await), Reason::TooLarge);
    let large = write_request("account-1", 2, &vec![7; 5 * 1024 * 1024]);
    assert_eq!(reason(cluster.journal(1).write(large).await), Reason::TooLarge);
    let largest = write_request("account-1", 2, &vec![7; 4 * 1024 * 1024 - 1024]);
    cluster.journal(1).write(largest).await.expect("fits");
    let over_all = cluster.journal(1).write(write_request("account-1", 3, &vec![7; 9 * 1024 * 1024])).await;
    assert_eq!(over_all.expect_err("is refused").code(), tonic::Code::OutOfRange);
    assert_serves(&cluster, 1).await;
}

#[tokio::test]
async fn messages_that_are_no_messages_are_refused_with_a_status() {
    let cluster = node().await;
    let invalid_utf8 = [0x0a, 2, 0xff, 0xfe];
    let cut_field = [0x0a, 200];
    for (what, body) in [
        ("a name that is not UTF-8", honest(&invalid_utf8)),
        ("a field that is longer than its message", honest(&cut_field)),
        ("a length of 4 GiB", message(u32::MAX, b"x")),
        ("a length above the limit", message(9 * 1024 * 1024, b"x")),
        ("a message that ends early", message(100, b"only ten b")),
        ("a prefix that ends early", vec![0, 0]),
        ("a compressed message that was not agreed upon", [vec![1], honest(b"x")[1..].to_vec()].concat()),
        ("nothing at all", vec![]),
    ] {
        for port in PORTS {
            let (http, grpc) = call(&cluster, port, post(port.method(), GRPC), vec![body.clone().into()]).await;
            assert_eq!(http, 200, "{what}");
            assert!(grpc.as_deref().is_some_and(|status| status != "0"), "{port:?}: {what}: {grpc:?}");
        }
    }
    assert_serves(&cluster, 1).await;
}

#[tokio::test]
async fn unknown_methods_and_content_types_are_refused() {
    let cluster = node().await;
    let unimplemented = Some("12".to_owned());
    for port in PORTS {
        // Also what the other port knows.
        let others = if port == Port::Client { VOTE } else { WRITE };
        for path in ["/cairn.v1.Journal/Nothing", "/cairn.peer.v1.Peer/Nothing", "/nobody.Knows/This", others] {
            let answer = call(&cluster, port, post(path, GRPC), vec![honest(b"").into()]).await;
            assert_eq!(answer, (200, unimplemented.clone()), "{port:?} {path}");
        }
        let (http, grpc) = call(&cluster, port, post(port.method(), "text/html"), vec![honest(b"").into()]).await;
        assert!(http != 200 || grpc.is_some_and(|status| status != "0"), "{port:?}");
    }
    assert_serves(&cluster, 1).await;
}

#[tokio::test]
async fn a_million_unknown_fields_are_passed_over() {
    let cluster = node().await;
    // Field 1000, a varint, again and again.
    let fields = [0xc0, 0x3e, 0x01].repeat(1_000_000);
    let (http, grpc) = call(&cluster, Port::Client, post(WRITE, GRPC), vec![honest(&fields).into()]).await;
    assert_eq!((http, grpc.as_deref()), (200, Some("3")), "an invalid argument: the persistence id is missing");
    let (http, grpc) = call(&cluster, Port::Peer, post(VOTE, GRPC), vec![honest(&fields).into()]).await;
    assert_eq!((http, grpc.as_deref()), (200, Some("7")), "permission denied: it does not say who it is");
    assert_serves(&cluster, 1).await;
}

#[tokio::test]
async fn a_request_in_frames_of_one_byte_is_a_request() {
    use prost::Message;
    let cluster = node().await;
    let body = honest(&write_request("account-1", 1, b"x").encode_to_vec());
    let bytes: Vec<_> = body.into_iter().map(|byte| Bytes::copy_from_slice(&[byte])).collect();
    assert_eq!(call(&cluster, Port::Client, post(WRITE, GRPC), bytes.clone()).await, (200, Some("0".into())));
    assert_eq!(call(&cluster, Port::Peer, post(VOTE, GRPC), bytes).await.0, 200, "refused, but as a request");
    assert_eq!(cluster.payloads(1, "account-1").await, [b"x"]);
}

#[tokio::test]
async fn headers_above_the_limit_are_refused() {
    let cluster = node().await;
    for port in PORTS {
        let mut request = post(port.method(), GRPC);
        request.headers_mut().insert("x-large", "x".repeat(64 * 1024).parse().expect("a value"));
        let mut client = http2(&cluster, port).await;
        let refused = match client.send_request(request, true) {
            Err(_) => true,
            Ok((response, _)) => response.await.is_ok_and(|response| response.status() == 431) || client.ready().await.is_err(),
        };
        assert!(refused, "{port:?}");
    }
    assert_serves(&cluster, 1).await;
}

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// How an HTTP/2 connection begins.
fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat()
}

/// The header block of a call, without compression.
fn header_block(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "node"),
        ("content-type", GRPC),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Reads until the node closes the connection.
async fn is_closed(io: &mut Io) -> bool {
    let mut buffer = vec![0; 64 * 1024];
    let closed = async { while io.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(common::WAIT_MAX, closed).await.is_ok()
}

/// Sends the same bytes made anew again and again, until the node has had enough: true if it cut the flood off before its end.
async fn is_cut_off(cluster: &Cluster, port: Port, opening: Vec<u8>, count: u32, frames: impl Fn(u32) -> Vec<u8>) -> bool {
    let (mut reader, mut writer) = tokio::io::split(connect(cluster, port).await);
    let flood = async {
        writer.write_all(&opening).await?;
        for index in 0..count {
            writer.write_all(&frames(index)).await?;
        }
        std::io::Result::Ok(())
    };
    let read = async {
        let mut buffer = vec![0; 64 * 1024];
        while reader.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    };
    let ended = tokio::time::timeout(common::WAIT_MAX, async { tokio::join!(flood, read).0 }).await;
    ended.expect("in time").is_err()
}

#[tokio::test]
async fn a_flood_of_resets_closes_the_connection() {
    let cluster = node().await;
    for port in PORTS {
        let resets = |index| {
            let stream = index * 2 + 1;
            [frame(1, 4, stream, &header_block(port.method())), frame(3, 0, stream, &8u32.to_be_bytes())].concat()
        };
        assert!(is_cut_off(&cluster, port, preface(), 50_000, resets).await, "{port:?}");
    }
    assert_serves(&cluster, 1).await;
}

#[tokio::test]
async fn headers_that_never_end_close_the_connection() {
    let cluster = node().await;
    // 256 MiB of continuation.
    let filler = [&[0, 1, b'x', 127, 0][..], &[b'y'; 127]].concat();
    let continuation = frame(9, 0, 1, &filler.repeat(100));
    for port in PORTS {
        let opening = [preface(), frame(1, 0, 1, &header_block(port.method()))].concat();
        assert!(is_cut_off(&cluster, port, opening, 20_000, |_| continuation.clone()).await, "{port:?}");
    }
    assert_serves(&cluster, 1).await;
}

#[tokio::test]
async fn a_frame_that_breaks_off_does_not_hold_its_connection_for_ever() {
    let cluster = node_with(|settings| {
        settings.limits.keepalive_interval_ms = 300;
        settings.limits.keepalive_timeout_ms = 300;
    })
    .await;
    let cut = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    for port in PORTS {
        for frame in [cut(&frame(1, 4, 1, &header_block(port.method()))), frame(0, 0, 1, &[0; 3])[..4].to_vec()] {
            let mut io = connect(&cluster, port).await;
            io.write_all(&[preface(), frame].concat()).await.expect("is written");
            assert!(is_closed(&mut io).await, "{port:?}");
        }
    }
    assert_serves(&cluster, 1).await;
}

#[tokio::test]
async fn what_is_not_http2_is_closed() {
    let cluster = node().await;
    for garbage in
        [&b"GET / HTTP/1.1\r\nHost: node\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n\0\0\0\0\0\0\0\0\0"]
    {
        for port in PORTS {
            let mut io = connect(&cluster, port).await;
            io.write_all(garbage).await.expect("is written");
            assert!(is_closed(&mut io).await, "{port:?}");
        }
    }
    assert_serves(&cluster, 1).await;
}

#[tokio::test]
async fn idle_connections_are_bounded_and_closed_after_their_time() {
    let cluster = node_with(|settings| {
        settings.limits.connections_max = 32;
        settings.limits.handshake_deadline_ms = 300;
    })
    .await;
    for port in PORTS {
        let mut idle = Vec::new();
        for _ in 0..10_000 {
            idle.push(connect(&cluster, port).await);
        }
        for mut io in idle {
            assert!(is_closed(&mut io).await, "{port:?}");
        }
    }
    assert_serves(&cluster, 1).await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_loses_its_place_and_disturbs_nobody() {
    use prost::Message;
    let cluster = node_with(|settings| {
        settings.limits.replays_max = 1;
        settings.limits.stalled_reader_ms = 300;
    })
    .await;
    for number in 1..=8 {
        let write = write_request("large", number, &vec![number as u8; 1024 * 1024]);
        cluster.journal(1).write(write).await.expect("is stored");
    }
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(0)
        .handshake::<_, Bytes>(connect(&cluster, Port::Client).await)
        .await
        .expect("shakes hands");
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.expect("is ready");
    let (response, mut stream) = client.send_request(post("/cairn.v1.Journal/Replay", GRPC), false).expect("is sent");
    stream.send_data(honest(&replay_request("large", strong()).encode_to_vec()).into(), true).expect("is sent");
    let response = response.await.expect("an answer without data");
    assert_eq!(reason(cluster.journal(1).replay(replay_request("large", strong())).await), Reason::Overloaded, "one at a time");
    assert_serves(&cluster, 1).await;
    common::eventually("the place is free again", async || {
        cluster.journal(1).replay(replay_request("large", strong())).await.ok().map(|_| ())
    })
    .await;
    drop((response, client));
    connection.abort();
}

#[tokio::test]
async fn more_than_the_node_admits_is_refused_and_what_was_admitted_is_answered() {
    let cluster = node_with(|settings| {
        settings.limits.in_flight_bytes_max = 8 * 1024 * 1024;
        settings.limits.in_flight_commands_max = 64;
    })
    .await;
    let data = vec![1; 1024 * 1024];
    let writes = (0..100).map(|number| {
        let mut journal = cluster.journal(1);
        let write = write_request(&format!("journal-{number}"), 1, &data);
        async move { journal.write(write).await }
    });
    let outcomes = futures::future::join_all(writes).await;
    let (stored, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert!(!stored.is_empty() && !refused.is_empty(), "{} stored, {} refused", stored.len(), refused.len());
    for outcome in refused {
        assert_eq!(reason(outcome), Reason::Overloaded);
    }
    assert_serves(&cluster, 1).await;
}
