//! What comes to the peer port from somebody who has no business there changes nothing.

use std::sync::Arc;
use std::time::Duration;

use cairn_machine::NodeId;
use tonic::{Code, Request};
use uuid::Uuid;

use super::network::Connector;
use super::world::{Node, SHARD, World, until};
use crate::identity::{Identity, Party};
use crate::peers::Peers;
use crate::{BirthError, form, proto};

/// A caller with an identity of its choice.
fn caller(world: &World, identity: Identity) -> Arc<Peers> {
    let connector = Connector { network: world.network.clone(), from: "stranger".to_owned() };
    Peers::new(identity, Arc::new(connector))
}

fn vote_request(term: u64, node_id: u64) -> proto::VoteRequest {
    let ballot = proto::Ballot { term, node_id, committed: false };
    let last = proto::LogId { term, leader: node_id, index: 1 << 40 };
    proto::VoteRequest { shard: u32::from(SHARD.0), ballot: Some(ballot), last: Some(last), leadership_transfer: true }
}

async fn vote(
    world: &World,
    identity: Identity,
    to: Party,
    request: proto::VoteRequest,
) -> Result<proto::VoteReply, tonic::Status> {
    let peers = caller(world, identity);
    let request: Request<_> = peers.request(request, Some(to));
    let link = peers.link("peer-1:1").unwrap();
    let mut client = link.client();
    client.vote(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_call_of_a_foreign_cluster_node_or_birth_is_refused_and_moves_no_term() {
    let world = World::born(3).await;
    let term = world.nodes[0].group().status().term;
    let target = Party::from(&world.nodes[0].info);
    let honest = world.nodes[1].identity();
    let cases = [
        ("another cluster", Identity { cluster_id: Uuid::from_u128(7), ..honest }, target, vote_request(term + 1, 2)),
        ("another birth", Identity { birth_id: Uuid::from_u128(7), ..honest }, target, vote_request(term + 1, 2)),
        ("another target", honest, Party { node_id: NodeId(3), ..target }, vote_request(term + 1, 2)),
        ("another birth of the target", honest, Party { birth_id: Uuid::from_u128(7), ..target }, vote_request(term + 1, 2)),
        ("a ballot of another node", honest, target, vote_request(term + 1, 3)),
        ("an absurd term", honest, target, vote_request(u64::MAX, 2)),
        ("a term that leaps", honest, target, vote_request(term + (1 << 41), 2)),
    ];
    for (what, identity, to, request) in cases {
        let answer = vote(&world, identity, to, request).await;
        let status = answer.expect_err(what);
        assert_eq!(status.code(), Code::PermissionDenied, "{what}: {status}");
    }
    assert_eq!(world.nodes[0].group().status().term, term);
    world.write("a", 1).await;
}

#[tokio::test]
async fn a_malformed_call_is_an_error_and_the_shard_goes_on() {
    let world = World::born(1).await;
    let target = Party::from(&world.nodes[0].info);
    let identity = Identity { node_id: NodeId(2), birth_id: Uuid::from_u128(2), ..world.nodes[0].identity() };
    let peers = caller(&world, identity);
    let link = peers.link("peer-1:1").unwrap();

    let no_ballot = proto::VoteRequest { shard: 0, ..Default::default() };
    let answer = vote(&world, identity, target, no_ballot).await;
    assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);

    let append = |shard: u32, index: u64, record: &'static [u8]| proto::AppendRequest {
        shard,
        ballot: Some(proto::Ballot { term: 1 << 20, node_id: 2, committed: true }),
        previous: None,
        committed: None,
        entries: vec![proto::Entry { term: 1, leader: 2, index, record: bytes::Bytes::from_static(record) }],
        acknowledged: None,
    };
    let cases = [
        ("no such shard", append(9, 0, &[1, 0]), Code::Aborted),
        ("a shard out of range", append(70_000, 0, &[1, 0]), Code::InvalidArgument),
        ("a hole", append(0, 7, &[1, 0]), Code::InvalidArgument),
        ("an unknown record", append(0, 0, &[9, 9]), Code::InvalidArgument),
        ("an empty record", append(0, 0, &[]), Code::InvalidArgument),
    ];
    for (what, message, code) in cases {
        let request = peers.request(tokio_stream::iter([message]), Some(target));
        let mut client = link.client();
        let answer = client.append(request).await;
        assert_eq!(answer.map(|_| ()).expect_err(what).code(), code, "{what}");
    }

    let parts = [proto::CheckpointPart { part: Some(proto::checkpoint_part::Part::Frame(bytes::Bytes::new())) }];
    let request = peers.request(tokio_stream::iter(parts), Some(target));
    let mut client = link.client();
    assert_eq!(client.checkpoint(request).await.unwrap_err().code(), Code::InvalidArgument);
    world.write("a", 1).await;
}

#[tokio::test]
async fn a_wiped_founder_does_not_form_a_second_cluster() {
    let mut world = World::born(3).await;
    world.write("a", 1).await;
    world.nodes[0].kill();
    world.nodes[0].wipe(Uuid::from_u128(0xdead));
    world.start(0).await;
    let refused = form(world.nodes[0].groups(), world.nodes[0].peers()).await;
    assert!(matches!(refused, Err(BirthError::BornAlready { .. })), "{refused:?}");
    assert!(!world.nodes[0].group().is_initialised());
    // The others go on without it, and it takes part in nothing under its old node id.
    world.write("a", 2).await;
    assert_eq!(world.nodes[0].events("a").await.len(), 0);
}

#[tokio::test]
async fn founders_that_disagree_form_nothing() {
    let mut world = World::new(2);
    world.found();
    world.nodes[1].founders.0.insert(NodeId(3), "peer-3:1".to_owned());
    world.start_all().await;
    let refused = form(world.nodes[0].groups(), world.nodes[0].peers()).await;
    assert!(matches!(refused, Err(BirthError::Disagreement { .. })), "{refused:?}");
    assert!(world.nodes.iter().all(|node| !node.group().is_initialised()));
}

#[tokio::test]
async fn a_second_initialisation_is_refused() {
    let world = World::born(1).await;
    let refused = world.nodes[0].group().initialize(vec![world.nodes[0].info.clone()]).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn an_unreachable_peer_is_not_called_in_a_hot_loop() {
    let mut world = World::born(3).await;
    let leader = world.leader().await;
    let dead = (leader + 1) % 3;
    world.nodes[dead].kill();
    let (from, to) = (world.nodes[leader].info.peer_address.clone(), world.nodes[dead].info.peer_address.clone());
    // Refused at once, which is what tempts a loop: replication has something to send all the time.
    world.network.isolate(&to);
    let before = world.network.connects(&from, &to);
    let begun = tokio::time::Instant::now();
    let mut number = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        number += 1;
        world.write("a", number).await;
    }
    let tried = world.network.connects(&from, &to) - before;
    assert!(tried <= 60, "{tried} connections were tried in a second");
    assert!(tried >= 1, "it was not tried at all");
}

#[tokio::test]
async fn a_node_that_was_never_told_waits_and_disturbs_nobody() {
    let world = World::born(1).await;
    let mut lone = Node::new(9, world.nodes[0].cluster_id);
    lone.start(&world.network).await.expect("it starts");
    world.write("a", 1).await;
    let status = until("a status", || Some(lone.group().status())).await;
    assert_eq!((status.term, status.leader, status.last), (0, None, None));
}

/// The frames of a node's checkpoint, and its head as a leader would send it.
async fn checkpoint_of(node: &Node, ballot: proto::Ballot) -> (proto::CheckpointHead, Vec<bytes::Bytes>) {
    let checkpoint = node.group().tables().checkpoint().await.expect("a checkpoint");
    let applied = checkpoint.applied().expect("something is applied");
    let applied = proto::LogId { term: applied.term, leader: applied.leader, index: applied.index };
    let mut frames = Vec::new();
    let mut cursor = Some(cairn_storage::CheckpointCursor::default());
    while let Some(at) = cursor {
        let (frame, next) = checkpoint.read(at).await.expect("a frame");
        frames.push(frame);
        cursor = next;
    }
    (proto::CheckpointHead { shard: u32::from(SHARD.0), ballot: Some(ballot), applied: Some(applied) }, frames)
}

#[tokio::test]
async fn a_checkpoint_out_of_order_or_other_than_its_head_says_is_refused_and_the_shard_goes_on() {
    use proto::checkpoint_part::Part;
    let mut world = World::born_calm(3).await;
    for number in 1..=30 {
        world.write("a", number).await;
    }
    // The one that is meant to swallow it lags, so that every checkpoint would be news to it.
    let leader = world.leader().await;
    let (source, target) = ((leader + 1) % 3, (leader + 2) % 3);
    world.nodes[target].kill();
    world.start(target).await;
    let term = world.nodes[leader].group().status().term;
    let from = world.nodes[source].identity();
    let ballot = proto::Ballot { term: term + 1, node_id: from.node_id.0, committed: true };
    let (head, frames) = checkpoint_of(&world.nodes[source], ballot).await;
    let head_beyond = {
        let mut beyond = head;
        beyond.applied.as_mut().expect("it is there").index += 1_000;
        beyond
    };
    let frame = |index: usize| Part::Frame(frames[index].clone());
    let all = || (0..frames.len()).map(frame);
    let count = frames.len() as u64;
    assert!(count >= 2, "records and an end");
    let cases: Vec<(&str, Vec<Part>)> = vec![
        ("frames the other way round", [Part::Head(head)].into_iter().chain(all().rev()).chain([Part::End(count)]).collect()),
        ("a frame twice", vec![Part::Head(head), frame(0), frame(0), Part::End(2)]),
        ("a frame too few", vec![Part::Head(head), frame(0), Part::End(1)]),
        ("another count", [Part::Head(head)].into_iter().chain(all()).chain([Part::End(count + 1)]).collect()),
        ("two heads", vec![Part::Head(head), Part::Head(head)]),
        ("an end at once", vec![Part::Head(head), Part::End(0)]),
        ("it breaks off", vec![Part::Head(head), frame(0)]),
        ("a head that promises more", [Part::Head(head_beyond)].into_iter().chain(all()).chain([Part::End(count)]).collect()),
    ];
    let peers = caller(&world, from);
    let target_party = Party::from(&world.nodes[target].info);
    for (what, parts) in cases {
        let parts = parts.into_iter().map(|part| proto::CheckpointPart { part: Some(part) });
        let request = peers.request(tokio_stream::iter(parts.collect::<Vec<_>>()), Some(target_party));
        let mut client = peers.link(&world.nodes[target].info.peer_address).unwrap().client();
        let status = client.checkpoint(request).await.map(|_| ()).expect_err(what);
        assert!(matches!(status.code(), Code::Internal | Code::DataLoss | Code::InvalidArgument), "{what}: {status}");
    }
    assert_eq!(*world.nodes[target].group().failed().borrow(), None, "nothing broke");
    world.write("a", 31).await;
    world.converge("a", &(1..=31).collect::<Vec<_>>()).await;
}

/// A cluster whose voters were all wiped but one: the empty ones do not make a leader of it by voting for it.
#[tokio::test]
async fn a_wiped_node_neither_votes_nor_counts_under_its_old_id() {
    let mut world = World::born(3).await;
    world.write("a", 1).await;
    let leader = world.leader().await;
    let (wiped, down) = ((leader + 1) % 3, (leader + 2) % 3);
    world.nodes[down].kill();
    world.nodes[wiped].kill();
    world.nodes[wiped].wipe(Uuid::from_u128(0xdead));
    world.nodes[wiped].founders = crate::Founders::default();
    world.start(wiped).await;
    let outcome =
        tokio::time::timeout(Duration::from_secs(2), world.nodes[leader].group().propose(super::world::write("a", 2))).await;
    assert!(!matches!(outcome, Ok(Ok(_))), "the wiped node must not help to commit: {outcome:?}");
    assert_eq!(world.nodes[wiped].group().status().last, None, "nothing reached it");
    world.start(down).await;
    world.write("a", 2).await;
    world.converge_on(&[leader, down], "a", &[1, 2]).await;
}

#[tokio::test]
async fn asking_who_is_at_an_address_keeps_no_link_to_it() {
    let world = World::born(1).await;
    let peers = caller(&world, world.nodes[0].identity());
    for port in 0..50 {
        peers.hello(&format!("nobody:{port}"), &[]).await.expect_err("nobody is there");
    }
    peers.hello("peer-1:1", &[]).await.expect("it answers");
    assert_eq!(peers.links_kept(), 0);
}

#[tokio::test]
async fn a_peer_that_answers_is_asked_on_and_one_that_cannot_be_reached_is_left_alone() {
    let world = World::born(1).await;
    let peers = caller(&world, Identity { node_id: NodeId(2), birth_id: Uuid::from_u128(2), ..world.nodes[0].identity() });
    let target = Party::from(&world.nodes[0].info);
    let link = peers.link("peer-1:1").unwrap();
    let ask = || {
        let request = peers.request(proto::ReadIndexRequest { shard: 9 }, Some(target));
        link.unary(crate::limits::QUESTION_MAX, |mut client| async move { client.read_index(request).await })
    };
    let said = ask().await.expect_err("there is no such shard");
    assert!(said.message().contains("not open"), "{said}");
    assert!(link.check_open().is_ok(), "other shards are asked at once");
    world.network.isolate("stranger");
    ask().await.expect_err("the connection breaks");
    ask().await.expect_err("it cannot be reached");
    assert!(link.check_open().is_err(), "it is left alone for a moment");
}

/// All shards' heartbeats from one peer come over one stream.
#[tokio::test]
async fn a_shard_whose_core_is_stuck_does_not_keep_other_heartbeats_unanswered() {
    let mut world = World::born(3).await;
    let (target, honest) = (Party::from(&world.nodes[0].info), world.nodes[1].identity());
    world.nodes[1].kill();
    world.nodes[2].kill();
    // Its core waits in a vote for a disk that hangs, one of its own or this one.
    world.nodes[0].hold_syncs(true);
    let term = world.nodes[0].group().term();
    let stuck = tokio::time::timeout(Duration::from_secs(2), vote(&world, honest, target, vote_request(term + 9, 2))).await;
    assert!(!matches!(stuck, Ok(Ok(_))), "its vote is not synced: {stuck:?}");

    let peers = caller(&world, honest);
    let link = peers.link("peer-1:1").unwrap();
    let beat = move |ticket: u64, shard: u32| {
        let ballot = proto::Ballot { term: term + 9, node_id: 2, committed: true };
        let append = proto::AppendRequest { shard, ballot: Some(ballot), ..Default::default() };
        proto::Beats { beats: vec![proto::Beat { ticket, append: Some(append) }] }
    };
    let (beats, stream) = tokio::sync::mpsc::channel(64);
    let request = peers.request(tokio_stream::wrappers::ReceiverStream::new(stream), Some(target));
    let mut client = link.client();
    let mut replies = client.beat(request).await.expect("a stream").into_inner();
    let last = 2 * crate::limits::BEATS_PER_MESSAGE_MAX as u64;
    tokio::spawn(async move {
        for ticket in 0..last {
            beats.send(beat(ticket, u32::from(SHARD.0))).await.expect("the stream goes on");
        }
        // A shard that is not here is answered at once.
        beats.send(beat(last, 9)).await.expect("the stream goes on");
        std::future::pending::<()>().await;
    });
    let answered = async {
        loop {
            let message = replies.message().await.expect("the stream goes on").expect("it has no end");
            if message.replies.iter().any(|reply| reply.ticket == last) {
                return;
            }
        }
    };
    tokio::time::timeout(6 * crate::limits::STREAM_STALL_MAX, answered).await.expect("the other shard's heartbeat is answered");
}
