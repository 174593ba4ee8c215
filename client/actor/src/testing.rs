//! For the tests of users: a behavior without a store, and stores that misbehave.

pub mod faulty;
pub mod given;
