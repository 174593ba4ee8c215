//! A plain map.
/// Rules over a plain map.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {}
