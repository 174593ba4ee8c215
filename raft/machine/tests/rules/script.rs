//! The small language of golden conversations.
//!
//! A line is a command or a question. Words: `by` a writer (`-` is the empty one), `epoch` a number, `read` what the sender read.
//!
//!     time 5000                                            the leader's clock from now on, in microseconds
//!     write cart by A epoch 1 after 0 : 1=a#red 2=b+3=c    two atomic writes; `+` joins events of one, `#` begins a tag
//!     claim cart by A read 0
//!     delete cart to 3 permanent                           `max` is the greatest number
//!     chunk cart save 7 index 0 bytes abc
//!     save cart at 3 save 7 read 0 inline abc              or: uploaded CHUNKS BYTES; `timestamp T`
//!     delete-snapshot cart at 3 timestamp 17
//!     delete-snapshots cart numbers 0-5 times 0-99
//!     replay cart 0-max limit 2      replay-deleted cart 0-max      positions 1      snapshots cart
//!     load cart numbers 0-5 times 0-99      journals PREFIX      uploads      chain

use bytes::Bytes;
use cairn_machine::{
    AtomicWrite, Claim, Command, Criteria, DeleteSnapshot, DeleteSnapshots, DeleteTo, Payload, PersistenceId, Position,
    SaveNumber, SaveSnapshot, SequenceNumber, SnapshotChunk, SnapshotData, Write, WriterEpoch, WriterId,
};

use crate::build::{atomic, event, name, save_id, writer};

/// One line.
pub enum Line {
    Time(i64),
    Command(Box<Command>),
    Question(Question),
}

/// What is asked of the store.
pub enum Question {
    Replay { journal: PersistenceId, from: SequenceNumber, to: SequenceNumber, limit: usize, with_deleted: bool },
    Positions(Position),
    Snapshots(PersistenceId),
    Load(PersistenceId, Criteria),
    Journals(String),
    Uploads,
    Chain,
}

/// Parses a line; a wrong one is a mistake in the script.
pub fn parse(line: &str) -> Line {
    let (words, data) = line.split_once(" : ").unwrap_or((line, ""));
    let words = Words { line, words: words.split_whitespace().collect() };
    let journal = || name(words.words[1]);
    Line::Command(Box::new(match words.words[0] {
        "time" => return Line::Time(words.words[1].parse().expect("a time")),
        "write" => Command::Write(Write {
            persistence_id: journal(),
            writer: words.writer(),
            epoch: words.epoch(),
            after: words.number("after"),
            atomic_writes: data.split_whitespace().map(atomic_write).collect(),
        }),
        "claim" => Command::Claim(Claim {
            persistence_id: journal(),
            writer: words.writer(),
            epoch_read: WriterEpoch(words.need("read")),
        }),
        "delete" => Command::DeleteTo(DeleteTo {
            persistence_id: journal(),
            to: words.number("to").expect("a deletion has a bound"),
            permanent: words.words.contains(&"permanent"),
            writer: words.writer(),
            epoch: words.epoch(),
        }),
        "chunk" => Command::SnapshotChunk(SnapshotChunk {
            persistence_id: journal(),
            save_id: save_id(words.need("save")),
            index: words.need("index"),
            bytes: Bytes::from(words.value("bytes").expect("a chunk has bytes").to_owned()),
        }),
        "save" => Command::SaveSnapshot(words.save(journal())),
        "delete-snapshot" => Command::DeleteSnapshot(DeleteSnapshot {
            persistence_id: journal(),
            sequence_number: words.number("at").expect("a snapshot has a number"),
            timestamp: words.parsed("timestamp"),
            saves_read: words.parsed("read").map(SaveNumber),
            writer: words.writer(),
            epoch: words.epoch(),
        }),
        "delete-snapshots" => Command::DeleteSnapshots(DeleteSnapshots {
            persistence_id: journal(),
            criteria: words.criteria(),
            saves_read: words.parsed("read").map(SaveNumber),
            writer: words.writer(),
            epoch: words.epoch(),
        }),
        "replay" | "replay-deleted" => {
            let (from, to) = range(words.words[2]);
            return Line::Question(Question::Replay {
                journal: journal(),
                from: number(from),
                to: number(to),
                limit: words.parsed("limit").unwrap_or(usize::MAX),
                with_deleted: words.words[0] == "replay-deleted",
            });
        }
        "positions" => return Line::Question(Question::Positions(Position(words.words[1].parse().expect("a position")))),
        "snapshots" => return Line::Question(Question::Snapshots(journal())),
        "load" => return Line::Question(Question::Load(journal(), words.criteria())),
        "journals" => return Line::Question(Question::Journals(words.words.get(1).unwrap_or(&"").to_string())),
        "chain" => return Line::Question(Question::Chain),
        "uploads" => return Line::Question(Question::Uploads),
        _ => panic!("not a command: {line}"),
    }))
}

struct Words<'a> {
    line: &'a str,
    words: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn value(&self, key: &str) -> Option<&'a str> {
        // The command and the journal stand before every key.
        let at = 2 + self.words.iter().skip(2).position(|word| *word == key)?;
        Some(self.words.get(at + 1).unwrap_or_else(|| panic!("{key} needs a value: {}", self.line)))
    }

    fn parsed<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        let text = self.value(key)?;
        Some(text.parse().unwrap_or_else(|_| panic!("{key} is a number: {}", self.line)))
    }

    fn need<T: std::str::FromStr>(&self, key: &str) -> T {
        self.parsed(key).unwrap_or_else(|| panic!("{key} is missing: {}", self.line))
    }

    fn number(&self, key: &str) -> Option<SequenceNumber> {
        self.value(key).map(number)
    }

    fn writer(&self) -> WriterId {
        match self.value("by") {
            None | Some("-") => writer(""),
            Some(text) => writer(text),
        }
    }

    fn epoch(&self) -> Option<WriterEpoch> {
        self.parsed("epoch").map(WriterEpoch)
    }

    fn criteria(&self) -> Criteria {
        let mut criteria = Criteria::LATEST;
        if let Some((from, to)) = self.value("numbers").map(range) {
            (criteria.sequence_number_min, criteria.sequence_number_max) = (number(from), number(to));
        }
        if let Some((from, to)) = self.value("times").map(range) {
            criteria.timestamp_min = from.parse().expect("a timestamp");
            criteria.timestamp_max = to.parse().expect("a timestamp");
        }
        criteria
    }

    fn save(&self, persistence_id: PersistenceId) -> SaveSnapshot {
        let data = match self.value("uploaded") {
            Some(chunks) => {
                let at = self.words.iter().position(|word| *word == "uploaded").expect("found above") + 2;
                let bytes_total = self.words[at].parse().expect("how many bytes");
                SnapshotData::Uploaded { chunks: chunks.parse().expect("how many chunks"), bytes_total }
            }
            None => SnapshotData::Inline(Bytes::from(self.value("inline").unwrap_or("").to_owned())),
        };
        SaveSnapshot {
            persistence_id,
            sequence_number: self.number("at").expect("a snapshot has a number"),
            timestamp: self.parsed("timestamp"),
            save_id: save_id(self.need("save")),
            saves_read: SaveNumber(self.need("read")),
            payload: Payload::default(),
            data,
            metadata: None,
            writer: self.writer(),
            epoch: self.epoch(),
        }
    }
}

fn atomic_write(text: &str) -> AtomicWrite {
    let events: Vec<_> = text
        .split('+')
        .map(|text| {
            let (number, payload) = text.split_once('=').expect("an event is NUMBER=TEXT");
            let mut parts = payload.split('#');
            let mut event = event(number.parse().expect("a number"), parts.next().unwrap_or(""));
            event.tags = parts.map(str::to_owned).collect();
            event
        })
        .collect();
    atomic(&events)
}

fn range(text: &str) -> (&str, &str) {
    text.split_once('-').expect("a range is FROM-TO")
}

fn number(text: &str) -> SequenceNumber {
    if text == "max" { SequenceNumber::MAX } else { SequenceNumber(text.parse().expect("a number")) }
}
