//! Reading: highest numbers, replays with all kinds of bounds from any node, and shards in commit order.

use std::time::Duration;

use cairn_client::{Freshness, Journal, Position, Replay, ReplayEnd, ShardId};
use cairn_machine::{PersistenceId, SequenceNumber};

use super::Session;
use super::recorder::{self, outcome_of, read_event};
use crate::broken;
use crate::history::{Answer, Call, Fresh, OperationId, Outcome, ReadEvent};

/// A follower that sees nothing for so long stops following.
const FOLLOW_SILENCE_MAX: Duration = Duration::from_secs(3);

pub(super) async fn run(session: &mut Session) {
    let persistence_id = session.pick_journal();
    let node = session.pick_node();
    let fresh = *session.dice.weighted(&[(5, Fresh::Strong), (1, Fresh::Local)]);
    let journal = journal(session, &persistence_id, fresh, node);
    if session.dice.chance(0.6) {
        // What it says is in the record.
        let _ = session.recorder.highest(&journal, fresh, node).await;
    } else {
        replay(session, &journal, fresh, node).await;
    }
}

pub(crate) fn journal(session: &Session, persistence_id: &PersistenceId, fresh: Fresh, node: Option<u64>) -> Journal {
    let freshness = match fresh {
        Fresh::Strong => Freshness::Strong,
        Fresh::AtLeast(number) => Freshness::AtLeast(number),
        Fresh::Local => Freshness::Local,
    };
    let journal = session.cairn.journal_of(persistence_id.clone()).with_freshness(broken::freshness(session.bug, freshness));
    match node {
        Some(node) => journal.read_at(session.site.address(node)),
        None => journal,
    }
}

async fn replay(session: &mut Session, journal: &Journal, fresh: Fresh, node: Option<u64>) {
    let from = if session.dice.chance(0.5) { 0 } else { session.dice.number(0, 60) };
    let to = if session.dice.chance(0.6) { SequenceNumber::MAX.0 } else { session.dice.number(0, 80) };
    let max = if session.dice.chance(0.7) { SequenceNumber::MAX.0 } else { session.dice.number(0, 10) };
    let include_deleted = session.dice.chance(0.2);
    let call = Call::Replay { from, to, max, include_deleted, fresh, node, after: None };
    let id = session.recorder.begin(journal.persistence_id().as_str(), call);
    let mut request = journal.replay(from..=to).max(max);
    if include_deleted {
        request = request.include_deleted();
    }
    collect(session, journal.persistence_id(), id, request.start()).await;
}

/// Reads a replay to its end, now and then slowly, and writes down what came; the same if it came whole.
pub(super) async fn collect(
    session: &mut Session,
    persistence_id: &PersistenceId,
    id: OperationId,
    mut replay: Replay,
) -> Option<(Vec<ReadEvent>, ReplayEnd)> {
    let is_slow = session.dice.chance(0.1);
    let drained = recorder::drain(persistence_id, &mut replay, async || {
        if is_slow && session.dice.chance(0.2) && !session.until.is_over() {
            session.pause().await;
        }
    });
    let (events, failed) = match drained.await {
        Ok(drained) => drained,
        Err(wrong) => {
            session.recorder.end_wrong(id, wrong);
            return None;
        }
    };
    // What came before a stream broke is as true as the rest.
    if let Some(error) = failed
        && let Outcome::Wrong(wrong) = outcome_of(Err(error))
    {
        session.recorder.end_wrong(id, wrong);
        return None;
    }
    session.recorder.end(id, Ok(recorder::replayed(events.clone(), &replay)));
    Some((events, replay.end()?))
}

/// Follows a shard from its beginning or from anywhere, for a while.
pub(super) async fn follow(session: &mut Session) {
    let shard = u16::try_from(session.dice.number(0, u64::from(session.shards) - 1)).expect("is small");
    let after = if session.dice.chance(0.5) { 0 } else { session.dice.number(0, 200) };
    let id = session.recorder.begin("", Call::FollowShard { shard, after });
    let mut stream = session.cairn.follow_shard(ShardId(shard), Position(after)).start();
    let mut events = Vec::new();
    let count_max = session.dice.count(1, 300);
    while events.len() < count_max && !session.until.is_over() {
        match tokio::time::timeout(FOLLOW_SILENCE_MAX, stream.next()).await {
            Ok(Ok(Some(event))) if !broken::shows(session.bug, event.stored.position.0) => {}
            Ok(Ok(Some(event))) => match read_event(&event.persistence_id, &event.stored) {
                Ok(read) => events.push((event.persistence_id.as_str().to_owned(), read)),
                Err(wrong) => return session.recorder.end_wrong(id, wrong),
            },
            Ok(Err(error)) => {
                if let Outcome::Wrong(wrong) = outcome_of(Err(error)) {
                    return session.recorder.end_wrong(id, wrong);
                }
                break;
            }
            Ok(Ok(None)) | Err(_) => break,
        }
    }
    let to = stream.followed_to().0;
    session.recorder.end(id, Ok(Answer::Followed { events, to }));
}
