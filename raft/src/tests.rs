//! Whole groups in one process. What one part does alone is tested beside it.

mod cluster;
mod suite;
mod world;
