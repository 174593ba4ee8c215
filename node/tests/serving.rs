//! Three nodes in one process serve writes, reads and failover.

mod common;

use cairn_api::v1::{self, Reason};
use common::{
    Cluster, at_least, eventually, is_passing, local, payload, reason, stored, stored_event, strong, timed, write_request,
};

#[tokio::test]
async fn what_is_written_at_the_leader_is_replayed_by_every_node() {
    let cluster = Cluster::of_founders(3, 2).await;
    for number in 1..=5 {
        let response = cluster.write("account-1", number, format!("event {number}").as_bytes()).await;
        assert_eq!((response.highest, stored(&response).previous), (number, number - 1));
    }
    for id in [1, 2, 3] {
        let (events, end) = cluster.replay(id, "account-1", strong()).await;
        let payloads: Vec<_> = events.iter().map(payload).collect();
        let expected: Vec<_> = (1..=5).map(|number| format!("event {number}").into_bytes()).collect();
        assert_eq!(payloads, expected, "node {id}");
        assert_eq!((end.highest, end.deleted_to), (5, 0));
        let event = stored_event(&events[0]);
        assert_eq!((event.writer.as_str(), event.write_first.0, event.deleted), ("writer", 1, false));
        assert!(event.timestamp.0 > 1_600_000_000_000_000, "the leader's clock");
    }
}

#[tokio::test]
async fn the_same_write_again_gets_its_first_answer_and_another_one_conflicts() {
    let cluster = Cluster::of_founders(3, 1).await;
    let first = cluster.write("account-1", 1, b"one").await;
    assert_eq!(cluster.write("account-1", 1, b"one").await, first);
    let leader = cluster.leader(0).await;
    let other = cluster.journal(leader).write(write_request("account-1", 1, b"another")).await.expect("an answer").into_inner();
    let Some(v1::write_outcome::Kind::Refused(failure)) = &other.outcomes[0].kind else { panic!("{other:?}") };
    assert_eq!((failure.reason(), failure.highest), (Reason::Conflict, 1));
}

#[tokio::test]
async fn a_large_message_of_tagged_events_is_stored() {
    let cluster = Cluster::of_founders(1, 1).await;
    let leader = cluster.leader(0).await;
    let tagged = |number, bytes| v1::Event { tags: vec!["green".to_owned()], ..common::event(number, &vec![7; bytes]) };
    let request = |events: Vec<v1::Event>| v1::WriteRequest {
        atomic_writes: vec![v1::AtomicWrite { events }],
        after: None,
        ..write_request("account-1", 1, b"")
    };
    let large = request(vec![tagged(1, 64 * 1024)]);
    let many = request((2..=101).map(|number| tagged(number, 1024)).collect());
    for (write, highest) in [(large, 1), (many, 101)] {
        let stored = cluster.journal(leader).write(write).await.expect("is stored").into_inner();
        assert_eq!(stored.highest, highest);
    }
}

#[tokio::test]
async fn a_follower_names_the_leader() {
    let cluster = Cluster::of_founders(3, 1).await;
    let (leader, follower) = (cluster.leader(0).await, cluster.follower(0).await);
    let status = cluster.journal(follower).write(write_request("account-1", 1, b"one")).await.expect_err("is refused");
    let failure = v1::Failure::from_status(&status).expect("a failure");
    assert_eq!(failure.reason(), Reason::NotLeader);
    assert_eq!(failure.leader, Some(v1::Member { node_id: leader, client_address: common::client_address(leader) }));
}

#[tokio::test]
async fn strong_reads_of_a_follower_see_every_acknowledged_write() {
    let cluster = Cluster::of_founders(3, 1).await;
    let follower = cluster.follower(0).await;
    for number in 1..=50 {
        cluster.write("account-1", number, b"x").await;
        let request = v1::HighestRequest { persistence_id: "account-1".into(), freshness: Some(strong()) };
        let read = cluster.journal(follower).highest(request).await.expect("is read").into_inner();
        assert_eq!(read.highest, number);
    }
}

#[tokio::test]
async fn a_read_waits_for_the_number_that_its_caller_has_seen_and_not_longer_than_its_deadline() {
    let cluster = Cluster::of_founders(3, 1).await;
    cluster.write("account-1", 1, b"x").await;
    for id in [1, 2, 3] {
        let request = v1::HighestRequest { persistence_id: "account-1".into(), freshness: Some(at_least(1)) };
        assert_eq!(cluster.journal(id).highest(request).await.expect("is read").into_inner().highest, 1);
    }
    let mut request =
        tonic::Request::new(v1::HighestRequest { persistence_id: "account-1".into(), freshness: Some(at_least(2)) });
    request.set_timeout(std::time::Duration::from_millis(200));
    assert_eq!(reason(cluster.journal(1).highest(request).await), Reason::Behind);
}

#[tokio::test]
async fn a_journal_never_written_is_empty_and_its_highest_number_is_zero() {
    let cluster = Cluster::of_founders(1, 1).await;
    let (events, end) = cluster.replay(1, "nobody", strong()).await;
    assert_eq!((events.len(), end.highest), (0, 0));
    let request = v1::HighestRequest { persistence_id: "nobody".into(), freshness: None };
    let known = cluster.journal(1).highest(request).await.expect("is read").into_inner();
    assert_eq!(known, v1::HighestResponse::default());
}

#[tokio::test]
async fn acknowledged_writes_survive_the_leader_and_go_on_within_three_seconds() {
    let mut cluster = Cluster::of_founders(3, 1).await;
    for number in 1..=20 {
        cluster.write("account-1", number, &number.to_be_bytes()).await;
    }
    let leader = cluster.leader(0).await;
    cluster.kill(leader);
    let killed = tokio::time::Instant::now();
    cluster.write("account-1", 21, &21i64.to_be_bytes()).await;
    let gap = killed.elapsed();
    // A debug build beside other tests on the same cores; a release build takes about half a second, which the demo measures.
    assert!(gap < std::time::Duration::from_secs(3), "writes went on only after {gap:?}");
    let expected: Vec<_> = (1..=21i64).map(|number| number.to_be_bytes().to_vec()).collect();
    for id in cluster.running() {
        assert_eq!(cluster.payloads(id, "account-1").await, expected);
    }
    cluster.start(leader).await;
    cluster.all_ready().await;
    assert_eq!(cluster.payloads(leader, "account-1").await, expected, "the one that came back");
}

#[tokio::test]
async fn everything_survives_when_all_nodes_are_killed_at_once() {
    let mut cluster = Cluster::of_founders(3, 2).await;
    for number in 1..=20 {
        cluster.write("account-1", number, &number.to_be_bytes()).await;
        cluster.write("account-2", number, &number.to_be_bytes()).await;
    }
    for id in [1, 2, 3] {
        cluster.kill(id);
    }
    for id in [1, 2, 3] {
        cluster.start(id).await;
    }
    cluster.all_ready().await;
    let expected: Vec<_> = (1..=20i64).map(|number| number.to_be_bytes().to_vec()).collect();
    for id in [1, 2, 3] {
        assert_eq!(cluster.payloads(id, "account-1").await, expected);
        assert_eq!(cluster.payloads(id, "account-2").await, expected);
    }
    let response = cluster.write("account-1", 21, b"on it goes").await;
    assert_eq!(stored(&response).previous, 20);
}

#[tokio::test]
async fn a_leader_that_stops_hands_over_and_no_write_fails_for_good() {
    let mut cluster = Cluster::of_founders(3, 1).await;
    cluster.write("account-1", 1, b"x").await;
    let leader = cluster.leader(0).await;
    let (channel_of_others, others): (Vec<_>, Vec<_>) = cluster.running().into_iter().map(|id| (cluster.channel(id), id)).unzip();
    assert!(others.contains(&leader));
    let written = std::cell::Cell::new(0);
    let writer = async {
        let mut longest = std::time::Duration::ZERO;
        for number in 2..=300 {
            let begun = tokio::time::Instant::now();
            eventually("is acknowledged", async || {
                for channel in &channel_of_others {
                    let mut client = v1::journal_client::JournalClient::new(channel.clone());
                    match client.write(timed(write_request("account-1", number, b"x"))).await {
                        Ok(_) => return Some(()),
                        Err(status) if is_passing(&status) => {}
                        Err(status) => panic!("{status}"),
                    }
                }
                None
            })
            .await;
            longest = longest.max(begun.elapsed());
            written.set(number);
        }
        longest
    };
    let stop = async {
        eventually("writes are on their way", async || (written.get() >= 50).then_some(())).await;
        cluster.stop(leader).await;
        assert!(written.get() < 300, "the stop came in the middle");
    };
    let (longest, ()) = tokio::join!(writer, stop);
    assert!(longest < std::time::Duration::from_secs(2), "a write took {longest:?}");
    let follower = cluster.running()[0];
    let (events, end) = cluster.replay(follower, "account-1", strong()).await;
    assert_eq!((events.len(), end.highest), (300, 300));
}

#[tokio::test]
async fn a_minority_answers_no_strong_read_and_takes_no_write() {
    let mut cluster = Cluster::of_founders(3, 1).await;
    cluster.write("account-1", 1, b"x").await;
    let follower = cluster.follower(0).await;
    // Who is alone later shows what it has applied, and it hears of a commit a little after the writer does.
    assert_eq!(cluster.replay(follower, "account-1", strong()).await.0.len(), 1);
    for id in cluster.running() {
        if id != follower {
            cluster.kill(id);
        }
    }
    let read = v1::HighestRequest { persistence_id: "account-1".into(), freshness: Some(strong()) };
    let reasons = [reason(cluster.journal(follower).highest(timed(read)).await)];
    assert!(matches!(reasons[0], Reason::NoLeader | Reason::NotLeader | Reason::Behind), "{reasons:?}");
    let write = cluster.journal(follower).write(timed(write_request("account-1", 2, b"x"))).await;
    assert!(matches!(reason(write), Reason::NoLeader | Reason::NotLeader | Reason::Unknown));
    let (events, _) = cluster.replay(follower, "account-1", local()).await;
    assert_eq!(events.len(), 1, "local reads still work");
}
