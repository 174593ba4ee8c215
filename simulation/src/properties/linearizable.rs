//! J6 once more, by an independent checker: a journal's writes, deletions and fresh reads of its edges fit one order that agrees with real
//! time.
//!
//! Herlihy and Wing, "Linearizability"; the search is Wing and Gong's as a library has it (`todc-utils`), which knows nothing of Cairn. It
//! takes exponential time in the worst case, so it has a budget, and what it does not decide within that it does not decide.

use std::cell::Cell;

use todc_utils::{Action, History, Specification, WGLChecker};

use crate::evidence::{Evidence, Fate, Journal};

/// How often the rules below may be asked for one journal.
const BUDGET: u32 = 60_000;
/// Of a journal with more operations than this, the first ones are judged: what begins a linearizable history is one.
const OPERATIONS_MAX: usize = 400;

thread_local! {
    /// What is left of the budget; the library has no bound of its own.
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

/// What the checker says of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    NotLinearizable,
    /// The budget did not suffice.
    Undecided,
}

/// Asks the checker about one journal.
pub(crate) fn check(evidence: &Evidence<'_>, persistence_id: &str) -> Verdict {
    let Some(journal) = evidence.journals.get(persistence_id) else { return Verdict::Linearizable };
    search(beginning(operations(evidence, journal), OPERATIONS_MAX))
}

/// The operations that began first, as the world stood when the next one began: what had not ended then has no outcome yet.
fn beginning(mut done: Vec<Done>, count_max: usize) -> Vec<Done> {
    done.sort_by_key(|operation| operation.began);
    let Some(cut) = done.get(count_max).map(|next| next.began) else { return done };
    done.truncate(count_max);
    let at_cut = |operation: Done| {
        if operation.ended.is_none_or(|ended| ended < cut) {
            return Some(operation);
        }
        let step = match operation.step {
            Step::Stored { previous, first, last, .. } => Step::MayStore { after: Some(previous), first, last },
            Step::Deletes { to } => Step::MayDelete { to },
            Step::Edges { .. } | Step::Told { .. } => return None,
            step @ (Step::MayStore { .. } | Step::MayDelete { .. } | Step::End) => step,
        };
        Some(Done { ended: None, step, ..operation })
    };
    done.into_iter().filter_map(at_cut).collect()
}

/// One operation with its time in the world, in nanoseconds; no end = unknown outcome.
struct Done {
    began: u128,
    ended: Option<u128>,
    step: Step,
}

/// What an operation did, as its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It was stored behind `previous`, or it had been: the same write was sent more than once.
    Stored { previous: u64, first: u64, last: u64, may_repeat: bool },
    /// It may have been stored.
    MayStore { after: Option<u64>, first: u64, last: u64 },
    /// Both edges were read.
    Edges { highest: u64, deleted_to: Option<u64> },
    /// It deleted.
    Deletes { to: u64 },
    /// It was told the watermark: by the last of its tries, while an earlier one may have deleted already, and others between the two.
    Told { deleted_to: u64 },
    /// It may have deleted.
    MayDelete { to: u64 },
    /// All operations whose outcome is known have ended: what has not happened yet never does.
    End,
}

/// A journal's edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Edges {
    highest: u64,
    deleted_to: u64,
    ended: bool,
}

struct Edged;

impl Specification for Edged {
    type State = Edges;
    type Operation = Step;

    fn init() -> Edges {
        Edges::default()
    }

    fn apply(step: &Step, state: &Edges) -> (bool, Edges) {
        let left = LEFT.get();
        LEFT.set(left.saturating_sub(1));
        let next = if left == 0 { None } else { applied(*step, *state) };
        (next.is_some(), next.unwrap_or(*state))
    }
}

/// The edges after a step; none if it does not fit.
fn applied(step: Step, state: Edges) -> Option<Edges> {
    let deleted = |to: u64| Edges { deleted_to: state.deleted_to.max(to.min(state.highest)), ..state };
    match step {
        Step::Stored { previous, last, .. } if state.highest == previous => Some(Edges { highest: last, ..state }),
        Step::Stored { last, may_repeat, .. } => (may_repeat && state.highest >= last).then_some(state),
        Step::MayStore { .. } | Step::MayDelete { .. } if state.ended => Some(state),
        Step::MayStore { after, first, last } => {
            let fits = after.is_none_or(|after| after == state.highest) && first > state.highest;
            fits.then_some(Edges { highest: last, ..state })
        }
        Step::Edges { highest, deleted_to } => {
            let fits = highest == state.highest && deleted_to.is_none_or(|to| to == state.deleted_to);
            fits.then_some(state)
        }
        Step::Deletes { to } => Some(deleted(to)),
        Step::Told { deleted_to } => (deleted_to == state.deleted_to).then_some(state),
        Step::MayDelete { to } => Some(deleted(to)).filter(|next| *next != state),
        Step::End => Some(Edges { ended: true, ..state }),
    }
}

fn search(done: Vec<Done>) -> Verdict {
    // An operation that ended at the very time another began came first or not: the milder reading is that they met.
    let mut times: Vec<(u128, bool, usize)> = Vec::with_capacity(done.len() * 2);
    for (process, operation) in done.iter().enumerate() {
        times.push((operation.began, false, process));
        times.push((operation.ended.unwrap_or(u128::MAX), true, process));
    }
    times.sort_unstable();
    let mut actions: Vec<(usize, Action<Step>)> = Vec::with_capacity(times.len() + 2);
    let end = done.len();
    for (at, is_response, process) in times {
        if at == u128::MAX && actions.iter().all(|(process, _)| *process != end) {
            actions.push((end, Action::Call(Step::End)));
            actions.push((end, Action::Response(Step::End)));
        }
        let step = done[process].step;
        actions.push((process, if is_response { Action::Response(step) } else { Action::Call(step) }));
    }
    if actions.is_empty() {
        return Verdict::Linearizable;
    }
    LEFT.set(BUDGET);
    match (WGLChecker::<Edged>::is_linearizable(History::from_actions(actions)), LEFT.get()) {
        (true, _) => Verdict::Linearizable,
        (false, 0) => Verdict::Undecided,
        (false, _) => Verdict::NotLinearizable,
    }
}

/// A deletion that was acknowledged: of everything up to what it was told, where that is less than was asked for.
fn deleted(began: u128, ended: Option<u128>, to: u64, told: u64) -> [Done; 2] {
    [Step::Deletes { to: to.min(told) }, Step::Told { deleted_to: told }].map(|step| Done { began, ended, step })
}

fn operations(evidence: &Evidence<'_>, journal: &Journal<'_>) -> Vec<Done> {
    let mut done = Vec::new();
    let twins = crate::evidence::by_stamp(journal);
    for attempt in &journal.attempts {
        let stamp = attempt.events[0].1;
        let may_repeat = twins.get(&stamp).is_some_and(|same| same.len() > 1);
        let (began, mut ended) = (attempt.began.as_nanos(), attempt.ended.map(|ended| ended.as_nanos()));
        let step = match attempt.fate {
            Fate::Not(_) => continue,
            Fate::Stored { previous, .. } => Step::Stored { previous, first: attempt.first(), last: attempt.last(), may_repeat },
            Fate::Unknown => {
                // Who reads another write at its number knows that it was never stored.
                if journal.known.get(&attempt.first()).is_some_and(|(_, event)| event.stamp != stamp) {
                    continue;
                }
                ended = None;
                let after = match &evidence.operations[attempt.operation].call {
                    crate::history::Call::Write { after, atomic_writes, .. }
                        if atomic_writes.first().is_some_and(|first| first[0].1 == stamp) =>
                    {
                        *after
                    }
                    _ => None,
                };
                Step::MayStore { after, first: attempt.first(), last: attempt.last() }
            }
        };
        done.push(Done { began, ended, step });
    }
    for deletion in &journal.deletions {
        let began = deletion.began.as_nanos();
        let ended = deletion.ended.filter(|_| deletion.told.is_some()).map(|ended| ended.as_nanos());
        match deletion.told {
            Some(told) => done.extend(deleted(began, ended, deletion.to, told)),
            None => done.push(Done { began, ended, step: Step::MayDelete { to: deletion.to } }),
        }
    }
    for seen in journal.highest_seen.iter().filter(|seen| seen.is_exact) {
        let same = |other: &&crate::evidence::Seen| other.operation == seen.operation && other.is_exact;
        let deleted_to = journal.watermark_seen.iter().find(same).map(|seen| seen.at_least);
        let step = Step::Edges { highest: seen.at_least, deleted_to };
        done.push(Done { began: seen.began.as_nanos(), ended: Some(seen.ended.as_nanos()), step });
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(began: u128, ended: Option<u128>, step: Step) -> Done {
        Done { began, ended, step }
    }

    fn stored(previous: u64) -> Step {
        Step::Stored { previous, first: previous + 1, last: previous + 1, may_repeat: false }
    }

    fn read(highest: u64) -> Step {
        Step::Edges { highest, deleted_to: None }
    }

    #[test]
    fn a_read_that_is_older_than_an_acknowledged_write_is_caught() {
        let stale = vec![done(0, Some(1), stored(0)), done(2, Some(3), read(0))];
        assert_eq!(search(stale), Verdict::NotLinearizable);
        let fresh = vec![done(0, Some(1), stored(0)), done(2, Some(3), read(1))];
        assert_eq!(search(fresh), Verdict::Linearizable);
    }

    #[test]
    fn an_unknown_write_may_have_happened_late_or_never_but_not_twice() {
        let unknown = || done(0, None, Step::MayStore { after: None, first: 1, last: 1 });
        assert_eq!(search(vec![unknown(), done(1, Some(2), read(0))]), Verdict::Linearizable);
        assert_eq!(search(vec![unknown(), done(1, Some(2), read(0)), done(3, Some(4), read(1))]), Verdict::Linearizable);
        assert_eq!(search(vec![unknown(), done(1, Some(2), read(1)), done(3, Some(4), read(0))]), Verdict::NotLinearizable);
    }

    #[test]
    fn a_deletion_is_clamped_and_never_taken_back() {
        let edges = |deleted_to| done(4, Some(5), Step::Edges { highest: 1, deleted_to: Some(deleted_to) });
        let history = |told, seen| {
            let [deletes, is_told] = deleted(2, Some(3), 9, told);
            vec![done(0, Some(1), stored(0)), deletes, is_told, edges(seen)]
        };
        assert_eq!(search(history(1, 1)), Verdict::Linearizable);
        assert_eq!(search(history(9, 9)), Verdict::NotLinearizable);
        assert_eq!(search(history(1, 0)), Verdict::NotLinearizable);
    }

    #[test]
    fn a_deletion_that_is_tried_again_is_told_what_others_deleted_meanwhile() {
        let edges = |at, deleted_to| done(at, Some(at + 1), Step::Edges { highest: 9, deleted_to: Some(deleted_to) });
        let history = |seen_before: u64, told: u64| {
            let all = Step::Stored { previous: 0, first: 1, last: 9, may_repeat: false };
            let mut history = vec![done(0, Some(1), all), edges(4, seen_before), edges(8, 6)];
            history.extend(deleted(2, Some(11), 3, told));
            history.extend(deleted(6, Some(7), 6, 6));
            history
        };
        assert_eq!(search(history(3, 6)), Verdict::Linearizable, "its first try had deleted");
        assert_eq!(search(history(0, 6)), Verdict::Linearizable, "the last one did");
        assert_eq!(search(history(3, 7)), Verdict::NotLinearizable, "nobody deleted so much");
    }

    #[test]
    fn what_begins_a_history_is_judged_as_the_world_stood_then() {
        let all = || {
            vec![done(0, Some(1), stored(0)), done(2, Some(9), stored(1)), done(3, Some(4), read(2)), done(5, Some(6), read(0))]
        };
        assert_eq!(search(beginning(all(), 3)), Verdict::Linearizable);
        assert_eq!(search(beginning(all(), 4)), Verdict::NotLinearizable);
    }

    #[test]
    fn two_writes_at_the_same_time_are_ordered_by_what_they_were_told() {
        assert_eq!(search(vec![done(0, Some(9), stored(1)), done(0, Some(9), stored(0))]), Verdict::Linearizable);
        assert_eq!(search(vec![done(0, Some(1), stored(1)), done(2, Some(9), stored(0))]), Verdict::NotLinearizable);
    }
}
