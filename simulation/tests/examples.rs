//! The examples hold what they claim.

#[path = "../examples/bank.rs"]
mod bank;
#[path = "../examples/partition.rs"]
mod partition;

#[test]
fn no_money_appears_or_vanishes_whatever_fails() {
    bank::main();
}

#[test]
fn deposits_of_a_leader_that_is_cut_off_are_all_there_once() {
    partition::main();
}
