//! Who may change a journal.
//!
//! A claim or a take-over raises the journal's epoch; whoever held a lower one is fenced for ever. A sender that knows its epoch
//! is judged by it. One that does not (contract 1.7) is judged by its id: the current writer and unknown ones pass, a remembered
//! former writer does not. Reads never fence.

use crate::change::{FormerWriter, Head};
use crate::ids::{WriterEpoch, WriterId};
use crate::limits::FORMER_WRITERS_MAX;
use crate::reply::Refusal;

/// What storing a write makes of its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the journal's writer.
    Current,
    /// It becomes the journal's writer.
    TakesOver,
}

/// Whether a write may be stored as far as its writer goes.
pub(super) fn fence_write(head: &Head, writer: &WriterId, epoch: Option<WriterEpoch>) -> Result<Standing, Refusal> {
    match epoch {
        Some(epoch) => fence_epoch(head, writer, epoch).map(|()| Standing::Current),
        None if *writer == head.writer => Ok(Standing::Current),
        None if is_former(head, writer) => Err(fenced(head)),
        None => Ok(Standing::TakesOver),
    }
}

/// Whether a deletion or a save may be done as far as its sender goes. Without an epoch unknown senders pass, as operators' tools
/// are no writers, and none of them becomes the writer.
pub(super) fn fence_upkeep(head: &Head, writer: &WriterId, epoch: Option<WriterEpoch>) -> Result<(), Refusal> {
    match epoch {
        Some(epoch) => fence_epoch(head, writer, epoch),
        None if writer.is_empty() || *writer == head.writer => Ok(()),
        None if is_former(head, writer) => Err(fenced(head)),
        None => Ok(()),
    }
}

/// Whether the sender holds the journal's epoch.
fn fence_epoch(head: &Head, writer: &WriterId, epoch: WriterEpoch) -> Result<(), Refusal> {
    if epoch > head.epoch {
        // Never issued by this journal.
        return Err(epoch_moved(head));
    }
    if epoch < head.epoch || *writer != head.writer { Err(fenced(head)) } else { Ok(()) }
}

/// Makes `writer` the journal's writer and remembers the one before it.
pub(super) fn supersede(head: &mut Head, writer: &WriterId) {
    let had_writer = !head.writer.is_empty() || head.epoch.0 > 0 || head.highest.0 > 0;
    // The head outlives the message that named the writer.
    let former = std::mem::replace(&mut head.writer, writer.detached());
    if had_writer {
        if head.former_writers.len() >= FORMER_WRITERS_MAX {
            head.former_writers.remove(0);
        }
        head.former_writers.push(FormerWriter { writer: former, epoch: head.epoch });
    }
    head.epoch = WriterEpoch(head.epoch.0 + 1);
}

pub(super) fn conflict(head: &Head) -> Refusal {
    Refusal::Conflict { highest: head.highest, writer: head.writer.clone(), epoch: head.epoch }
}

pub(super) fn fenced(head: &Head) -> Refusal {
    Refusal::Fenced { epoch: head.epoch, writer: head.writer.clone(), highest: head.highest }
}

pub(super) fn epoch_moved(head: &Head) -> Refusal {
    Refusal::EpochMoved { epoch: head.epoch, writer: head.writer.clone() }
}

/// Whether it is one of the writers before the present one that are remembered.
pub(super) fn is_former(head: &Head, writer: &WriterId) -> bool {
    head.former_writers.iter().any(|former| former.writer == *writer)
}
