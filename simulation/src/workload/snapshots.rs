//! Snapshots: saved, loaded by all bounds, deleted by one and by many.

use cairn_client::{Criteria, Journal, NewSnapshot, WriterEpoch};
use cairn_machine::SequenceNumber;

use super::{Session, recorder};
use crate::fold::Fold;
use crate::history::{Answer, Call};
use crate::stamp::Stamp;

/// Bytes of a large snapshot at most: several chunks.
const LARGE_BYTES_MAX: u64 = 1_500_000;

pub(super) async fn run(session: &mut Session) {
    let persistence_id = session.pick_journal();
    let journal = session.cairn.journal_of(persistence_id);
    let number = SequenceNumber(session.dice.number(0, 40));
    match *session.dice.weighted(&[(3, "save"), (4, "load"), (1, "delete"), (1, "delete many")]) {
        "save" => save(session, &journal, number, None, None).await,
        "load" => {
            let criteria = bounds(session);
            session.recorder.load(&journal, criteria).await;
        }
        "delete" => delete(session, &journal, number).await,
        _ => delete_many(session, &journal).await,
    }
}

pub(super) async fn save(
    session: &mut Session,
    journal: &Journal,
    number: SequenceNumber,
    epoch: Option<WriterEpoch>,
    fold: Option<Fold>,
) {
    let operation = session.next_operation();
    let mut stamp = Stamp { fold, ..session.stamp(operation, 0) };
    if session.dice.chance(0.05) {
        stamp.padding = u32::try_from(session.dice.number(1, LARGE_BYTES_MAX)).expect("is small");
    }
    let timestamp = session.dice.chance(0.5).then(|| i64::try_from(session.dice.number(1, 1000)).expect("is small"));
    let call = Call::SaveSnapshot { number: number.0, timestamp, stamp, epoch: epoch.map(|epoch| epoch.0) };
    let id = session.recorder.begin(journal.persistence_id().as_str(), call);
    let payload = stamp.payload(journal.persistence_id(), number);
    let snapshot = NewSnapshot { sequence_number: number, payload, metadata: None, timestamp };
    let outcome = journal.save_snapshot(snapshot).await;
    session.recorder.end(id, outcome.map(|reply| Answer::Saved { timestamp: reply.timestamp }));
}

async fn delete(session: &mut Session, journal: &Journal, number: SequenceNumber) {
    let id = session.recorder.begin(journal.persistence_id().as_str(), Call::DeleteSnapshot { number: number.0, timestamp: 0 });
    let outcome = journal.delete_snapshot(number, None).await;
    session.recorder.end(id, outcome.map(|_| Answer::SnapshotsDeleted));
}

async fn delete_many(session: &mut Session, journal: &Journal) {
    let criteria = bounds(session);
    let call = Call::DeleteSnapshots(recorder::bounds(&criteria));
    let id = session.recorder.begin(journal.persistence_id().as_str(), call);
    let outcome = journal.delete_snapshots(criteria).await;
    session.recorder.end(id, outcome.map(|_| Answer::SnapshotsDeleted));
}

fn bounds(session: &mut Session) -> Criteria {
    let mut criteria = Criteria::LATEST;
    if session.dice.chance(0.3) {
        criteria.sequence_number_max = SequenceNumber(session.dice.number(0, 40));
    }
    if session.dice.chance(0.2) {
        criteria.sequence_number_min = SequenceNumber(session.dice.number(0, 20));
    }
    if session.dice.chance(0.2) {
        criteria.timestamp_max = i64::try_from(session.dice.number(0, 1000)).expect("is small");
    }
    if session.dice.chance(0.1) {
        criteria.timestamp_min = i64::try_from(session.dice.number(0, 500)).expect("is small");
    }
    criteria
}
