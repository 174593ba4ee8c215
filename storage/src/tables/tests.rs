//! Tables against the rules over a plain map, through flushes, crashes and restarts.

mod crashes;
mod model;
mod reading;
mod removing;
pub(crate) mod world;
