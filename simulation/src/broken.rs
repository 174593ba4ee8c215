//! Planted bugs: wrong parts around the real ones, to see that the properties catch them.
//!
//! A bug is switched on by [`crate::Plan::bug`] and by nothing else; the product does not know of it. Each is one that a node cannot
//! see by itself, so that what catches it is a property.
//!
//! Where to start reading: [`Bug`] is the list, [`Broken`] puts the wrong part in its place, one file a family says how it is wrong.
//!
//! Invariants
//! - Without a bug nothing here is part of a world.
//! - A wrong part draws nothing from the world's dice: the faults and the load stay those of the seed.

mod client;
mod files;
mod log;
mod pace;
mod rules;
mod tables;
mod wire;

use std::sync::Arc;

use cairn_node::Parts;
use serde::{Deserialize, Serialize};

pub(crate) use client::{freshness, shows, told};
pub(crate) use wire::connect as connect_over_bad_wire;

use tables::Ledger;

/// Makes the list once: the variants, their names and what is wrong.
macro_rules! bugs {
    ($($variant:ident $name:literal $what:literal,)*) => {
        /// A bug that a world can be run with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Bug {
            $(#[doc = $what] $variant,)*
        }

        impl Bug {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What is wrong.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }
    };
}

bugs! {
    StaleEpochAccepted "stale-epoch-accepted" "A writer that a newer one has superseded still writes.",
    AfterIgnored "after-ignored" "A write is stored whatever the highest number is that it expects.",
    RetryAppliedTwice "retry-applied-twice" "A write that is sent again is stored again, behind the first.",
    RetryAnsweredAnew "retry-answered-anew" "A write that is sent again is told another position and time than the first time.",
    RetryRefused "retry-refused" "A write that is sent again is refused, although the first one was stored.",
    RefusedIsStored "refused-is-stored" "A write is refused and stored all the same.",
    ConflictIsStored "conflict-answered-as-stored" "A write at a number that is taken is told that it was stored.",
    WriteSplit "atomic-write-split" "An atomic write is stored as two.",
    WriteCut "atomic-write-cut" "The last event of an atomic write is not stored.",
    MetadataDropped "metadata-dropped" "An event loses its tags and its metadata.",
    PreviousGuessed "previous-guessed" "The number before a write is told as one less, whatever it is.",
    LocalTimestamps "timestamps-from-the-local-clock" "A replica takes an event's time from its own clock.",
    ReplicaRefuses "replica-refuses-by-itself" "A replica refuses what is larger than a limit of its own.",
    HashOrder "hash-order-in-changes" "A replica makes the changes of one command in an order of its own.",
    NamesCutAtNul "names-cut-at-nul" "A persistence id ends at its first NUL.",
    ClaimSharesEpoch "claim-shares-epoch" "A claim that comes too late is granted the epoch of the other one.",
    ClaimKeepsEpoch "claim-keeps-epoch" "A claim makes a new writer and does not raise the epoch.",
    DeleteSwallowsLater "delete-swallows-later-events" "A deletion of everything hides what is written next too.",
    DeleteOneMore "delete-takes-one-more" "A deletion takes the event behind its bound too.",
    DeleteNotDone "delete-not-done" "A deletion is acknowledged and not done.",
    WatermarkGoesBack "watermark-goes-back" "A deletion up to a lower number takes back one up to a higher one.",
    DeleteTakesSnapshots "delete-takes-snapshots" "A deletion of events deletes the snapshots there.",
    HighestFromEvents "highest-from-events" "A flush forgets the highest number of a journal whose events are all gone.",
    SaveLost "save-lost" "A save of a snapshot is acknowledged and not done.",
    FirstSaveWins "first-save-wins" "A second save at a number is acknowledged and not done.",
    LocalSaveTimestamps "save-timestamps-from-the-local-clock" "A replica takes a snapshot's time from its own clock.",
    CriteriaIgnoreTime "criteria-ignore-time" "Deleting snapshots by criteria ignores their timestamps.",
    SnapshotDeleteNotDone "snapshot-delete-not-done" "A deletion of snapshots is acknowledged and not done.",
    AppliedBeforeData "applied-before-its-data" "A flush that a crash follows kept the applied entry and lost the data.",
    DataBeforeApplied "data-before-applied" "A flush that a crash follows kept the data and lost the applied entry.",
    HeadRowsLost "head-rows-lost" "A flush leaves out the heads of some journals.",
    NewestRunUnseen "newest-run-unseen" "Reads do not see the snapshots of the last flush.",
    ReclaimTakesMore "reclaim-takes-more" "Giving back the space of removed events takes the journal's snapshots.",
    RowDamaged "row-damaged" "A flush changes a bit of a snapshot.",
    CheckpointWithoutHeads "checkpoint-without-heads" "A checkpoint leaves out the heads of journals.",
    CheckpointForgetsDeletions "checkpoint-forgets-deletions" "A checkpoint says that nothing was ever deleted.",
    CheckpointWithoutSnapshots "checkpoint-without-snapshots" "A checkpoint leaves out the snapshots.",
    CheckpointBehindItsIndex "checkpoint-behind-its-index" "A checkpoint names an entry whose effects it does not hold.",
    FlushesLost "flushes-lost" "A crash takes back what was flushed, after the log was purged of it.",
    ReplayMixesStates "replay-mixes-states" "A replay has its bounds from one state of the tables and its events from the one before.",
    SyncsSkipped "syncs-skipped" "The log's disk confirms syncs that it did not make.",
    VotesLost "votes-lost" "The log keeps the first vote and none of the later ones.",
    VoteBehindLog "vote-behind-log" "A vote is confirmed at once and becomes durable with what is logged after it.",
    TornTailTaken "last-batch-taken-for-torn" "Opening a log that was not closed takes its last batch for a torn one.",
    ShortRead "short-read" "Opening a log that was not closed reads only a part of its last segment.",
    DamagedSkipped "damaged-entry-skipped" "A replica skips a command that it takes for damaged.",
    PaceStops "pace-never-wakes" "A node's consensus stands still after a while and is never woken.",
    WireDamages "wire-damages" "The way between clients and nodes changes a bit now and then.",
    FollowerSkips "follower-skips" "A follower does not show every event.",
    BarrierSkipped "read-barrier-skipped" "A linearizable read is answered with what the node has.",
    UnknownIsRefused "unknown-called-refused" "An outcome that is not known is called a refusal.",
}

impl Bug {
    /// Whether it breaks nothing but what must happen at last.
    #[must_use]
    pub fn is_of_liveness(self) -> bool {
        self == Self::PaceStops
    }

    /// The bug of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

/// The wrong part of one machine: what it remembers outlives the node.
#[derive(Clone)]
pub(crate) struct Broken {
    bug: Bug,
    ledger: Arc<Ledger>,
}

impl Broken {
    pub(crate) fn new(bug: Bug) -> Self {
        Self { bug, ledger: Arc::default() }
    }

    /// Puts the wrong part around the right one; all other parts stay as they are.
    pub(crate) fn wrap(&self, node: u64, parts: Parts) -> Parts {
        let bug = self.bug;
        let clock = parts.clock.clone();
        Parts {
            rules: rules::wrap(bug, node, clock, parts.rules),
            engine: tables::wrap(bug, parts.engine, self.ledger.clone()),
            log_fs: files::wrap(bug, parts.log_fs),
            pace: pace::wrap(bug, node, parts.pace),
            ..parts
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Detail, Plan};

    #[test]
    fn at_least_thirty_bugs_have_names_of_their_own() {
        let names: BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        assert!(names.len() >= 30);
        for bug in Bug::ALL {
            assert_eq!(Bug::named(bug.name()), Some(*bug));
        }
        assert_eq!(Bug::named("none"), None);
    }

    #[test]
    fn what_is_wrong_is_caught() {
        for bug in [Bug::RetryAnsweredAnew, Bug::WriteSplit, Bug::DeleteNotDone] {
            let is_caught = |seed| {
                let plan = Plan { bug: Some(bug), ..Plan::draw(seed) };
                crate::run(plan, Detail::Lines).expect("worlds repeat here").violation.is_some()
            };
            assert!((1..=10).any(is_caught), "{}", bug.name());
        }
    }
}
