//! Lines into atomic writes.
//!
//! Invariants
//! - The lines of one atomic write follow one another; that they do not is an error, not two writes.
//! - At most one line and one atomic write are in memory here, each within its limit.

use std::collections::HashMap;
use std::io;

use cairn_machine::limits::ATOMIC_WRITE_EVENTS_MAX;
use cairn_machine::{AtomicWrite, Event, Invalid, PersistenceId, SequenceNumber};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use crate::lines::{Line, LineError};

/// Longest line in bytes: the largest event in base64, with the largest names.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One atomic write, as it is sent.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its journal.
    pub persistence_id: PersistenceId,
    /// The line of its first event, from 1.
    pub line: u64,
    /// The events, for whoever compares what is stored with what was sent.
    pub events: Vec<Event>,
    /// The same events, encoded.
    pub atomic_write: AtomicWrite,
}

/// What is wrong with the input.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It cannot be read.
    #[error("read line {line}: {source}")]
    Read {
        /// Which line, from 1.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("line {line}: {source}")]
    Line {
        /// Which line, from 1.
        line: u64,
        /// What is wrong.
        source: LineError,
    },
    /// A line is longer than any event.
    #[error("line {line}: longer than {LINE_BYTES_MAX} bytes")]
    TooLong {
        /// Which line, from 1.
        line: u64,
    },
    /// The events of an atomic write cannot be stored together.
    #[error("atomic write {write} of {persistence_id:?}, from line {line} on: {source}")]
    AtomicWrite {
        /// Its first line, from 1.
        line: u64,
        /// Its journal.
        persistence_id: PersistenceId,
        /// What the lines call it.
        write: SequenceNumber,
        /// What is wrong.
        source: Invalid,
    },
    /// An atomic write goes by the number of its first event: none of its events comes before that.
    #[error("line {line}: `write` is {write}, but the event of {persistence_id:?} is {first}, which comes before it")]
    BeforeItsFirst {
        /// Its first line, from 1.
        line: u64,
        /// Its journal.
        persistence_id: PersistenceId,
        /// What the line calls it.
        write: SequenceNumber,
        /// The event's own number.
        first: SequenceNumber,
    },
    /// Lines of an atomic write do not follow one another.
    #[error(
        "line {line}: atomic write {write} of {persistence_id:?} ended on an earlier line; its lines must follow one another"
    )]
    Apart {
        /// The line that comes too late, from 1.
        line: u64,
        /// Its journal.
        persistence_id: PersistenceId,
        /// What the line calls it.
        write: SequenceNumber,
    },
}

/// Reads atomic writes.
pub struct Groups<R> {
    input: R,
    line: u64,
    bytes: Vec<u8>,
    open: Option<Open>,
    ended: bool,
    /// The last atomic write of each journal that ended.
    closed: HashMap<PersistenceId, SequenceNumber>,
}

struct Open {
    line: u64,
    persistence_id: PersistenceId,
    write: SequenceNumber,
    events: Vec<Event>,
}

impl<R: AsyncBufRead + Unpin> Groups<R> {
    /// Reads from here.
    pub fn new(input: R) -> Self {
        Self { input, line: 0, bytes: Vec::new(), open: None, ended: false, closed: HashMap::new() }
    }

    /// The next atomic write; none at the end. Safe to drop and to call again: nothing that was read is lost.
    ///
    /// # Errors
    /// [`InputError`]; what comes after a wrong line is not read.
    pub async fn next(&mut self) -> Result<Option<Group>, InputError> {
        while !self.ended {
            if !self.read_line().await? {
                self.ended = true;
                break;
            }
            let closed = self.take_line()?;
            if let Some(open) = closed {
                return self.close(open).map(Some);
            }
        }
        match self.open.take() {
            Some(open) => self.close(open).map(Some),
            None => Ok(None),
        }
    }

    /// Reads until the end of a line stands in `bytes`; false at the end of the input.
    async fn read_line(&mut self) -> Result<bool, InputError> {
        let line = self.line + 1;
        loop {
            let found = self.input.fill_buf().await.map_err(|source| InputError::Read { line, source })?;
            if found.is_empty() {
                return Ok(!self.bytes.is_empty());
            }
            let end = found.iter().position(|&byte| byte == b'\n').map(|index| index + 1);
            let taken = end.unwrap_or(found.len());
            self.bytes.extend_from_slice(&found[..taken]);
            self.input.consume(taken);
            if self.bytes.len() > LINE_BYTES_MAX {
                return Err(InputError::TooLong { line });
            }
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    /// Takes the line that was read into the open atomic write; gives back the one that it closed.
    fn take_line(&mut self) -> Result<Option<Open>, InputError> {
        self.line += 1;
        let line = self.line;
        let bytes = std::mem::take(&mut self.bytes);
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text.trim_end_matches(['\n', '\r']),
            Err(error) => {
                let source = io::Error::new(io::ErrorKind::InvalidData, error);
                return Err(InputError::Read { line, source });
            }
        };
        if text.is_empty() {
            return Ok(None);
        }
        let Line { persistence_id, write, event } = Line::parse(text).map_err(|source| InputError::Line { line, source })?;
        if let Some(open) = &mut self.open
            && open.write == write
            && open.persistence_id == persistence_id
        {
            open.events.push(event);
            if open.events.len() > ATOMIC_WRITE_EVENTS_MAX {
                // Said now, so that a file that never changes its `write` is not read into memory.
                let found = open.events.len() as u64;
                let source =
                    Invalid::TooLarge { what: "events of an atomic write", found, limit: ATOMIC_WRITE_EVENTS_MAX as u64 };
                return Err(InputError::AtomicWrite { line: open.line, persistence_id, write, source });
            }
            return Ok(None);
        }
        if self.closed.get(&persistence_id) == Some(&write) {
            return Err(InputError::Apart { line, persistence_id, write });
        }
        // It may begin later: a deletion cuts an atomic write, and its first lines are not exported.
        if event.sequence_number < write {
            return Err(InputError::BeforeItsFirst { line, persistence_id, write, first: event.sequence_number });
        }
        Ok(self.open.replace(Open { line, persistence_id, write, events: vec![event] }))
    }

    fn close(&mut self, open: Open) -> Result<Group, InputError> {
        let Open { line, persistence_id, write, events } = open;
        match AtomicWrite::new(&events) {
            Ok(atomic_write) => {
                self.closed.insert(persistence_id.clone(), write);
                Ok(Group { persistence_id, line, events, atomic_write })
            }
            Err(source) => Err(InputError::AtomicWrite { line, persistence_id, write, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(persistence_id: &str, number: u64, write: u64) -> String {
        format!(
            "{{\"persistence_id\":\"{persistence_id}\",\"sequence_number\":{number},\"write\":{write},\"timestamp_ms\":1,\"event\":{{}}}}\n"
        )
    }

    async fn read(text: &str) -> Result<Vec<(String, u64, u64)>, InputError> {
        // A tiny buffer, so that lines come in pieces.
        let mut groups = Groups::new(tokio::io::BufReader::with_capacity(7, text.as_bytes()));
        let mut all = Vec::new();
        while let Some(group) = groups.next().await? {
            let write = &group.atomic_write;
            all.push((group.persistence_id.as_str().to_owned(), write.first().0, write.last().0));
        }
        Ok(all)
    }

    #[tokio::test]
    async fn lines_of_one_write_are_one_atomic_write() {
        let text = [line("a", 1, 1), line("a", 2, 1), line("b", 1, 1), line("a", 3, 3), "\n".to_owned(), line("a", 4, 4)];
        let found = read(&text.concat()).await.expect("good lines");
        let expected = [("a", 1, 2), ("b", 1, 1), ("a", 3, 3), ("a", 4, 4)];
        assert_eq!(found, expected.map(|(id, first, last)| (id.to_owned(), first, last)));
    }

    #[tokio::test]
    async fn the_last_line_needs_no_end() {
        let text = line("a", 1, 1);
        assert_eq!(read(text.trim_end()).await.expect("a good line").len(), 1);
        assert!(read("").await.expect("nothing to read").is_empty());
    }

    #[tokio::test]
    async fn a_torn_atomic_write_is_an_error_of_its_late_line() {
        let text = [line("a", 1, 1), line("b", 1, 1), line("a", 2, 1)].concat();
        let error = read(&text).await.expect_err("the lines are apart");
        assert!(matches!(error, InputError::Apart { line: 3, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_wrong_line_is_named() {
        let text = [line("a", 1, 1), "{}\n".to_owned()].concat();
        let error = read(&text).await.expect_err("a line is wrong");
        assert!(error.to_string().starts_with("line 2: "), "{error}");
    }

    #[tokio::test]
    async fn an_atomic_write_may_have_lost_its_first_events_but_begins_with_none_before_them() {
        let found = read(&line("a", 3, 2)).await.expect("event 2 was deleted");
        assert_eq!(found, [("a".to_owned(), 3, 3)]);
        let error = read(&[line("a", 1, 1), line("b", 2, 3)].concat()).await.expect_err("event 2 is not of write 3");
        assert!(matches!(error, InputError::BeforeItsFirst { line: 2, .. }), "{error}");
    }

    #[tokio::test]
    async fn numbers_that_do_not_rise_are_named_with_the_line() {
        let text = [line("a", 1, 1), line("b", 2, 1), line("b", 2, 1)].concat();
        let error = read(&text).await.expect_err("a number is there twice");
        assert!(error.to_string().contains("from line 2 on"), "{error}");
    }
}
