//! The engine under the tables: sorted rows, read by range, written by atomic and durable ingestion of sorted runs.
//!
//! Calls block. They are made through the [`crate::blocking::Blocking`] part, never on the runtime that carries consensus.
//!
//! Invariants
//! - An ingestion is seen and survives as a whole or not at all, and is durable when it returns.
//! - Ingestions of one table are seen and survive in the order in which they were made.
//! - Every error is final: the state on disk is not known any more, so the node stops.

use std::sync::Arc;

use bytes::Bytes;

/// One row: a key and its value.
pub type Row = (Bytes, Bytes);

/// What a run does to one key: a value is put, none removes the key.
pub type RunRow = (Bytes, Option<Bytes>);

/// Why an engine call failed. The node stops on each of them; they differ in what its operator does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The engine cannot be opened: its files are held by another process or of another version, or the disk refuses.
    #[error("the engine at {place} cannot be opened: {reason}")]
    Unopenable {
        /// Where it lives.
        place: String,
        /// What the engine said.
        reason: String,
    },
    /// The engine cannot be opened: its files are not what was written.
    #[error("the engine at {place} is damaged: {reason}")]
    Damaged {
        /// Where it lives.
        place: String,
        /// What the engine said.
        reason: String,
    },
    /// A call failed: what is on disk is not known any more.
    #[error("{operation} failed: {reason}")]
    Failed {
        /// What was being done.
        operation: &'static str,
        /// What the engine said.
        reason: String,
    },
    /// A run was not strictly ascending: an error in the program.
    #[error("a run is not strictly ascending at row {row}")]
    Unsorted {
        /// The first row that is not greater than the one before it.
        row: usize,
    },
}

/// In which order rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the smallest key up.
    Ascending,
    /// From the greatest key down.
    Descending,
}

/// What a scan reads: keys from `from`, inclusive, to `to`, exclusive, ending early when a limit is reached.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The lowest key, inclusive.
    pub from: &'a [u8],
    /// The end, exclusive.
    pub to: &'a [u8],
    /// In which order.
    pub order: Order,
    /// At most this many rows.
    pub rows_max: usize,
    /// Ends after the row with which keys and values together reach this many bytes; at least one row is read.
    pub bytes_max: usize,
}

impl<'a> Scan<'a> {
    /// A scan upwards within the limits.
    #[must_use]
    pub fn ascending(from: &'a [u8], to: &'a [u8], rows_max: usize, bytes_max: usize) -> Self {
        Self { from, to, order: Order::Ascending, rows_max, bytes_max }
    }

    /// A scan downwards within the limits.
    #[must_use]
    pub fn descending(from: &'a [u8], to: &'a [u8], rows_max: usize, bytes_max: usize) -> Self {
        Self { from, to, order: Order::Descending, rows_max, bytes_max }
    }
}

/// Reads of one table.
pub trait TableView: Send + Sync {
    /// The value at a key.
    ///
    /// # Errors
    /// The node stops.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The rows in a range, bounded.
    ///
    /// # Errors
    /// The node stops.
    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, EngineError>;

    /// The keys in a range, bounded; values are not read, and count nothing towards the limit in bytes.
    ///
    /// # Errors
    /// The node stops.
    fn scan_keys(&self, scan: Scan<'_>) -> Result<Vec<Bytes>, EngineError>;

    /// The last row at or below `key` and at or above `floor`.
    ///
    /// # Errors
    /// The node stops.
    fn get_at_or_below(&self, key: &[u8], floor: &[u8]) -> Result<Option<Row>, EngineError> {
        let mut end = Vec::with_capacity(key.len() + 1);
        end.extend_from_slice(key);
        end.push(0);
        let rows = self.scan(Scan::descending(floor, &end, 1, usize::MAX))?;
        Ok(rows.into_iter().next())
    }
}

/// What became of a compaction that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Compaction {
    /// What can be given back is.
    Done,
    /// Something is in its way that may go by itself, such as a disk without room. The table is as it was, or smaller.
    Postponed {
        /// What is in its way.
        reason: String,
    },
}

/// One table: a sorted map on disk.
pub trait Table: TableView {
    /// Writes a run, strictly ascending by key: atomic, and durable on return. An empty run does nothing.
    ///
    /// # Errors
    /// [`EngineError::Unsorted`], and nothing was written; else the node stops.
    fn ingest(&self, run: &mut dyn Iterator<Item = RunRow>) -> Result<(), EngineError>;

    /// The table as it is now; later ingestions are not seen. Holding it keeps files: read it and let it go.
    fn view(&self) -> Box<dyn TableView>;

    /// Gives back the space of rows that were removed or replaced. May take seconds, and room on the disk of its own: where there is
    /// none it is postponed.
    ///
    /// # Errors
    /// The node stops.
    fn compact(&self) -> Result<Compaction, EngineError>;

    /// Roughly how many rows are on disk, with those that were removed or replaced and are not given back yet; cheap.
    fn rows_estimate(&self) -> u64;

    /// Bytes on disk.
    fn disk_bytes(&self) -> u64;

    /// How many runs a read may have to look through, as far as the engine counts them: a writer slows down when it is many.
    fn runs(&self) -> usize;
}

/// A node's engine: named tables.
pub trait Engine: Send + Sync {
    /// The names of all tables, ascending.
    ///
    /// # Errors
    /// The node stops.
    fn tables(&self) -> Result<Vec<String>, EngineError>;

    /// Opens a table, creating it if it is missing. Names are ASCII letters, digits and dashes.
    ///
    /// # Errors
    /// The node stops.
    fn open(&self, name: &str) -> Result<Arc<dyn Table>, EngineError>;

    /// Drops a table with all rows; one that is missing is no error. Handles of it that are still open keep working.
    ///
    /// # Errors
    /// The node stops.
    fn drop_table(&self, name: &str) -> Result<(), EngineError>;

    /// Bytes on disk of all tables.
    ///
    /// # Errors
    /// The node stops.
    fn disk_bytes(&self) -> Result<u64, EngineError>;
}

/// Checks while a run passes by that it is strictly ascending.
#[derive(Default)]
pub(crate) struct Ascending {
    last: Option<Bytes>,
    row: usize,
}

impl Ascending {
    /// Takes note of the next key.
    ///
    /// # Errors
    /// [`EngineError::Unsorted`] if it is not greater than the one before.
    pub(crate) fn check(&mut self, key: &Bytes) -> Result<(), EngineError> {
        if self.last.as_ref().is_some_and(|last| last >= key) {
            return Err(EngineError::Unsorted { row: self.row });
        }
        self.last = Some(key.clone());
        self.row += 1;
        Ok(())
    }
}
