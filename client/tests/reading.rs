//! Reading through failures, against the real rules in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_api::v1::Failure;
use cairn_client::memory::{Fault, MemoryCairn};
use cairn_client::{
    Cairn, Criteria, Deletion, Error, Freshness, JournalWriter, NewEvent, NewSnapshot, Payload, Position, ReplayEnd,
    SequenceNumber, ShardId, StoredEvent, WriterId,
};
use cairn_machine::Command;
use common::retried_after_a_foreign_one;

mod common;

async fn written(cairn: &Cairn, name: &str, events: usize) -> JournalWriter {
    let mut writer = cairn.journal(name).unwrap().claim().await.unwrap();
    for first in (0..events).step_by(100) {
        let texts = (first..events.min(first + 100)).map(|number| (number + 1).to_string());
        writer.append_all(texts).await.unwrap();
    }
    writer
}

fn numbers(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|stored| stored.event.sequence_number.0).collect()
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_bounded_by_numbers_and_by_count_and_ends_with_the_true_highest() {
    let cairn = MemoryCairn::new().client();
    let journal = written(&cairn, "account", 5).await.journal().clone();
    let cases: [(std::ops::RangeInclusive<u64>, u64, &[u64]); 8] = [
        (1..=u64::MAX, u64::MAX, &[1, 2, 3, 4, 5]),
        (0..=3, u64::MAX, &[1, 2, 3]),
        (3..=9, u64::MAX, &[3, 4, 5]),
        (2..=5, 2, &[2, 3]),
        (2..=2, u64::MAX, &[2]),
        (2..=4, 0, &[]),
        (u64::MAX..=u64::MAX, 1, &[]),
        (6..=9, 1, &[]),
    ];
    for (range, max, expected) in cases {
        let mut replay = journal.replay(range.clone()).max(max).start();
        let mut events = Vec::new();
        while let Some(stored) = replay.next().await.unwrap() {
            events.push(stored);
        }
        assert_eq!(numbers(&events), expected, "{range:?} at most {max}");
        let end = ReplayEnd { highest: SequenceNumber(5), deleted_to: SequenceNumber(0) };
        assert_eq!(replay.end(), Some(end), "{range:?} at most {max}");
    }
    assert_eq!(numbers(&journal.replay(2..4).start().collect_all().await.unwrap()), [2, 3]);
    let unknown = cairn.journal("unknown").unwrap();
    assert!(unknown.replay(..).start().collect_all().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_not_there_is_not_waited_for() {
    let cairn = MemoryCairn::new().client();
    let begun = tokio::time::Instant::now();
    let error = cairn.follow_shard(ShardId(500), Position(0)).start().next().await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_on_after_each_break_without_gap_or_duplicate() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.client();
    let journal = written(&cairn, "account", 3_000).await.journal().clone();
    cluster.break_streams_after(Some(2));
    let events = journal.replay(..).start().collect_all().await.unwrap();
    assert_eq!(numbers(&events), (1..=3_000).collect::<Vec<_>>());
    let events = journal.replay(..).max(1_234).start().collect_all().await.unwrap();
    assert_eq!(numbers(&events), (1..=1_234).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_on_at_another_node_when_its_own_goes_down() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.client();
    let journal = written(&cairn, "account", 20_000).await.journal().clone();
    let mut replay = journal.replay(..).start();
    let mut events = Vec::new();
    while let Some(stored) = replay.next().await.unwrap() {
        events.push(stored);
        if events.len() == 5_000 {
            cluster.stop(0);
            cluster.lead(1);
        }
    }
    assert_eq!(numbers(&events), (1..=20_000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_nobody_can_serve_ends_with_an_error_and_not_silently() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.builder().deadline(Duration::from_secs(3)).build().unwrap();
    let journal = written(&cairn, "account", 2_000).await.journal().clone();
    cluster.break_streams_after(Some(1));
    let mut replay = journal.replay(..).start();
    replay.next().await.unwrap().unwrap();
    cluster.stop(0);
    let error = loop {
        match replay.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended as if it were whole"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert_eq!(replay.end(), None);
}

#[tokio::test(start_paused = true)]
async fn events_removed_while_they_are_read_end_the_replay_as_gone() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    let journal = written(&cairn, "account", 20_000).await.journal().clone();
    let mut replay = journal.replay(..).start();
    replay.next().await.unwrap().unwrap();
    journal.delete_to(SequenceNumber(19_000), Deletion::Permanent).await.unwrap();
    let error = loop {
        match replay.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended as if it were whole"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Gone { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_reconnects_behind_a_deletion_does_not_look_whole() {
    for deletion in [Deletion::Logical, Deletion::Permanent] {
        let cluster = MemoryCairn::new();
        let cairn = cluster.client();
        let journal = written(&cairn, "account", 2_000).await.journal().clone();
        cluster.break_streams_after(Some(1));
        let mut whole = journal.replay(..).start();
        let mut broken = journal.replay(..).start();
        // Of these the first one has read on, and the other one has not.
        for _ in 0..1_000 {
            whole.next().await.unwrap().unwrap();
        }
        broken.next().await.unwrap().unwrap();
        journal.delete_to(SequenceNumber(900), deletion).await.unwrap();
        assert_eq!(whole.collect_all().await.unwrap().len(), 1_000, "what was deleted had been delivered");
        let error = broken.collect_all().await.unwrap_err();
        assert!(matches!(error, Error::Gone { .. }), "{error:?}");
        let with_deleted = journal.replay(..).include_deleted().start().collect_all().await.unwrap();
        assert_eq!(with_deleted.len(), if deletion == Deletion::Logical { 2_000 } else { 1_100 });
    }
}

#[tokio::test(start_paused = true)]
async fn large_events_come_in_messages_that_a_client_takes() {
    let cairn = MemoryCairn::new().client();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    for _ in 0..100 {
        writer.append(vec![7; 100 * 1024]).await.unwrap();
    }
    let journal = writer.journal();
    assert_eq!(journal.replay(..).start().collect_all().await.unwrap().len(), 100);
    assert_eq!(journal.replay(..).max(50).start().collect_all().await.unwrap().len(), 50);
    let shard = journal.slice().shard(cairn.shards().await.unwrap());
    let (mut follow, mut all) = (journal.follow(1), cairn.follow_shard(shard, Position(0)).start());
    for number in 1..=100 {
        assert_eq!(follow.next().await.unwrap().unwrap().event.sequence_number.0, number);
        assert_eq!(all.next().await.unwrap().unwrap().stored.position.0, number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_reconnects_is_of_the_state_in_which_it_began() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    let mut writer = written(&cairn, "account", 2_000).await;
    let journal = writer.journal().clone();
    cluster.break_streams_after(Some(1));
    let mut replay = journal.replay(..).start();
    let mut events = Vec::new();
    for _ in 0..600 {
        events.push(replay.next().await.unwrap().unwrap());
    }
    // What was handed out is deleted, and something is written that was not there.
    journal.delete_to(SequenceNumber(300), Deletion::Permanent).await.unwrap();
    writer.append("later").await.unwrap();
    while let Some(event) = replay.next().await.unwrap() {
        events.push(event);
    }
    assert_eq!(numbers(&events), (1..=2_000).collect::<Vec<_>>());
    let end = replay.end().unwrap();
    assert_eq!((end.highest, end.deleted_to), (SequenceNumber(2_000), SequenceNumber(0)));
}

#[tokio::test(start_paused = true)]
async fn a_replay_of_deleted_events_that_reconnects_is_of_the_state_in_which_it_began() {
    for deletion in [Deletion::Logical, Deletion::Permanent] {
        let cluster = MemoryCairn::new();
        let cairn = cluster.client();
        let journal = written(&cairn, "account", 2_000).await.journal().clone();
        journal.delete_to(SequenceNumber(100), Deletion::Logical).await.unwrap();
        cluster.break_streams_after(Some(1));
        let mut replay = journal.replay(..).include_deleted().start();
        let mut events = vec![replay.next().await.unwrap().unwrap()];
        journal.delete_to(SequenceNumber(900), deletion).await.unwrap();
        let rest = replay.collect_all().await;
        if deletion == Deletion::Permanent {
            let error = rest.unwrap_err();
            assert!(matches!(error, Error::Gone { .. }), "{error:?}");
            continue;
        }
        events.extend(rest.unwrap());
        assert_eq!(numbers(&events), (1..=2_000).collect::<Vec<_>>());
        assert!(events.iter().all(|stored| stored.deleted == (stored.event.sequence_number.0 <= 100)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_of_which_all_was_delivered_ends_whatever_became_of_its_connection() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    let journal = written(&cairn, "account", 2_000).await.journal().clone();
    cluster.break_streams_after(Some(1));
    let mut replay = journal.replay(..).max(256).start();
    replay.next().await.unwrap().unwrap();
    journal.delete_to(SequenceNumber(300), Deletion::Logical).await.unwrap();
    assert_eq!(replay.collect_all().await.unwrap().len(), 255);
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_reconnects_behind_a_deletion_does_not_look_whole() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    let journal = written(&cairn, "account", 2_000).await.journal().clone();
    let snapshot = NewSnapshot { sequence_number: SequenceNumber(500), ..NewSnapshot::default() };
    journal.save_snapshot(snapshot).await.unwrap();
    cluster.break_streams_after(Some(3));
    let recovered = cairn.journal("account").unwrap().recover().without_claim().start().await.unwrap();
    assert_eq!(recovered.snapshot.unwrap().info.sequence_number, SequenceNumber(500));
    journal.delete_to(SequenceNumber(1_900), Deletion::Logical).await.unwrap();
    let error = recovered.events.collect_all().await.unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_recovery_goes_on_at_the_leader_wherever_else_the_journal_is_read() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.builder().deadline(Duration::from_secs(3)).build().unwrap();
    written(&cairn, "account", 2_000).await;
    let elsewhere = cluster.addresses()[2].clone();
    let journal = cairn.journal("account").unwrap().with_freshness(Freshness::Local).read_at(elsewhere);
    cluster.stop(2);
    cluster.break_streams_after(Some(3));
    let recovered = journal.recover().start().await.unwrap();
    assert_eq!(recovered.events.collect_all().await.unwrap().len(), 2_000);
}

#[tokio::test(start_paused = true)]
async fn a_follower_sees_what_comes_through_breaks_and_leader_changes() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.client();
    let mut writer = written(&cairn, "account", 10).await;
    let mut follow = writer.journal().follow(4);
    for number in 4..=10 {
        assert_eq!(follow.next().await.unwrap().unwrap().event.sequence_number.0, number);
    }
    for number in 11..=60 {
        match number % 10 {
            0 => cluster.break_connections(),
            5 => cluster.lead(u16::try_from(number / 10 % 3).unwrap()),
            _ => {}
        }
        writer.append(number.to_string()).await.unwrap();
        assert_eq!(follow.next().await.unwrap().unwrap().event.sequence_number.0, number);
    }
    assert_eq!(follow.followed_to(), SequenceNumber(60));
}

#[tokio::test(start_paused = true)]
async fn what_is_followed_to_is_what_was_handed_out() {
    let cairn = MemoryCairn::new().client();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    let tagged = |number: u64| if number < 4 { NewEvent::from("x").tagged("low") } else { NewEvent::from("x") };
    writer.append_all((1..=5).map(tagged)).await.unwrap();
    let shard = writer.journal().slice().shard(cairn.shards().await.unwrap());
    let mut journal = writer.journal().follow(1);
    let mut all = cairn.follow_shard(shard, Position(0)).start();
    let mut low = cairn.follow_shard(shard, Position(0)).tag("low").start();
    for number in 1..=5 {
        journal.next().await.unwrap().unwrap();
        all.next().await.unwrap().unwrap();
        assert_eq!((journal.followed_to(), all.followed_to()), (SequenceNumber(number), Position(number)));
    }
    for followed_to in [1, 2, 5] {
        low.next().await.unwrap().unwrap();
        assert_eq!(low.followed_to(), Position(followed_to), "behind the last one there is nothing more to show");
    }
    writer.append("of no interest").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(20), low.next()).await.is_err());
    assert_eq!(low.followed_to(), Position(6), "a node tells how far it is");
}

#[tokio::test(start_paused = true)]
async fn followers_that_stand_still_hold_up_neither_replays_nor_other_followers() {
    let cairn = MemoryCairn::new().client();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    for _ in 0..7 {
        writer.append_all((0..100).map(|_| vec![0; 4 * 1024])).await.unwrap();
    }
    // Each has more to read than a stream has room for, and all of them more than a connection has.
    let mut standing = Vec::new();
    for _ in 0..200 {
        let mut follow = writer.journal().follow(1);
        follow.next().await.unwrap().unwrap();
        standing.push(follow);
    }
    let reading = async {
        assert_eq!(writer.journal().replay(..).start().collect_all().await.unwrap().len(), 700);
        let mut follow = writer.journal().follow(1);
        for _ in 0..700 {
            follow.next().await.unwrap().unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("nobody is in the way");
}

#[tokio::test(start_paused = true)]
async fn the_first_slice_alone_is_followed_if_it_is_asked_for() {
    let cairn = MemoryCairn::new().client();
    let is_first = |name: &String| cairn.journal(name.clone()).unwrap().slice().number() == 0;
    let first = (0..).map(|number| format!("journal-{number}")).find(is_first).unwrap();
    for name in ["other", first.as_str()] {
        written(&cairn, name, 2).await;
    }
    let shard = cairn.journal(first.clone()).unwrap().slice().shard(cairn.shards().await.unwrap());
    let mut follow = cairn.follow_shard(shard, Position(0)).slices(0, 0).current().start();
    let mut count = 0;
    while let Some(event) = follow.next().await.unwrap() {
        assert_eq!(event.persistence_id.as_str(), first);
        count += 1;
    }
    assert_eq!(count, 2);
}

#[tokio::test(start_paused = true)]
async fn a_follower_waits_as_long_as_it_takes() {
    let cairn = MemoryCairn::new().client();
    let mut writer = written(&cairn, "account", 1).await;
    let mut follow = writer.journal().follow(1);
    follow.next().await.unwrap().unwrap();
    // Far longer than a try of a call, and than a call, may take.
    assert!(tokio::time::timeout(Duration::from_secs(600), follow.next()).await.is_err());
    writer.append("2").await.unwrap();
    assert_eq!(follow.next().await.unwrap().unwrap().event.sequence_number.0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_followed_in_commit_order_through_breaks() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.client();
    let shards = cairn.shards().await.unwrap();
    let names: Vec<String> = (0..8).map(|number| format!("journal-{number}")).collect();
    for name in &names {
        written(&cairn, name, 250).await;
    }
    cluster.break_streams_after(Some(1));
    let mut count = 0;
    for shard in (0..shards).map(ShardId) {
        let mut follow = cairn.follow_shard(shard, Position(0)).current().start();
        let mut position = 0;
        while let Some(event) = follow.next().await.unwrap() {
            position += 1;
            count += 1;
            assert_eq!(event.stored.position, Position(position), "no gap, no duplicate");
            assert_eq!(cairn.journal_of(event.persistence_id).slice().shard(shards), shard);
        }
        assert_eq!(follow.followed_to(), Position(position));
    }
    assert_eq!(count, 8 * 250);
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_followed_by_tag() {
    let cairn = MemoryCairn::new().client();
    let mut writer = cairn.journal("account").unwrap().claim().await.unwrap();
    for number in 0..10 {
        let event = NewEvent::from(number.to_string());
        writer.append(if number % 3 == 0 { event.tagged("third") } else { event }).await.unwrap();
    }
    let shard = writer.journal().slice().shard(cairn.shards().await.unwrap());
    let mut follow = cairn.follow_shard(shard, Position(1)).tag("third").start();
    for expected in [4, 7, 10] {
        assert_eq!(follow.next().await.unwrap().unwrap().stored.position, Position(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn deleting_everything_spares_what_a_foreign_writer_stores_meanwhile() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    let journal = written(&cairn, "account", 5).await.journal().clone();
    let foreign = cairn.journal("account").unwrap();
    let is_written = Arc::new(AtomicBool::new(false));
    cluster.inject(retried_after_a_foreign_one(is_written.clone(), |command| matches!(command, Command::DeleteTo(_))));
    let deleting = tokio::spawn(async move { foreign.delete_to(SequenceNumber::MAX, Deletion::Logical).await });
    // Between the tries another event is stored: the retry must not delete it.
    while journal.highest().await.unwrap().deleted_to < SequenceNumber(5) {
        tokio::task::yield_now().await;
    }
    let mut writer = journal.writer(WriterId::new("late").unwrap(), None, SequenceNumber(5));
    writer.append("6").await.unwrap();
    is_written.store(true, Ordering::Relaxed);
    let deleted = deleting.await.unwrap().unwrap();
    assert_eq!((deleted.deleted_to, deleted.highest), (SequenceNumber(5), SequenceNumber(6)));
    assert_eq!(numbers(&journal.replay(..).start().collect_all().await.unwrap()), [6]);
    let with_deleted = journal.replay(..).include_deleted().start().collect_all().await.unwrap();
    assert_eq!(numbers(&with_deleted), [1, 2, 3, 4, 5, 6]);
    assert_eq!(with_deleted.iter().filter(|stored| stored.deleted).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_writer_cannot_delete_and_an_operator_can() {
    let cairn = MemoryCairn::new().client();
    let old = written(&cairn, "account", 5).await;
    let new = cairn.journal("account").unwrap().claim().await.unwrap();
    let deleted = old.journal().delete_to(SequenceNumber(2), Deletion::Logical).await;
    assert!(matches!(deleted, Err(Error::Fenced { .. })), "{deleted:?}");
    assert!(matches!(old.journal().save_snapshot(NewSnapshot::default()).await, Err(Error::Fenced { .. })));
    new.journal().delete_to(SequenceNumber(2), Deletion::Logical).await.unwrap();
    cairn.journal("account").unwrap().delete_to(SequenceNumber(3), Deletion::Permanent).await.unwrap();
    let known = cairn.journal("account").unwrap().highest().await.unwrap();
    assert_eq!((known.deleted_to.0, known.removed_to.0, known.highest.0), (3, 3, 5));
}

#[tokio::test(start_paused = true)]
async fn journals_are_listed_page_by_page_in_order() {
    let cairn = MemoryCairn::with_nodes(2).client();
    let mut waiting = Vec::new();
    for number in 0..2_500 {
        let journal = cairn.journal(format!("listed-{number:04}")).unwrap();
        let mut writer = journal.writer(WriterId::new("w").unwrap(), None, SequenceNumber(0));
        waiting.push(writer.submit("x").await.unwrap());
    }
    for submitted in waiting {
        submitted.await.unwrap();
    }
    cairn.journal("other").unwrap().claim().await.unwrap();
    let listed = cairn.journals("listed-").collect_all().await.unwrap();
    let expected: Vec<String> = (0..2_500).map(|number| format!("listed-{number:04}")).collect();
    assert_eq!(listed.iter().map(|listing| listing.persistence_id.as_str()).collect::<Vec<_>>(), expected);
    assert!(listed.iter().all(|listing| listing.known.highest == SequenceNumber(1)));
    let rest = cairn.journals("").after("listed-2498").collect_all().await.unwrap();
    assert_eq!(rest.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_given_node_is_read_and_no_other() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.builder().deadline(Duration::from_secs(2)).build().unwrap();
    let journal = written(&cairn, "account", 3).await.journal().clone();
    let addresses = cluster.addresses();
    let there = journal.clone().read_at(addresses[2].clone()).with_freshness(Freshness::Local);
    assert_eq!(there.highest().await.unwrap().highest, SequenceNumber(3));
    assert_eq!(numbers(&there.replay(..).start().collect_all().await.unwrap()), [1, 2, 3]);
    cluster.stop(2);
    assert!(matches!(there.highest().await, Err(Error::Unavailable { .. })));
    assert!(matches!(there.replay(..).start().collect_all().await, Err(Error::Unavailable { .. })));
    assert_eq!(journal.highest().await.unwrap().highest, SequenceNumber(3));
}

#[tokio::test(start_paused = true)]
async fn an_actor_recovers_in_one_call_through_breaks() {
    let cluster = MemoryCairn::with_nodes(3);
    let cairn = cluster.client();
    let old = written(&cairn, "account", 2_000).await;
    let state = Payload { serializer_id: 4, manifest: "state".to_owned(), bytes: vec![9; 700_000].into() };
    let snapshot = NewSnapshot { sequence_number: SequenceNumber(500), payload: state, ..NewSnapshot::default() };
    old.journal().save_snapshot(snapshot).await.unwrap();
    // A break inside the events, and one where the head of the recovery is just through.
    cluster.break_streams_after(Some(6));
    let mut recovered = cairn.journal("account").unwrap().recover().start().await.unwrap();
    let snapshot = recovered.snapshot.take().unwrap();
    assert_eq!((snapshot.info.sequence_number.0, snapshot.info.manifest.as_str()), (500, "state"));
    assert_eq!(snapshot.bytes, vec![9; 700_000]);
    let mut events = Vec::new();
    while let Some(stored) = recovered.events.next().await.unwrap() {
        events.push(stored);
    }
    assert_eq!(numbers(&events), (501..=2_000).collect::<Vec<_>>());
    assert_eq!(recovered.events.end().unwrap().highest, SequenceNumber(2_000));
    let mut writer = recovered.writer.unwrap();
    assert_eq!(writer.append("2001").await.unwrap().first, SequenceNumber(2_001));
    let epoch = old.epoch().unwrap().0;
    assert_eq!(writer.epoch().unwrap().0, epoch + 1, "claimed once, however often the stream broke");
}

#[tokio::test(start_paused = true)]
async fn a_recovery_whose_claim_was_made_is_never_said_to_be_not_applied() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.builder().deadline(Duration::from_secs(3)).build().unwrap();
    let old = written(&cairn, "account", 3).await;
    // The first try claims and breaks before its events; none of those after it is let in.
    cluster.break_streams_after(Some(1));
    let mut claims = 0;
    cluster.inject(move |_| {
        claims += 1;
        if claims == 1 { Fault::None } else { Fault::Refuse(Box::new(Failure::overloaded("test", Duration::from_millis(3)))) }
    });
    let error = cairn.journal("account").unwrap().recover().start().await.map(drop).unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    let known = cairn.journal("account").unwrap().highest().await.unwrap();
    assert_ne!(&known.writer, old.writer_id(), "the claim was made");
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_is_tried_again_never_fences_who_claimed_meanwhile() {
    let cluster = MemoryCairn::new();
    let cairn = cluster.client();
    let journal = written(&cairn, "account", 3).await.journal().clone();
    let (early, late) = (WriterId::new("early").unwrap(), WriterId::new("late").unwrap());
    let is_claimed = Arc::new(AtomicBool::new(false));
    let retried = early.clone();
    let is_meant = move |command: &Command| matches!(command, Command::Claim(claim) if claim.writer == retried);
    cluster.inject(retried_after_a_foreign_one(is_claimed.clone(), is_meant));
    let recovery = journal.recover().claim_as(early.clone());
    let recovering = tokio::spawn(async move { recovery.start().await.map(drop) });
    while journal.highest().await.unwrap().writer != early {
        tokio::task::yield_now().await;
    }
    let mut writer = journal.claim_as(late.clone()).await.unwrap();
    is_claimed.store(true, Ordering::Relaxed);
    let error = recovering.await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Fenced { writer, .. } if *writer == late), "{error}");
    assert_eq!(writer.append("4").await.unwrap().first, SequenceNumber(4), "it is still the writer");
}

#[tokio::test(start_paused = true)]
async fn a_recovery_without_claim_or_snapshot_reads_everything_and_fences_nobody() {
    let cairn = MemoryCairn::new().client();
    let mut writer = written(&cairn, "account", 10).await;
    let recover = cairn.journal("account").unwrap().recover().without_claim().without_snapshot();
    let recovered = recover.to(SequenceNumber(7)).max(3).start().await.unwrap();
    assert!(recovered.writer.is_none() && recovered.snapshot.is_none());
    assert_eq!(numbers(&recovered.events.collect_all().await.unwrap()), [1, 2, 3]);
    writer.append("11").await.unwrap();
    let fresh = cairn.journal("fresh").unwrap().recover().start().await.unwrap();
    assert_eq!(fresh.writer.unwrap().append("1").await.unwrap().first, SequenceNumber(1));
    assert_eq!(fresh.events.collect_all().await.unwrap(), []);
    assert!(cairn.journal("fresh").unwrap().load_snapshot(Criteria::LATEST).await.unwrap().is_none());
}
