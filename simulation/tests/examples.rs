//! The examples hold what they claim.

#[path = "../examples/accounts.rs"]
mod accounts;
#[path = "../examples/bank.rs"]
mod bank;
#[path = "../examples/partition.rs"]
mod partition;

#[test]
fn persistent_actors_neither_lose_nor_make_money_whatever_fails() {
    accounts::main();
}

#[test]
fn no_money_appears_or_vanishes_whatever_fails() {
    bank::main();
}

#[test]
fn deposits_of_a_leader_that_is_cut_off_are_all_there_once() {
    partition::main();
}
