//! H1: a world in which too little was acknowledged, or that its faults did not reach, proves nothing, and fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::fault::Scheduled;
use crate::plan::KINDS_MIN;

/// Fewer changes than this acknowledged in a second are too few.
const ACKNOWLEDGED_PER_SECOND_MIN: f64 = 0.5;

/// What happened in a world.
pub(super) struct Happened<'a> {
    /// Changes that were acknowledged to clients.
    pub acknowledged: usize,
    /// For how long clients worked under faults; nothing if there were none.
    pub worked_for: Duration,
    /// Faults that were to happen.
    pub planned: &'a [Scheduled],
    /// Faults that did, by kind.
    pub fired: &'a BTreeMap<&'static str, u64>,
    /// How often something that was applied was looked for on disks.
    pub sought: u64,
}

impl Happened<'_> {
    /// Why the world is void, if it is.
    pub(super) fn why_void(&self) -> Option<String> {
        let Self { acknowledged, worked_for, planned, fired, sought } = self;
        if (*acknowledged as f64) < ACKNOWLEDGED_PER_SECOND_MIN * worked_for.as_secs_f64() {
            return Some(format!("only {acknowledged} changes were acknowledged"));
        }
        // Those that need room are no measure: in a small world most of them find none, however much happens.
        let (needing, sure): (Vec<&Scheduled>, Vec<&Scheduled>) =
            planned.iter().partition(|scheduled| scheduled.fault.needs_room());
        let needing: BTreeSet<_> = needing.iter().map(|scheduled| scheduled.fault.kind()).collect();
        let count: u64 = fired.iter().filter(|(kind, _)| !needing.contains(*kind)).map(|(_, count)| count).sum();
        let of = sure.len() as u64;
        if count * 2 < of {
            return Some(format!("only {count} of {of} faults fired"));
        }
        let kinds: BTreeSet<_> = planned.iter().map(|scheduled| scheduled.fault.kind()).collect();
        if fired.len() < kinds.len().min(KINDS_MIN) {
            return Some(format!("only {} of {} kinds of faults fired", fired.len(), kinds.len()));
        }
        (*sought == 0).then(|| "nothing that was applied was looked for on disks".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Cut, Fault, Loss, Who};

    const FULL: Happened<'_> =
        Happened { acknowledged: 30, worked_for: Duration::from_secs(60), planned: &[], fired: &BTreeMap::new(), sought: 1 };

    fn planned() -> Vec<Scheduled> {
        let who = Who::Node(1);
        let faults = [
            Fault::Pause { who },
            Fault::Stop { who },
            Fault::HandOver,
            Fault::Hold { who },
            Fault::Partition { who, cut: Cut::Mute },
        ];
        faults.map(|fault| Scheduled { at: Duration::ZERO, lasts: Duration::ZERO, fault }).to_vec()
    }

    #[test]
    fn a_world_is_void_if_too_little_was_acknowledged_or_looked_for() {
        assert_eq!(FULL.why_void(), None);
        assert!(Happened { acknowledged: 29, ..FULL }.why_void().is_some());
        assert!(Happened { sought: 0, ..FULL }.why_void().is_some());
    }

    #[test]
    fn a_world_is_void_if_too_few_faults_or_kinds_of_them_fired() {
        let planned = planned();
        let why = |fired: &[(&'static str, u64)]| {
            let fired = fired.iter().copied().collect();
            Happened { planned: &planned, fired: &fired, ..FULL }.why_void()
        };
        assert_eq!(why(&[("pause", 1), ("stop", 1), ("hold", 1), ("hand over", 1)]), None);
        assert!(why(&[("pause", 1), ("stop", 1)]).expect("void").contains("2 of 5 faults"));
        assert!(why(&[("pause", 2), ("stop", 1), ("hold", 1)]).expect("void").contains("3 of 5 kinds"));
    }

    #[test]
    fn faults_that_found_no_room_do_not_make_a_world_void_and_those_that_did_do_not_save_it() {
        let loss = Fault::Loss { who: Who::Node(1), loss: Loss::Old };
        let losses = [loss; 9].map(|fault| Scheduled { at: Duration::ZERO, lasts: Duration::ZERO, fault });
        let planned = [planned(), losses.to_vec()].concat();
        let why = |fired: &[(&'static str, u64)]| {
            let fired = fired.iter().copied().collect();
            Happened { planned: &planned, fired: &fired, ..FULL }.why_void()
        };
        assert_eq!(why(&[("pause", 1), ("stop", 1), ("hold", 1), ("hand over", 1)]), None);
        assert!(why(&[("pause", 1), ("stop", 1), ("old files", 9)]).expect("void").contains("2 of 5 faults"));
    }
}
