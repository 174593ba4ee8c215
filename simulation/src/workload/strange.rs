//! Writing to a journal without having claimed it, as importers and plugins of other runtimes do: numbers of its own, gaps, atomic
//! writes that are refused beside some that are stored, the same request twice at once.

use cairn_client::Write;
use cairn_machine::{SequenceNumber, WriterEpoch, WriterId};

use super::Session;
use super::recorder::written;
use crate::history::{Answer, Call, Fresh};

pub(super) async fn run(session: &mut Session) {
    let persistence_id = session.pick_journal();
    let journal = session.cairn.journal_of(persistence_id.clone());
    let Ok(known) = session.recorder.highest(&journal, Fresh::Strong, None).await else { return };
    let writer = session.new_writer_id();
    let mut highest = known.highest.0;
    for _ in 0..session.dice.number(1, 4) {
        let write = make(session, &persistence_id, &writer, highest);
        let Some(reached) = send(session, write).await else { return };
        highest = highest.max(reached);
        session.pause().await;
    }
}

/// A write behind what is known, now and then with a gap, with a number that is taken, or with a stale epoch.
fn make(session: &mut Session, persistence_id: &cairn_machine::PersistenceId, writer: &WriterId, highest: u64) -> (Write, Call) {
    let operation = session.next_operation();
    let mut next = highest + 1;
    // A write that begins at a taken number: its first atomic write is refused, the others are not.
    if highest > 0 && session.dice.chance(0.2) {
        next = highest;
    }
    let after = session.dice.chance(0.3).then_some(highest);
    let epoch = session.dice.chance(0.1).then(|| session.dice.number(1, 3));
    let (mut atomic_writes, mut record, mut index) = (Vec::new(), Vec::new(), 0);
    for _ in 0..session.dice.count(1, 3) {
        let (mut events, mut numbered) = (Vec::new(), Vec::new());
        for _ in 0..session.dice.count(1, 3) {
            let stamp = session.stamp(operation, index);
            events.push(stamp.event(persistence_id, SequenceNumber(next)));
            numbered.push((next, stamp));
            index += 1;
            next += if session.dice.chance(0.1) { 2 } else { 1 };
        }
        atomic_writes.push(events);
        record.push(numbered);
    }
    let call = Call::Write { writer: writer.as_str().to_owned(), epoch, after, atomic_writes: record };
    let write = Write {
        persistence_id: persistence_id.clone(),
        writer: writer.clone(),
        epoch: epoch.map(WriterEpoch),
        after: after.map(SequenceNumber),
        atomic_writes,
    };
    (write, call)
}

/// Sends it, sometimes twice at once; the greatest number if it is stored.
async fn send(session: &mut Session, (write, call): (Write, Call)) -> Option<u64> {
    let greatest = write.atomic_writes.last()?.last()?.sequence_number.0;
    // Looked at and not drawn: what is drawn next is the same whether it is sent once or twice.
    let is_twice = session.dice.clone().chance(0.25);
    let once = send_once(session, write.clone(), call.clone());
    if is_twice {
        let (first, second) = tokio::join!(once, send_once(session, write, call));
        return (first && second).then_some(greatest);
    }
    once.await.then_some(greatest)
}

async fn send_once(session: &Session, write: Write, call: Call) -> bool {
    let id = session.recorder.begin(write.persistence_id.as_str(), call);
    let outcome = session.cairn.write(&write).await;
    let is_ok = outcome.is_ok();
    session.recorder.end(id, outcome.map(|reply| Answer::Written(reply.outcomes.into_iter().map(written).collect())));
    is_ok
}
