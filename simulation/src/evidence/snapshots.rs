//! Everything about the snapshots of one persistence id.

use std::time::Duration;

use crate::history::{Answer, Bounds, Call, Operation, Outcome, ReadSnapshot};
use crate::stamp::Stamp;

/// A save, refused ones left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Save {
    pub operation: usize,
    pub began: Duration,
    pub ended: Option<Duration>,
    pub number: u64,
    /// As the caller gave it.
    pub given: Option<i64>,
    /// As the caller was told; none if the outcome is unknown.
    pub told: Option<i64>,
    pub stamp: Stamp,
}

impl Save {
    /// Whether it was acknowledged before a moment.
    pub(crate) fn is_done_by(&self, moment: Duration) -> bool {
        self.told.is_some() && self.ended.is_some_and(|ended| ended < moment)
    }

    /// Its timestamp, if anybody can know it.
    pub(crate) fn timestamp(&self) -> Option<i64> {
        self.given.or(self.told)
    }
}

/// A load that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub operation: usize,
    pub began: Duration,
    pub ended: Duration,
    pub bounds: Bounds,
    pub found: Option<&'a ReadSnapshot>,
}

/// A deletion, refused ones left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Removal {
    pub operation: usize,
    pub began: Duration,
    pub ended: Option<Duration>,
    pub bounds: Bounds,
    pub is_done: bool,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshots<'a> {
    pub saves: Vec<Save>,
    pub loads: Vec<Load<'a>>,
    pub removals: Vec<Removal>,
}

impl<'a> Snapshots<'a> {
    pub(crate) fn take(&mut self, id: usize, operation: &'a Operation) {
        let (began, ended) = (operation.began, operation.ended);
        if matches!(operation.outcome, Outcome::NotApplied(_)) {
            return;
        }
        match &operation.call {
            Call::SaveSnapshot { number, timestamp, stamp, .. } => {
                let told = match operation.outcome {
                    Outcome::Ok(Answer::Saved { timestamp }) => Some(timestamp),
                    _ => None,
                };
                self.saves.push(Save { operation: id, began, ended, number: *number, given: *timestamp, told, stamp: *stamp });
            }
            Call::DeleteSnapshot { number, timestamp } => {
                let timestamps = if *timestamp == 0 { (i64::MIN, i64::MAX) } else { (*timestamp, *timestamp) };
                self.take_removal(id, operation, Bounds { numbers: (*number, *number), timestamps });
            }
            Call::DeleteSnapshots(bounds) => self.take_removal(id, operation, *bounds),
            Call::LoadSnapshot(bounds) => {
                let (Outcome::Ok(Answer::Loaded(found)), Some(ended)) = (&operation.outcome, ended) else { return };
                self.loads.push(Load { operation: id, began, ended, bounds: *bounds, found: found.as_ref() });
            }
            _ => {}
        }
    }

    fn take_removal(&mut self, id: usize, operation: &Operation, bounds: Bounds) {
        let is_done = matches!(operation.outcome, Outcome::Ok(_));
        self.removals.push(Removal { operation: id, began: operation.began, ended: operation.ended, bounds, is_done });
    }

    /// Whether a save may have been taken away or replaced by the time a load ended.
    pub(crate) fn may_be_gone(&self, save: &Save, by: Duration) -> bool {
        let is_later = |began: Duration, ended: Option<Duration>| began <= by && ended.is_none_or(|ended| ended >= save.began);
        let removed = self.removals.iter().any(|removal| {
            let admits = save.timestamp().is_none_or(|timestamp| removal.bounds.admit(save.number, timestamp));
            is_later(removal.began, removal.ended) && admits
        });
        let replaced = self
            .saves
            .iter()
            .any(|other| other.operation != save.operation && other.number == save.number && is_later(other.began, other.ended));
        removed || replaced
    }
}
