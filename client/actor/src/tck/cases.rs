//! Every case by name. This one list makes [`cases`] and the tests of [`store_tests!`](crate::store_tests).

use futures::future::LocalBoxFuture;

use super::sample::Examined;
use super::subject::Capability;
use super::violation::Verdict;
use super::{beyond, journal, performance, snapshots};

/// One claim about a store.
#[derive(Clone, Copy)]
pub struct Case {
    /// The claim.
    pub name: &'static str,
    /// What a store must be able to do for it.
    pub needs: &'static [Capability],
    group: Group,
    pub(super) run: Run,
}

pub(super) type Run = for<'a, 'b> fn(&'a Examined<'b>) -> LocalBoxFuture<'a, Verdict>;

#[derive(Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "they are called like the modules with the cases")]
enum Group {
    journal,
    beyond,
    snapshots,
    performance,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("needs", &self.needs).finish_non_exhaustive()
    }
}

fn of(is_meant: impl Fn(Group) -> bool) -> Vec<Case> {
    all().into_iter().filter(|case| is_meant(case.group)).collect()
}

/// Every case but those of performance.
#[must_use]
pub fn cases() -> Vec<Case> {
    of(|group| group != Group::performance)
}

/// The cases of journals.
///
/// Akka: `JournalSpec`.
#[must_use]
pub fn journal_cases() -> Vec<Case> {
    of(|group| matches!(group, Group::journal | Group::beyond))
}

/// The cases of snapshot stores.
///
/// Akka: `SnapshotStoreSpec`.
#[must_use]
pub fn snapshot_cases() -> Vec<Case> {
    of(|group| group == Group::snapshots)
}

/// The cases of performance.
///
/// Akka: `JournalPerfSpec`.
#[must_use]
pub fn performance_cases() -> Vec<Case> {
    of(|group| group == Group::performance)
}

fn all() -> Vec<Case> {
    crate::store_tests!(@list cases)
}

/// The case with a name, for the tests that [`store_tests!`](crate::store_tests) makes.
///
/// # Panics
/// If there is none.
#[doc(hidden)]
#[must_use]
pub fn case_named(name: &str) -> Case {
    all().into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("there is no case {name}"))
}

/// Makes a test of each case but those of performance, for a store that an expression makes anew for each.
///
/// ```
/// # use cairn_actor::{store::Store, tck::Subject};
/// # use cairn_client::{Cairn, memory::MemoryCairn};
/// # struct InMemory(Cairn);
/// # impl Subject for InMemory { fn store(&self) -> &dyn Store { &self.0 } }
/// mod the_store_in_memory {
///     # use super::*;
///     cairn_actor::store_tests!(InMemory(MemoryCairn::new().client()));
/// }
/// # fn main() {}
/// ```
///
/// The expression may await. Attributes before it are those of each test; without any it is `#[tokio::test]`.
#[macro_export]
macro_rules! store_tests {
    (@each cases $($group:ident $name:ident [$($need:ident),*];)*) => {
        vec![$(Case {
            name: stringify!($name),
            needs: &[$(Capability::$need),*],
            group: Group::$group,
            run: |examined| Box::pin($group::$name(examined)),
        }),*]
    };
    (@each ($attributes:tt $subject:tt) $($group:ident $name:ident $needs:tt;)*) => {
        $($crate::store_tests! { @test $group $name $attributes $subject })*
    };
    (@test performance $name:ident $attributes:tt $subject:tt) => {};
    (@test $group:ident $name:ident ($(#[$attribute:meta])+) ($subject:expr)) => {
        $(#[$attribute])+
        async fn $name() {
            let subject = $subject;
            $crate::tck::examine(&subject, &$crate::tck::case_named(stringify!($name))).await.assert_passed();
        }
    };
    (@list $mode:tt) => {
        $crate::store_tests! {
            @each $mode
            journal a_replay_without_bounds_gives_every_event [];
            journal a_replay_begins_at_its_lower_bound [];
            journal a_replay_ends_at_its_upper_bound [];
            journal a_replay_ends_after_as_many_events_as_were_asked_for [];
            journal a_replay_keeps_both_bounds [];
            journal a_replay_keeps_both_bounds_and_a_count [];
            journal a_replay_between_equal_bounds_gives_one_event [];
            journal a_replay_of_at_most_one_gives_one_event [];
            journal a_replay_of_at_most_none_gives_no_event [];
            journal a_replay_whose_lower_bound_is_above_the_upper_one_gives_no_event [];
            journal a_journal_that_was_never_written_has_no_events_and_the_highest_number_0 [];
            journal a_deletion_takes_the_events_up_to_its_number_and_can_be_repeated [];
            journal the_highest_number_outlives_the_deletion_of_some_events [];
            journal the_highest_number_outlives_the_deletion_of_all_events [];
            journal a_deletion_in_a_journal_that_was_never_written_succeeds [];
            journal a_replay_from_the_last_deleted_event_gives_what_is_left [];
            journal a_replay_that_ends_among_deleted_events_gives_none [];
            journal a_replay_that_ends_at_the_last_deleted_event_gives_none [];
            journal a_replay_from_the_first_event_that_is_left_gives_what_is_left [];
            journal a_replay_over_a_deleted_prefix_gives_what_is_left_of_its_range [DeletedPrefix];
            journal a_deleted_prefix_takes_nothing_from_the_count_of_a_replay [DeletedPrefix];
            journal what_cannot_be_stored_is_refused_for_ever_and_what_comes_beside_it_is_stored [Rejection];
            journal an_atomic_write_that_is_refused_takes_none_of_the_same_call_with_it [Duplicates];
            journal serializer_manifest_and_bytes_come_back_as_they_were_written [Serialization];
            journal the_manifest_of_an_event_adapter_is_kept_beside_that_of_the_serializer [Serialization];
            journal tags_are_kept_apart_from_the_payload [];
            journal metadata_of_an_event_comes_back_as_it_was_written [Metadata];
            journal the_events_of_an_atomic_write_are_stored_together [AtomicWrites];
            journal a_write_is_seen_by_whoever_reads_after_its_answer [];
            journal a_replay_that_is_followed_shows_what_is_there_and_then_what_comes [Follow];
            journal names_and_payloads_of_every_kind_are_taken [];
            journal a_recovery_tells_the_highest_number_whatever_its_bounds_are [];
            beyond the_deletion_of_all_events_takes_none_that_is_written_later [];
            beyond a_deletion_beyond_the_highest_number_does_not_raise_it [];
            beyond what_was_stored_and_what_was_deleted_outlive_a_restart [Restart];
            beyond a_gap_that_a_rejected_event_left_is_legal [];
            beyond the_number_of_a_last_event_that_was_rejected_is_used_again_after_a_restart_of_the_actor [];
            beyond a_taken_number_is_refused_to_another_writer_and_what_is_stored_stays [Duplicates];
            beyond a_taken_number_is_refused_to_its_own_writer_if_the_event_is_another [Duplicates];
            beyond the_same_write_again_is_stored_once_and_gets_the_first_answer [Duplicates];
            beyond a_superseded_writer_is_fenced_whatever_its_number_is [Claims];
            beyond a_claim_in_an_empty_journal_fences_too [Claims];
            beyond deletions_and_saves_of_a_superseded_writer_are_fenced [Claims];
            beyond reads_fence_nobody [Claims];
            beyond a_write_that_nobody_waits_for_any_more_is_there_after_the_next_claim_or_never [Claims];
            beyond no_reader_sees_a_write_without_the_one_before_it [];
            beyond an_atomic_write_is_whole_whatever_is_broken_meanwhile [AtomicWrites, Disturbance];
            beyond an_atomic_write_that_nobody_waits_for_any_more_is_whole_or_not_there [AtomicWrites, Claims];
            beyond events_that_come_are_shown_once_and_in_order_whatever_is_broken_meanwhile [Follow, Disturbance];
            beyond a_replay_that_is_dropped_early_leaves_the_others_whole [];
            beyond a_replay_whose_reader_waits_is_not_sent_ahead_of_it_and_ends_when_it_is_dropped [Metered];
            beyond the_count_of_a_replay_counts_events_and_not_numbers [];
            beyond a_failed_save_leaves_the_snapshot_that_was_there [Rejection];
            snapshots a_name_without_snapshots_gives_none [];
            snapshots no_snapshot_is_given_when_all_are_newer_than_the_bound_in_time [];
            snapshots no_snapshot_is_given_when_all_are_above_the_bound [];
            snapshots the_newest_snapshot_is_given [];
            snapshots the_newest_snapshot_up_to_a_number_is_given [ManySnapshots];
            snapshots the_newest_snapshot_up_to_a_number_and_a_time_is_given [ManySnapshots];
            snapshots no_snapshot_is_given_below_a_lower_bound [];
            snapshots one_snapshot_is_deleted_by_its_number_whatever_its_time_is [ManySnapshots];
            snapshots one_snapshot_is_deleted_by_its_number_and_its_exact_time [ManySnapshots];
            snapshots a_deletion_at_another_time_succeeds_and_deletes_nothing [ManySnapshots];
            snapshots all_snapshots_within_the_bounds_are_deleted [ManySnapshots];
            snapshots snapshots_outside_the_bounds_are_kept [ManySnapshots];
            snapshots a_save_replaces_the_one_at_the_same_number [ManySnapshots];
            snapshots a_large_snapshot_is_saved_whole [];
            snapshots serializer_and_manifest_of_a_snapshot_come_back_as_they_were_saved [Serialization];
            snapshots metadata_of_a_snapshot_comes_back_as_it_was_saved [Metadata];
            snapshots a_given_timestamp_is_kept_as_it_is [ManySnapshots];
            snapshots the_last_of_several_saves_at_one_number_wins [];
            snapshots saves_that_are_under_way_together_leave_one_of_them_whole [];
            snapshots saves_that_are_under_way_together_are_applied_in_the_order_in_which_they_began [OrderedSaves];
            snapshots snapshots_and_events_do_not_touch_each_other [];
            snapshots a_recovery_offers_the_newest_snapshot_and_the_events_after_it [ManySnapshots];
            performance events_persisted_one_after_the_other_come_in_time [Performance];
            performance events_persisted_fifty_at_once_come_in_time [Performance];
            performance events_persisted_without_waiting_come_in_time [Performance];
            performance events_persisted_fifty_at_once_without_waiting_come_in_time [Performance];
            performance events_persisted_by_10_journals_together_come_in_time [Performance];
            performance events_persisted_by_25_journals_together_come_in_time [Performance];
            performance events_persisted_by_50_journals_together_come_in_time [Performance];
            performance events_persisted_by_100_journals_together_come_in_time [Performance];
            performance events_persisted_by_200_journals_together_come_in_time [Performance];
            performance a_journal_is_recovered_in_time [Performance];
            performance two_journals_are_recovered_together_in_time [Performance];
            performance four_journals_are_recovered_together_in_time [Performance];
            performance a_deleted_prefix_does_not_slow_a_replay_down [Performance];
        }
    };
    ($(#[$attribute:meta])+ $subject:expr) => {
        $crate::store_tests!(@list (($(#[$attribute])+) ($subject)));
    };
    ($subject:expr) => {
        $crate::store_tests!(@list ((#[::tokio::test]) ($subject)));
    };
}
