//! The rules seen from outside: golden conversations, a model, and the contract's own list.

mod admission;
mod build;
mod contract;
mod conversations;
mod describe;
mod model;
mod script;
