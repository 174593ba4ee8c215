//! Whole groups in one process. What one part does alone is tested beside it.

mod cluster;
mod lost_tables;
mod members;
mod network;
mod old_copy;
pub(crate) mod pace;
mod silence;
mod strangers;
mod suite;
mod world;
