//! The streams of the public API: the pipeline, follows, recovery and snapshots.

mod common;

use std::collections::BTreeMap;

use cairn_api::v1::{self, Reason, pipeline_request, pipeline_response};
use common::{Cluster, eventually, payload, reason, replay_request, stored, stored_event, strong, write_request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

type Kind = pipeline_request::request::Kind;
type Answer = pipeline_response::response::Kind;

fn request(request_id: u64, kind: Kind) -> pipeline_request::Request {
    pipeline_request::Request { request_id, kind: Some(kind) }
}

/// An open pipeline.
struct Pipeline {
    requests: mpsc::Sender<v1::PipelineRequest>,
    responses: tonic::Streaming<v1::PipelineResponse>,
    ready: BTreeMap<u64, Option<Answer>>,
}

impl Pipeline {
    async fn open(cluster: &Cluster, id: u64) -> Self {
        let (requests, receiver) = mpsc::channel(1024);
        let responses = cluster.journal(id).pipeline(ReceiverStream::new(receiver)).await.expect("opens").into_inner();
        Self { requests, responses, ready: BTreeMap::new() }
    }

    async fn send(&self, requests: Vec<pipeline_request::Request>) {
        self.requests.send(v1::PipelineRequest { requests }).await.expect("is open");
    }

    async fn answer(&mut self, request_id: u64) -> Answer {
        loop {
            if let Some(answer) = self.ready.remove(&request_id) {
                return answer.expect("an answer has a kind");
            }
            let message = self.responses.message().await.expect("goes on").expect("is not over");
            for response in message.responses {
                let before = self.ready.insert(response.request_id, response.kind);
                assert!(before.is_none(), "answered twice: {}", response.request_id);
            }
        }
    }
}

#[tokio::test]
async fn hundreds_in_flight_for_many_journals_are_stored_in_order_and_each_is_answered_once() {
    let cluster = Cluster::of_founders(3, 1).await;
    let leader = cluster.leader(0).await;
    let mut pipeline = Pipeline::open(&cluster, leader).await;
    const JOURNALS: u64 = 10;
    const EVENTS: u64 = 100;
    for number in 1..=EVENTS {
        let requests = (0..JOURNALS).map(|journal| {
            let write = write_request(&format!("journal-{journal}"), number as i64, &number.to_be_bytes());
            request(journal * EVENTS + number, Kind::Write(write))
        });
        pipeline.send(requests.collect()).await;
    }
    for journal in 0..JOURNALS {
        for number in 1..=EVENTS {
            let Answer::Write(write) = pipeline.answer(journal * EVENTS + number).await else { panic!("is stored") };
            assert_eq!(stored(&write).previous, number as i64 - 1);
        }
    }
    assert!(pipeline.ready.is_empty());
    for journal in 0..JOURNALS {
        let payloads = cluster.payloads(leader, &format!("journal-{journal}")).await;
        assert_eq!(payloads, (1..=EVENTS).map(|number| number.to_be_bytes().to_vec()).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn positions_are_dense_and_in_the_order_of_commits() {
    let cluster = Cluster::of_founders(1, 1).await;
    let mut pipeline = Pipeline::open(&cluster, 1).await;
    for number in 1..=200 {
        let journal = format!("journal-{}", number % 7);
        let after = Some((number - 1) / 7);
        let mut write = write_request(&journal, 1 + (number - 1) / 7, b"x");
        write.after = after;
        pipeline.send(vec![request(number as u64, Kind::Write(write))]).await;
    }
    let mut positions = Vec::new();
    for number in 1..=200 {
        let Answer::Write(write) = pipeline.answer(number).await else { panic!("is stored") };
        positions.push(stored(&write).position);
    }
    assert_eq!(positions, (1..=200).collect::<Vec<i64>>());
}

#[tokio::test]
async fn one_message_mixes_writes_claims_and_reads_and_what_is_wrong_is_answered_alone() {
    let cluster = Cluster::of_founders(3, 2).await;
    for shard in [0, 1] {
        cluster.leader(shard).await;
    }
    cluster.write("account-1", 1, b"x").await;
    let shard = cluster_shard("account-1");
    let leader = cluster.leader(shard).await;
    let mut pipeline = Pipeline::open(&cluster, leader).await;
    let claim = v1::ClaimRequest { persistence_id: "account-1".into(), writer_id: "new writer".into(), epoch_read: 1 };
    let highest = v1::HighestRequest { persistence_id: "account-1".into(), freshness: Some(strong()) };
    let mut negative = write_request("account-1", 3, b"x");
    negative.atomic_writes[0].events[0].sequence_number = -1;
    pipeline
        .send(vec![
            request(1, Kind::Write(write_request("account-1", 2, b"y"))),
            request(2, Kind::Write(negative)),
            pipeline_request::Request { request_id: 3, kind: None },
            request(4, Kind::Highest(highest)),
            request(5, Kind::Claim(claim)),
            request(6, Kind::Write(write_request("", 1, b"x"))),
        ])
        .await;
    assert!(matches!(pipeline.answer(1).await, Answer::Write(_)));
    for bad in [2, 3, 6] {
        let Answer::Failure(failure) = pipeline.answer(bad).await else { panic!("is refused") };
        assert_eq!(failure.reason(), Reason::Invalid, "{failure:?}");
    }
    let Answer::Highest(read) = pipeline.answer(4).await else { panic!("is read") };
    assert!(read.highest == 1 || read.highest == 2);
    let Answer::Claim(claimed) = pipeline.answer(5).await else { panic!("is granted") };
    assert_eq!((claimed.epoch, claimed.highest), (2, 2));
    // The old writer is fenced.
    pipeline.send(vec![request(7, Kind::Write(write_request("account-1", 3, b"z")))]).await;
    let Answer::Write(write) = pipeline.answer(7).await else { panic!("is answered") };
    let Some(v1::write_outcome::Kind::Refused(failure)) = &write.outcomes[0].kind else { panic!("{write:?}") };
    assert_eq!((failure.reason(), failure.epoch), (Reason::Fenced, 2));
}

/// The shard of a journal in a cluster of two.
fn cluster_shard(persistence_id: &str) -> u16 {
    let persistence_id = cairn_machine::PersistenceId::new(persistence_id.to_owned()).expect("valid");
    cairn_machine::Slice::of(&persistence_id).shard(2).0
}

#[tokio::test]
async fn a_message_with_too_many_requests_ends_its_pipeline_when_what_came_before_is_answered() {
    let cluster = Cluster::of_founders(1, 1).await;
    let mut pipeline = Pipeline::open(&cluster, 1).await;
    pipeline.send(vec![request(7, Kind::Write(write_request("account-1", 1, b"x")))]).await;
    pipeline.send(vec![pipeline_request::Request::default(); cairn_api::PIPELINE_MESSAGE_REQUESTS_MAX + 1]).await;
    assert!(matches!(pipeline.answer(7).await, Answer::Write(_)));
    let ended = pipeline.responses.message().await;
    assert_eq!(reason(ended), Reason::TooLarge);
}

#[tokio::test]
async fn a_pipeline_ends_when_its_caller_has_asked_everything() {
    let cluster = Cluster::of_founders(1, 1).await;
    let mut pipeline = Pipeline::open(&cluster, 1).await;
    pipeline.send(vec![request(1, Kind::Write(write_request("account-1", 1, b"x")))]).await;
    let Pipeline { requests, mut responses, .. } = std::mem::replace(&mut pipeline, Pipeline::open(&cluster, 1).await);
    drop(requests);
    let answer = responses.message().await.expect("goes on").expect("an answer");
    assert_eq!(answer.responses.len(), 1);
    assert!(responses.message().await.expect("ends cleanly").is_none());
}

#[tokio::test]
async fn a_follower_of_a_journal_gets_what_is_there_and_then_what_comes() {
    let cluster = Cluster::of_founders(3, 1).await;
    for number in 1..=3 {
        cluster.write("account-1", number, &[number as u8]).await;
    }
    let follower = cluster.follower(0).await;
    let request = v1::FollowRequest { persistence_id: "account-1".into(), from: 2 };
    let mut stream = cluster.journal(follower).follow(request).await.expect("opens").into_inner();
    let mut seen = Vec::new();
    let mut followed_to = 0;
    for number in 4..=20 {
        cluster.write("account-1", number, &[number as u8]).await;
        while followed_to < number {
            let message = stream.message().await.expect("goes on").expect("is not over");
            seen.extend(message.events.iter().map(payload));
            followed_to = message.followed_to;
        }
    }
    assert_eq!(seen, (2..=20u8).map(|number| vec![number]).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_follower_of_a_shard_gets_every_event_in_commit_order_and_filters_by_tag_and_slice() {
    let cluster = Cluster::of_founders(3, 1).await;
    let leader = cluster.leader(0).await;
    for number in 1..=10 {
        for journal in ["a", "b"] {
            let mut write = write_request(journal, number, journal.as_bytes());
            if number % 2 == 0 {
                write.atomic_writes[0].events[0].tags = vec!["even".into()];
            }
            cluster.journal(leader).write(write).await.expect("is stored");
        }
    }
    let positions = async |request: v1::FollowShardRequest| {
        let mut stream = cluster.journal(leader).follow_shard(request).await.expect("opens").into_inner();
        let mut positions = Vec::new();
        let mut followed_to = 0;
        while let Some(message) = stream.message().await.expect("goes on") {
            assert!(message.followed_to >= followed_to);
            followed_to = message.followed_to;
            let events = message.events.iter();
            positions.extend(events.map(|event| stored_event(event.event.as_ref().expect("an event")).position.0));
        }
        (positions, followed_to)
    };
    let all = v1::FollowShardRequest { current: true, ..Default::default() };
    assert_eq!(positions(all.clone()).await, ((1..=20).collect(), 20));
    assert_eq!(positions(v1::FollowShardRequest { after: 15, ..all.clone() }).await, ((16..=20).collect(), 20));
    let tagged = v1::FollowShardRequest { tag: "even".into(), ..all.clone() };
    assert_eq!(positions(tagged).await, ((1..=20).filter(|position| (position - 1) / 2 % 2 == 1).collect(), 20));
    let slice = u32::from(cairn_machine::Slice::of(&cairn_machine::PersistenceId::new("a").expect("valid")).number());
    let sliced = v1::FollowShardRequest { slice_min: Some(slice), slice_max: Some(slice), ..all.clone() };
    assert_eq!(positions(sliced).await, ((1..=20).filter(|position| position % 2 == 1).collect(), 20));

    let live = v1::FollowShardRequest { after: 20, ..Default::default() };
    let mut stream = cluster.journal(leader).follow_shard(live).await.expect("opens").into_inner();
    cluster.write("c", 1, b"c").await;
    let message = stream.message().await.expect("goes on").expect("is not over");
    assert_eq!((message.events[0].persistence_id.as_str(), message.followed_to), ("c", 21));
    let unknown = v1::FollowShardRequest { shard: 7, ..Default::default() };
    assert_eq!(reason(cluster.journal(leader).follow_shard(unknown).await), Reason::Invalid);
}

#[tokio::test]
async fn a_replica_behind_a_cursor_waits_for_it_and_not_longer_than_the_deadline() {
    let mut cluster = Cluster::of_nobody();
    let mut settings = common::founder_settings(1, 1, 1);
    settings.limits.request_deadline_ms = 300;
    cluster.enlist(settings, common::Disk::memory());
    cluster.start(1).await;
    cluster.all_ready().await;
    cluster.write("account-1", 1, b"x").await;
    let follow = async || {
        let request = v1::FollowShardRequest { after: 3, ..v1::FollowShardRequest::default() };
        cluster.journal(1).follow_shard(request).await
    };
    assert_eq!(reason(follow().await), Reason::Behind);
    // One that waits while the events come, however often its deadline comes before them.
    let waits = async {
        loop {
            match follow().await {
                Ok(opened) => return opened.into_inner(),
                behind => assert_eq!(reason(behind), Reason::Behind),
            }
        }
    };
    let writes = async {
        for number in 2..=4 {
            cluster.write("account-1", number, b"x").await;
        }
    };
    let (mut stream, ()) = tokio::join!(waits, writes);
    let first = stream.message().await.expect("goes on").expect("an event");
    assert_eq!((first.events.len(), first.followed_to), (1, 4));
}

#[tokio::test]
async fn follows_end_cleanly_when_their_node_stops() {
    let mut cluster = Cluster::of_founders(3, 1).await;
    cluster.write("account-1", 1, b"x").await;
    let follower = cluster.follower(0).await;
    let request = v1::FollowRequest { persistence_id: "account-1".into(), from: 1 };
    let mut stream = cluster.journal(follower).follow(request).await.expect("opens").into_inner();
    stream.message().await.expect("goes on").expect("the first event");
    cluster.stop(follower).await;
    assert!(stream.message().await.expect("ends cleanly").is_none());
}

#[tokio::test]
async fn deleted_events_are_hidden_and_shown_to_who_asks_and_removed_ones_are_gone() {
    let cluster = Cluster::of_founders(3, 1).await;
    for number in 1..=10 {
        cluster.write("account-1", number, &[number as u8]).await;
    }
    let leader = cluster.leader(0).await;
    let delete = |to, permanent| v1::DeleteToRequest {
        persistence_id: "account-1".into(),
        to,
        permanent,
        writer_id: "writer".into(),
        epoch: None,
    };
    let deleted = cluster.journal(leader).delete_to(delete(6, false)).await.expect("is deleted").into_inner();
    assert_eq!((deleted.deleted_to, deleted.highest), (6, 10));
    for id in [1, 2, 3] {
        let (events, end) = cluster.replay(id, "account-1", strong()).await;
        assert_eq!((events.len(), end.highest, end.deleted_to), (4, 10, 6));
    }
    let mut all = replay_request("account-1", strong());
    all.include_deleted = true;
    let numbers = async |request: v1::ReplayRequest| {
        let mut stream = cluster.journal(leader).replay(request).await.expect("opens").into_inner();
        let mut numbers = Vec::new();
        while let Some(message) = stream.message().await.expect("goes on") {
            let events = message.events.into_iter();
            numbers.extend(
                events.map(|event| stored_event(&event)).map(|event| (event.event.sequence_number.to_wire(), event.deleted)),
            );
        }
        numbers
    };
    assert_eq!(numbers(all.clone()).await, (1..=10).map(|number| (number, number <= 6)).collect::<Vec<_>>());
    cluster.journal(leader).delete_to(delete(3, true)).await.expect("is removed");
    assert_eq!(numbers(all.clone()).await, (4..=10).map(|number| (number, number <= 6)).collect::<Vec<_>>());
    // Edges of a replay (contract 1.5): none asked for, none in range, from zero.
    assert_eq!(numbers(v1::ReplayRequest { max: 0, ..all.clone() }).await, vec![]);
    assert_eq!(numbers(v1::ReplayRequest { from: 9, to: 8, ..all.clone() }).await, vec![]);
    assert_eq!(numbers(v1::ReplayRequest { from: 0, max: 2, ..all.clone() }).await, vec![(4, true), (5, true)]);
    assert_eq!(numbers(v1::ReplayRequest { from: 8, to: 9, ..all }).await, vec![(8, false), (9, false)]);
}

fn save(number: i64, saves_read: i64, data: v1::save_request::Data) -> v1::SaveRequest {
    v1::SaveRequest {
        persistence_id: "account-1".into(),
        sequence_number: number,
        timestamp: None,
        save_id: uuid::Uuid::from_u128(number as u128 + 1).as_bytes().to_vec().into(),
        saves_read,
        serializer_id: 7,
        manifest: "state".into(),
        data: Some(data),
        metadata: None,
        writer_id: "writer".into(),
        epoch: None,
    }
}

fn latest() -> v1::SnapshotCriteria {
    v1::SnapshotCriteria {
        sequence_number_min: 0,
        sequence_number_max: i64::MAX,
        timestamp_min: i64::MIN,
        timestamp_max: i64::MAX,
    }
}

#[tokio::test]
async fn a_large_snapshot_travels_in_chunks_and_recovery_offers_it_with_the_events_after_it() {
    let cluster = Cluster::of_founders(3, 1).await;
    for number in 1..=10 {
        cluster.write("account-1", number, &[number as u8]).await;
    }
    let leader = cluster.leader(0).await;
    let chunks: Vec<Vec<u8>> = (0..5u8).map(|index| vec![index; 300_000]).collect();
    let save_id: bytes::Bytes = uuid::Uuid::from_u128(9).as_bytes().to_vec().into();
    for (index, chunk) in chunks.iter().enumerate() {
        let upload = v1::UploadRequest {
            persistence_id: "account-1".into(),
            save_id: save_id.clone(),
            index: index as u32,
            data: chunk.clone().into(),
        };
        let uploaded = cluster.snapshots(leader).upload(upload).await.expect("is uploaded").into_inner();
        assert_eq!(uploaded.chunks, index as u32 + 1);
    }
    let data = v1::save_request::Data::Uploaded(v1::save_request::Uploaded { chunks: 5, bytes_total: 1_500_000 });
    cluster.snapshots(leader).save(save(8, 0, data)).await.expect("is saved");
    let inline = v1::save_request::Data::Inline(b"small".to_vec().into());
    cluster.snapshots(leader).save(save(4, 1, inline)).await.expect("is saved");

    for id in [1, 2, 3] {
        let list = v1::ListSnapshotsRequest { persistence_id: "account-1".into(), criteria: Some(latest()), freshness: None };
        let listed = cluster.snapshots(id).list(list).await.expect("is listed").into_inner().snapshots;
        assert_eq!(listed.iter().map(|info| info.sequence_number).collect::<Vec<_>>(), [4, 8]);
        let load = v1::LoadRequest { persistence_id: "account-1".into(), criteria: Some(latest()), freshness: None };
        let mut stream = cluster.snapshots(id).load(load).await.expect("opens").into_inner();
        let mut bytes = Vec::new();
        let mut info = None;
        while let Some(message) = stream.message().await.expect("goes on") {
            match message.kind.expect("a kind") {
                v1::load_response::Kind::Snapshot(snapshot) => info = Some(snapshot),
                v1::load_response::Kind::Data(data) => bytes.extend_from_slice(&data),
            }
        }
        let info = info.expect("there is one");
        assert_eq!((info.sequence_number, info.bytes_total, info.manifest.as_str()), (8, 1_500_000, "state"));
        assert_eq!(bytes, chunks.concat());
    }

    let recover = v1::RecoverRequest {
        persistence_id: "account-1".into(),
        writer_id: "new writer".into(),
        criteria: Some(latest()),
        to: i64::MAX,
        max: i64::MAX,
    };
    for _ in 0..2 {
        let (epoch, snapshot_bytes, numbers, highest) = recovered(&cluster, leader, recover.clone()).await;
        assert_eq!((epoch, snapshot_bytes, numbers, highest), (Some(2), 1_500_000, vec![9, 10], 10), "again: the same claim");
    }
    let unclaimed = v1::RecoverRequest { writer_id: String::new(), criteria: None, ..recover };
    let (epoch, snapshot_bytes, numbers, highest) = recovered(&cluster, cluster.follower(0).await, unclaimed).await;
    assert_eq!((epoch, snapshot_bytes, numbers, highest), (None, 0, (1..=10).collect(), 10));

    let delete = v1::DeleteSnapshotsRequest {
        persistence_id: "account-1".into(),
        criteria: Some(v1::SnapshotCriteria { sequence_number_max: 4, ..latest() }),
        saves_read: None,
        writer_id: "new writer".into(),
        epoch: Some(2),
    };
    let deleted = cluster.snapshots(leader).delete_matching(delete).await.expect("is deleted").into_inner();
    assert_eq!(deleted.deleted, 1);
}

#[tokio::test]
async fn events_behind_a_snapshot_are_of_the_state_in_which_it_was_found_however_long_it_travels() {
    let cluster = Cluster::of_founders(1, 1).await;
    for number in 1..=10 {
        cluster.write("account-1", number, b"x").await;
    }
    let journal = common::client_of(cluster.node(1)).await.journal("account-1").expect("a name");
    let state = cairn_client::Payload { bytes: vec![1; 8 << 20].into(), ..Default::default() };
    let snapshot =
        cairn_client::NewSnapshot { sequence_number: cairn_machine::SequenceNumber(5), payload: state, ..Default::default() };
    journal.save_snapshot(snapshot).await.expect("is saved");
    let recover = v1::RecoverRequest {
        persistence_id: "account-1".into(),
        writer_id: String::new(),
        criteria: Some(latest()),
        to: i64::MAX,
        max: i64::MAX,
    };
    let mut stream = cluster.journal(1).recover(recover).await.expect("opens").into_inner();
    let first = stream.message().await.expect("goes on").expect("is not over");
    assert!(matches!(first.kind, Some(v1::recover_response::Kind::Snapshot(_))));
    // More of it is on its way than the connection takes at once.
    journal.delete_to(cairn_machine::SequenceNumber(8), cairn_client::Deletion::Logical).await.expect("is deleted");
    let mut numbers = Vec::new();
    while let Some(message) = stream.message().await.expect("goes on") {
        if let Some(v1::recover_response::Kind::Events(events)) = message.kind {
            numbers.extend(events.events.iter().map(|event| stored_event(event).event.sequence_number.0));
        }
    }
    assert_eq!(numbers, [6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn a_recovery_asked_for_again_does_not_fence_who_claimed_meanwhile() {
    let cluster = Cluster::of_founders(1, 1).await;
    cluster.write("account-1", 1, b"x").await;
    let recover = v1::RecoverRequest {
        persistence_id: "account-1".into(),
        writer_id: "early".into(),
        criteria: None,
        to: i64::MAX,
        max: i64::MAX,
    };
    let (epoch, ..) = recovered(&cluster, 1, recover.clone()).await;
    assert_eq!(epoch, Some(2));
    let claim = v1::ClaimRequest { persistence_id: "account-1".into(), writer_id: "late".into(), epoch_read: 2 };
    assert_eq!(cluster.journal(1).claim(claim).await.expect("is granted").into_inner().epoch, 3);
    assert_eq!(reason(cluster.journal(1).recover(recover.clone()).await), Reason::Fenced);
    let (epoch, ..) = recovered(&cluster, 1, v1::RecoverRequest { writer_id: "late".into(), ..recover }).await;
    assert_eq!(epoch, Some(3), "the present writer gets its claim again");
}

async fn recovered(cluster: &Cluster, id: u64, request: v1::RecoverRequest) -> (Option<i64>, usize, Vec<i64>, i64) {
    let mut stream = cluster.journal(id).recover(request).await.expect("opens").into_inner();
    let (mut epoch, mut snapshot_bytes, mut numbers, mut highest) = (None, 0, Vec::new(), -1);
    while let Some(message) = stream.message().await.expect("goes on") {
        match message.kind.expect("a kind") {
            v1::recover_response::Kind::Claimed(claimed) => epoch = Some(claimed.epoch),
            v1::recover_response::Kind::Snapshot(_) => {}
            v1::recover_response::Kind::SnapshotData(data) => snapshot_bytes += data.len(),
            v1::recover_response::Kind::Events(events) => {
                let events_of = events.events.iter();
                numbers.extend(events_of.map(|event| stored_event(event).event.sequence_number.to_wire()));
                if let Some(end) = events.end {
                    highest = end.highest;
                }
            }
        }
    }
    (epoch, snapshot_bytes, numbers, highest)
}

#[tokio::test]
async fn journals_are_listed_by_prefix_over_all_shards_page_by_page() {
    let cluster = Cluster::of_founders(1, 4).await;
    let mut names: Vec<String> = (0..40).map(|number| format!("account-{number}")).collect();
    for name in names.iter().map(String::as_str).chain(["order-1", "zebra"]) {
        cluster.write(name, 1, b"x").await;
    }
    names.sort();
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let list = v1::ListRequest { prefix: "account-".into(), after: after.clone(), limit: 7, freshness: None };
        let page = cluster.journal(1).list(list).await.expect("is listed").into_inner();
        assert!(page.journals.len() <= 7);
        listed.extend(page.journals.iter().map(|journal| journal.persistence_id.clone()));
        match page.journals.last() {
            Some(last) if page.more => after = last.persistence_id.clone(),
            _ => break,
        }
    }
    assert_eq!(listed, names);
}

#[tokio::test]
async fn a_long_journal_is_replayed_whole_while_it_is_flushed_and_written() {
    let mut settings = common::founder_settings(1, 1, 1);
    settings.storage.memtable_bytes = 64 * 1024;
    let mut cluster = Cluster::of_nobody();
    cluster.enlist(settings, common::Disk::memory());
    cluster.start(1).await;
    cluster.all_ready().await;
    let mut pipeline = Pipeline::open(&cluster, 1).await;
    const EVENTS: i64 = 6_000;
    for number in 1..=EVENTS {
        let write = write_request("account-1", number, &number.to_be_bytes().repeat(8));
        pipeline.send(vec![request(number as u64, Kind::Write(write))]).await;
    }
    let Answer::Write(_) = pipeline.answer(EVENTS as u64).await else { panic!("is stored") };
    let payloads = cluster.payloads(1, "account-1").await;
    assert_eq!(payloads, (1..=EVENTS).map(|number| number.to_be_bytes().repeat(8)).collect::<Vec<_>>());
    eventually("the tables were flushed", async || {
        let status = cluster.status(1).await;
        (status.shard_states[0].flushed_index > 0).then_some(())
    })
    .await;
}
