//! Tables against the rules over a plain map, through flushes, crashes and restarts.

mod concurrent;
mod crashes;
mod damage;
pub(crate) mod fixture;
mod model;
mod parts;
mod reading;
mod removing;
mod replacing;
pub(crate) mod world;
