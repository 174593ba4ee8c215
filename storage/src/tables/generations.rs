//! Generations: each checkpoint that is installed becomes a table of its own, and one durable row says which is current.
//!
//! Invariants
//! - A generation becomes current in one ingestion, after it is complete; there is never half of one.
//! - Generations that are not current are dropped when the tables open.
//! - The row that says which is current is there before the first generation is, and stays: none beside a generation is damage.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_machine::{JournalId, SequenceNumber, ShardId};

use super::error::TablesError;
use crate::engine::{Engine, Scan, Table, TableView};
use crate::keys::meta::Meta;
use crate::keys::{Family, meta, removal};

/// The table that says which generation of each shard is current.
const POINTERS: &str = "generations";
/// Rows of one read of removals.
const REMOVAL_ROWS: usize = 4096;

/// Names one generation of a shard's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation {
    /// The shard.
    pub shard: ShardId,
    /// Counts from 1.
    pub number: u64,
}

impl Generation {
    /// The name of its table in the engine.
    #[must_use]
    pub fn table_name(self) -> String {
        format!("shard-{}-generation-{}", self.shard, self.number)
    }

    fn parse(name: &str) -> Option<Self> {
        let (shard, number) = name.strip_prefix("shard-")?.split_once("-generation-")?;
        Some(Self { shard: ShardId(shard.parse().ok()?), number: number.parse().ok()? })
    }
}

/// What was found when tables opened.
pub(crate) struct Opened {
    pub(crate) table: Arc<dyn Table>,
    pub(crate) generation: u64,
    pub(crate) meta: Meta,
    pub(crate) removals: BTreeMap<JournalId, SequenceNumber>,
}

/// Opens the current generation of a shard and drops every other one. Blocks.
pub(crate) fn open_current(engine: &dyn Engine, shard: ShardId) -> Result<Opened, TablesError> {
    let generation = match current(engine, shard)? {
        Some(generation) => generation,
        None => {
            if let Some(name) = engine.tables()?.iter().find(|name| is_of(name, shard)) {
                let what = format!("the pointer to the generation of shard {shard}: it is missing, although there is {name}");
                return Err(TablesError::damaged(what));
            }
            let first = Generation { shard, number: 1 };
            make_current(engine, first)?;
            first
        }
    };
    drop_others(engine, generation)?;
    let table = engine.open(&generation.table_name())?;
    let meta = read_meta(&*table)?.unwrap_or_default();
    let removals = read_removals(&*table)?;
    Ok(Opened { table, generation: generation.number, meta, removals })
}

/// The meta row of a table; none in an empty one. Blocks.
pub(crate) fn read_meta(table: &dyn TableView) -> Result<Option<Meta>, TablesError> {
    let value = table.get(&meta::key())?;
    Ok(value.as_ref().map(meta::decode).transpose()?)
}

/// The removals that are still to be done. Blocks.
pub(crate) fn read_removals(table: &dyn TableView) -> Result<BTreeMap<JournalId, SequenceNumber>, TablesError> {
    let mut removals = BTreeMap::new();
    let mut start: Bytes = Bytes::copy_from_slice(&Family::Removal.start());
    let end = Family::Removal.end();
    loop {
        let rows = table.scan(Scan::ascending(&start, &end, REMOVAL_ROWS, usize::MAX))?;
        let Some((last, _)) = rows.last() else { return Ok(removals) };
        start = [last.as_ref(), &[0]].concat().into();
        for (key, value) in &rows {
            removals.insert(removal::decode_key(key)?, removal::decode(value)?);
        }
    }
}

fn is_of(name: &str, shard: ShardId) -> bool {
    Generation::parse(name).is_some_and(|found| found.shard == shard)
}

fn pointer_key(shard: ShardId) -> Bytes {
    Bytes::copy_from_slice(&shard.0.to_be_bytes())
}

fn current(engine: &dyn Engine, shard: ShardId) -> Result<Option<Generation>, TablesError> {
    let Some(value) = engine.open(POINTERS)?.get(&pointer_key(shard))? else { return Ok(None) };
    let number = value.as_ref().try_into().map_err(|_| TablesError::damaged("the pointer to a generation"))?;
    Ok(Some(Generation { shard, number: u64::from_be_bytes(number) }))
}

/// Makes a generation current, durably. Blocks.
pub(crate) fn make_current(engine: &dyn Engine, generation: Generation) -> Result<(), TablesError> {
    let number = Bytes::copy_from_slice(&generation.number.to_be_bytes());
    let mut run = std::iter::once((pointer_key(generation.shard), Some(number)));
    Ok(engine.open(POINTERS)?.ingest(&mut run)?)
}

/// Drops every generation of a shard but one. Blocks.
pub(crate) fn drop_others(engine: &dyn Engine, kept: Generation) -> Result<(), TablesError> {
    for name in engine.tables()? {
        if Generation::parse(&name).is_some_and(|found| found.shard == kept.shard && found != kept) {
            engine.drop_table(&name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_engine::{MemoryDisk, MemoryEngine};

    #[test]
    fn names_round_trip() {
        let generation = Generation { shard: ShardId(13), number: 7 };
        assert_eq!(Generation::parse(&generation.table_name()), Some(generation));
        assert_eq!(Generation::parse(POINTERS), None);
    }

    #[test]
    fn a_generation_without_a_pointer_is_damage_and_stays() {
        let engine = MemoryEngine::open(MemoryDisk::new());
        let (shard, other) = (ShardId(3), ShardId(4));
        let live = Generation { shard, number: 2 };
        make_current(&engine, live).expect("switches");
        open_current(&engine, shard).expect("opens");
        engine.drop_table(POINTERS).expect("drops");
        let opened = open_current(&engine, shard);
        assert!(matches!(opened, Err(TablesError::Damaged { .. })));
        assert!(engine.tables().expect("lists").contains(&live.table_name()), "nothing is dropped");
        let opened = open_current(&engine, other).expect("another shard is new");
        assert_eq!(opened.generation, 1);
    }
}
