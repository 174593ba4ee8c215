//! Owning a journal: claim it or recover it, then write, delete and snapshot in the owner's name until something ends that.

use cairn_client::{Criteria, Deletion, Error, JournalWriter, NewEvent};
use cairn_machine::{PersistenceId, SequenceNumber};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::recorder::{self, stored};
use super::{Session, snapshots};
use crate::fold::Fold;
use crate::history::{Answer, Call, Fresh, Numbered};
use crate::stamp::Stamp;

/// Atomic writes of one burst at most.
const BURST_MAX: usize = 12;
/// A deletion reaches at most so far beyond the highest number.
const BEYOND_MAX: u64 = 4;

/// Who owns a journal, and what it knows of it.
struct Owner {
    writer: JournalWriter,
    state: State,
}

/// An actor's state, and the number of its last event.
struct State {
    fold: Fold,
    up_to: u64,
}

impl State {
    /// What there was before is not known.
    fn since(writer: &JournalWriter) -> Self {
        let up_to = writer.submitted().0;
        Self { fold: Fold::since(up_to), up_to }
    }

    fn take(&mut self, number: u64, stamp: Stamp) {
        self.fold.take(number, stamp);
        self.up_to = number;
    }
}

impl Owner {
    fn of(writer: JournalWriter) -> Self {
        Self { state: State::since(&writer), writer }
    }

    /// Its state, if it is that of all that it has written.
    fn fold(&self) -> Option<Fold> {
        (self.state.up_to == self.writer.submitted().0).then_some(self.state.fold)
    }
}

pub(super) async fn run(session: &mut Session) {
    let persistence_id = session.pick_journal();
    let Some(mut owner) = claim(session, &persistence_id).await else { return };
    for _ in 0..session.dice.number(1, 8) {
        if session.until.is_over() {
            return;
        }
        let goes_on = match *session.dice.weighted(&[(6, "burst"), (2, "several"), (1, "delete"), (1, "snapshot")]) {
            "burst" => burst(session, &mut owner).await,
            "several" => several(session, &mut owner).await,
            "delete" => {
                delete(session, &owner.writer).await;
                true
            }
            _ => {
                let (writer, fold) = (&owner.writer, owner.fold());
                snapshots::save(session, writer.journal(), writer.submitted(), writer.epoch(), fold).await;
                true
            }
        };
        if !goes_on && !resume(session, &mut owner).await {
            return;
        }
        session.pause().await;
    }
}

async fn claim(session: &mut Session, persistence_id: &PersistenceId) -> Option<Owner> {
    let name = session.new_writer_id();
    let journal = session.cairn.journal_of(persistence_id.clone());
    let claiming = session.recorder.begin(persistence_id.as_str(), Call::Claim { writer: name.as_str().to_owned() });
    if session.dice.chance(0.7) {
        let claimed = journal.claim_as(name).await;
        let answer = claimed.as_ref().map(recorder::claimed).map_err(Clone::clone);
        session.recorder.end(claiming, answer);
        return claimed.ok().map(Owner::of);
    }
    let began = session.recorder.now();
    let recovered = journal.recover().claim_as(name).start().await;
    let answer = recovered.as_ref().map(|recovered| recorder::claimed(recovered.writer.as_ref().expect("asked for a claim")));
    session.recorder.end(claiming, answer.map_err(Clone::clone));
    let recovered = recovered.ok()?;
    let mut owner = Owner::of(recovered.writer?);
    let newest = recorder::bounds(&Criteria::LATEST);
    let loading = session.recorder.begin_at(began, persistence_id.as_str(), Call::LoadSnapshot(newest));
    let after = session.recorder.end_load(loading, persistence_id, recovered.snapshot.as_ref());
    let begin = after.map_or(0, |snapshot| snapshot.number);
    let call = Call::Replay {
        from: begin + 1,
        to: SequenceNumber::MAX.0,
        max: SequenceNumber::MAX.0,
        include_deleted: false,
        fresh: Fresh::Strong,
        node: None,
        after,
    };
    // What is replayed follows from the snapshot, and may be as old as the call.
    let replaying = session.recorder.begin_at(began, persistence_id.as_str(), call);
    let whole = super::read::collect(session, persistence_id, replaying, recovered.events).await;
    if let Some((events, end)) = whole.filter(|(_, end)| end.deleted_to.0 <= begin) {
        let fold = after.and_then(|snapshot| snapshot.stamp.fold).unwrap_or(Fold::since(begin));
        owner.state = State { fold, up_to: begin };
        events.iter().for_each(|event| owner.state.take(event.number, event.stamp));
        owner.state.up_to = end.highest.0;
    }
    Some(owner)
}

/// Many atomic writes in flight at once; false if the writer writes no more.
async fn burst(session: &mut Session, owner: &mut Owner) -> bool {
    let Owner { writer, state } = owner;
    let mut submitted_all = Vec::new();
    let mut flying = FuturesUnordered::new();
    let mut goes_on = true;
    for _ in 0..session.dice.count(1, BURST_MAX) {
        let count = if session.dice.chance(0.7) { 1 } else { session.dice.count(2, 6) };
        let (events, numbered) = make(session, writer, count);
        submitted_all.extend_from_slice(&numbered);
        let id = session.recorder.begin_write(writer, vec![numbered]);
        match writer.submit_all(events).await {
            Ok(submitted) => flying.push(async move { (id, submitted.await) }),
            Err(error) => {
                session.recorder.end(id, Err(error));
                goes_on = false;
                break;
            }
        }
    }
    while let Some((id, outcome)) = flying.next().await {
        goes_on &= outcome.is_ok();
        session.recorder.end(id, outcome.map(|appended| Answer::Written(vec![stored(appended)])));
    }
    if goes_on {
        submitted_all.into_iter().for_each(|(number, stamp)| state.take(number, stamp));
    }
    goes_on
}

/// Several atomic writes in one request.
async fn several(session: &mut Session, owner: &mut Owner) -> bool {
    let Owner { writer, state } = owner;
    let mut next = writer.submitted().0 + 1;
    let operation = session.next_operation();
    let mut index = 0;
    let (mut requests, mut records) = (Vec::new(), Vec::new());
    for _ in 0..session.dice.count(1, 4) {
        let (mut events, mut numbered) = (Vec::new(), Vec::new());
        for _ in 0..session.dice.count(1, 3) {
            let stamp = session.stamp(operation, index);
            events.push(stamp.new_event(writer.persistence_id(), SequenceNumber(next)));
            numbered.push((next, stamp));
            (next, index) = (next + 1, index + 1);
        }
        requests.push(events);
        records.push(numbered);
    }
    let submitted_all = records.concat();
    let id = session.recorder.begin_write(writer, records);
    let outcome = writer.write(requests).await;
    let goes_on = outcome.is_ok();
    session.recorder.end(id, outcome.map(|appended| Answer::Written(appended.into_iter().map(stored).collect())));
    if goes_on {
        submitted_all.into_iter().for_each(|(number, stamp)| state.take(number, stamp));
    }
    goes_on
}

/// The next events of a writer, with their record.
fn make(session: &mut Session, writer: &JournalWriter, count: usize) -> (Vec<NewEvent>, Vec<Numbered>) {
    let operation = session.next_operation();
    let first = writer.submitted().0 + 1;
    (0..count)
        .map(|index| {
            let stamp = session.stamp(operation, index);
            let number = first + index as u64;
            (stamp.new_event(writer.persistence_id(), SequenceNumber(number)), (number, stamp))
        })
        .unzip()
}

async fn delete(session: &mut Session, writer: &JournalWriter) {
    let highest = writer.submitted().0;
    let to = if session.dice.chance(0.2) { SequenceNumber::MAX.0 } else { session.dice.number(0, highest + BEYOND_MAX) };
    let permanent = session.dice.chance(0.4);
    let call = Call::DeleteTo { to, permanent, epoch: writer.epoch().map(|epoch| epoch.0) };
    let id = session.recorder.begin(writer.persistence_id().as_str(), call);
    let deletion = if permanent { Deletion::Permanent } else { Deletion::Logical };
    let outcome = writer.journal().delete_to(SequenceNumber(to), deletion).await;
    session.recorder.end(id, outcome.map(|reply| Answer::Deleted { to: reply.deleted_to.0 }));
}

/// Begins anew after an error; false if the journal belongs to another one by now, or nobody answers.
async fn resume(session: &mut Session, owner: &mut Owner) -> bool {
    let Owner { writer, state } = owner;
    for _ in 0..3 {
        if session.until.is_over() {
            return false;
        }
        let call = Call::Claim { writer: "(resumed)".to_owned() };
        let id = session.recorder.begin(writer.persistence_id().as_str(), call);
        let resumed = writer.resume().await;
        session.recorder.end(id, resumed.clone().map(|_| recorder::claimed(writer)));
        match resumed {
            Ok(_) => {
                *state = State::since(writer);
                return true;
            }
            Err(Error::Unknown { .. } | Error::Unavailable { .. }) => session.pause().await,
            Err(_) => return false,
        }
    }
    false
}
