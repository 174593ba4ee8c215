//! Writes and claims, decided wrongly.

use cairn_machine::{
    AtomicWrite, Change, Claim, ClaimReply, Command, Decision, Event, Head, Position, Refusal, Reply, SequenceNumber,
    StoredWrite, Timestamp, View, Write, WriteOutcome, WriterEpoch,
};
use cairn_storage::TablesError;
use cairn_storage::tables::Applying;

use super::{Decided, WithHead, without_changes};

/// What one replica takes at most, in bytes.
const LARGE_BYTES: usize = 250;

pub(super) fn accept_stale(view: &Applying<'_>, write: &Write, moment: Timestamp, decided: Decision) -> Decided {
    let is_stale = match view.head(&write.persistence_id)? {
        Some(head) => write.epoch.is_some_and(|epoch| epoch < head.epoch),
        None => false,
    };
    if is_stale { in_the_owners_name(view, write, moment) } else { Ok(decided) }
}

/// Decides as if the sender were the journal's writer; who the writer is stays as it is.
fn in_the_owners_name(view: &Applying<'_>, write: &Write, moment: Timestamp) -> Decided {
    let command = Command::Write(write.clone());
    let Some(real) = view.head(&write.persistence_id)? else { return cairn_machine::decide(view, &command, moment) };
    let epoch = write.epoch.unwrap_or(real.epoch);
    let head = Head { writer: write.writer.clone(), epoch, former_writers: Vec::new(), ..real.clone() };
    let mut decided = cairn_machine::decide(&WithHead { view, head: Some(head), knows_writes: true }, &command, moment)?;
    for head in heads(&mut decided) {
        head.writer = real.writer.clone();
        head.epoch = real.epoch;
        head.former_writers = real.former_writers.clone();
    }
    Ok(decided)
}

pub(super) fn ignore_after(view: &Applying<'_>, write: &Write, moment: Timestamp) -> Decided {
    cairn_machine::decide(view, &Command::Write(Write { after: None, ..write.clone() }), moment)
}

pub(super) fn apply_twice(view: &Applying<'_>, write: &Write, moment: Timestamp, decided: Decision) -> Decided {
    let Some(head) = view.head(&write.persistence_id)? else { return Ok(decided) };
    if !is_retry(&decided) {
        return Ok(decided);
    }
    let mut next = head.highest.0 + 1;
    let mut atomic_writes = Vec::new();
    for atomic_write in &write.atomic_writes {
        let mut events = decoded(atomic_write.first(), atomic_write.count(), atomic_write.body())?;
        for event in &mut events {
            event.sequence_number = SequenceNumber(next);
            next += 1;
        }
        atomic_writes.push(encoded(&events)?);
    }
    let again = in_the_owners_name(view, &Write { after: None, epoch: None, atomic_writes, ..write.clone() }, moment)?;
    Ok(Decision { changes: again.changes, ..decided })
}

pub(super) fn answer_anew(view: &Applying<'_>, moment: Timestamp, mut decided: Decision) -> Decision {
    if is_retry(&decided) {
        for outcome in outcomes(&mut decided) {
            if let WriteOutcome::Stored { position, timestamp, .. } = outcome {
                *position = view.shard().next_position;
                *timestamp = moment;
            }
        }
    }
    decided
}

pub(super) fn refuse_retry(view: &Applying<'_>, write: &Write, moment: Timestamp) -> Decided {
    let mut head = view.head(&write.persistence_id)?;
    if let Some(head) = &mut head {
        head.last_write = None;
    }
    cairn_machine::decide(&WithHead { view, head, knows_writes: false }, &Command::Write(write.clone()), moment)
}

pub(super) fn store_refused(view: &Applying<'_>, write: &Write, moment: Timestamp, mut decided: Decision) -> Decided {
    let is_refusal = |outcome: &WriteOutcome| {
        matches!(outcome, WriteOutcome::Refused(Refusal::Conflict { .. } | Refusal::Fenced { .. } | Refusal::EpochMoved { .. }))
    };
    if !decided.changes.is_empty() || !outcomes(&mut decided).iter().all(is_refusal) {
        return Ok(decided);
    }
    let forced = in_the_owners_name(view, &Write { after: None, ..write.clone() }, moment)?;
    Ok(Decision { changes: forced.changes, ..decided })
}

pub(super) fn tell_stored(view: &Applying<'_>, write: &Write, moment: Timestamp, mut decided: Decision) -> Decision {
    let position = view.shard().next_position;
    for (outcome, atomic_write) in outcomes(&mut decided).iter_mut().zip(&write.atomic_writes) {
        if matches!(outcome, WriteOutcome::Refused(Refusal::Conflict { .. })) {
            let previous = SequenceNumber(atomic_write.first().0 - 1);
            *outcome = WriteOutcome::Stored { previous, position, timestamp: moment };
        }
    }
    decided
}

pub(super) fn split(decided: Decision) -> Decided {
    let mut changes = Vec::new();
    for change in decided.changes {
        match change {
            Change::Append(write) if write.count > 1 => {
                let events = decoded(write.first, write.count, &write.body)?;
                let (first, rest) = events.split_at(1);
                let first = part_of(&write, write.previous, write.position, first)?;
                let rest = part_of(&write, first.last, Position(write.position.0 + 1), rest)?;
                changes.extend([Change::Append(first), Change::Append(rest)]);
            }
            other => changes.push(other),
        }
    }
    Ok(Decision { changes, ..decided })
}

pub(super) fn cut(mut decided: Decision) -> Decided {
    // Only the last one of a command: the positions behind it are not given out yet.
    if let Some(Change::Append(write)) = decided.changes.last_mut()
        && write.count > 1
    {
        let events = decoded(write.first, write.count, &write.body)?;
        // Its last number stays, as if its writer had left it out.
        let last = write.last;
        *write = StoredWrite { last, ..part_of(write, write.previous, write.position, &events[..events.len() - 1])? };
    }
    Ok(decided)
}

pub(super) fn drop_metadata(mut decided: Decision) -> Decided {
    for change in &mut decided.changes {
        if let Change::Append(write) = change {
            let mut events = decoded(write.first, write.count, &write.body)?;
            for event in &mut events {
                event.metadata = None;
                event.tags.clear();
            }
            *write = part_of(write, write.previous, write.position, &events)?;
        }
    }
    Ok(decided)
}

pub(super) fn guess_previous(write: &Write, mut decided: Decision) -> Decision {
    for (outcome, atomic_write) in outcomes(&mut decided).iter_mut().zip(&write.atomic_writes) {
        if let WriteOutcome::Stored { previous, .. } = outcome {
            *previous = SequenceNumber(atomic_write.first().0 - 1);
        }
    }
    decided
}

pub(super) fn refuse_large(view: &Applying<'_>, write: &Write, mut decided: Decision) -> Decided {
    if write.atomic_writes.iter().all(|atomic_write| atomic_write.body().len() < LARGE_BYTES) {
        return Ok(decided);
    }
    let head = view.head(&write.persistence_id)?.unwrap_or_default();
    let refusal = Refusal::Conflict { highest: head.highest, writer: head.writer, epoch: head.epoch };
    outcomes(&mut decided).fill(WriteOutcome::Refused(refusal));
    Ok(without_changes(decided))
}

pub(super) fn share_epoch(view: &Applying<'_>, claim: &Claim, mut decided: Decision) -> Decided {
    if let (Reply::Claim(answer @ Err(Refusal::EpochMoved { .. })), Some(head)) =
        (&mut decided.reply, view.head(&claim.persistence_id)?)
    {
        *answer = Ok(ClaimReply { epoch: head.epoch, highest: head.highest });
    }
    Ok(decided)
}

pub(super) fn keep_epoch(mut decided: Decision) -> Decision {
    let mut kept = None;
    for head in heads(&mut decided).filter(|head| head.epoch.0 > 1) {
        head.epoch = WriterEpoch(head.epoch.0 - 1);
        kept = Some(head.epoch);
    }
    if let (Reply::Claim(Ok(granted)), Some(kept)) = (&mut decided.reply, kept) {
        granted.epoch = kept;
    }
    decided
}

/// Whether everything that is told to be stored was stored before.
fn is_retry(decided: &Decision) -> bool {
    let Reply::Write(reply) = &decided.reply else { return false };
    decided.changes.is_empty() && reply.outcomes.iter().any(|outcome| matches!(outcome, WriteOutcome::Stored { .. }))
}

fn outcomes(decided: &mut Decision) -> &mut [WriteOutcome] {
    match &mut decided.reply {
        Reply::Write(reply) => &mut reply.outcomes,
        _ => &mut [],
    }
}

pub(super) fn heads(decided: &mut Decision) -> impl Iterator<Item = &mut Head> {
    decided.changes.iter_mut().filter_map(|change| match change {
        Change::Head { head, .. } => Some(head),
        _ => None,
    })
}

/// Some of a write's events as a write of their own.
fn part_of(
    write: &StoredWrite,
    previous: SequenceNumber,
    position: Position,
    events: &[Event],
) -> Result<StoredWrite, TablesError> {
    let encoded = encoded(events)?;
    Ok(StoredWrite {
        previous,
        first: encoded.first(),
        last: encoded.last(),
        count: encoded.count(),
        position,
        body: encoded.body().clone(),
        ..write.clone()
    })
}

fn decoded(first: SequenceNumber, count: u32, body: &bytes::Bytes) -> Result<Vec<Event>, TablesError> {
    Ok(AtomicWrite::decode_events(first, count, body)?)
}

fn encoded(events: &[Event]) -> Result<AtomicWrite, TablesError> {
    Ok(AtomicWrite::new(events).expect("what was legal is legal in parts"))
}
