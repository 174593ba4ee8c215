//! Golden conversations: what is said to the rules, and everything that they answer, as text under `testdata/`.
//!
//! A file is paragraphs: lines that are said (together one batch), `----`, and the answers with every journal head that changed.
//! Set `CAIRN_REWRITE=1` to write the answers anew; commit only a difference that you understand.

use std::fmt::Write as _;
use std::path::Path;

use cairn_machine::{Batch, Command, MemoryStore, PersistenceId, SequenceNumber, Timestamp, View};

use crate::describe;
use crate::script::{Line, Question, parse};

const RULE: &str = "----";

#[test]
fn conversations_go_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let is_rewriting = std::env::var_os("CAIRN_REWRITE").is_some();
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("testdata is there").map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 10, "the conversations are there: {files:?}");
    for path in files {
        let written = std::fs::read_to_string(&path).expect("readable");
        let spoken = converse(&written);
        if is_rewriting {
            std::fs::write(&path, spoken).expect("writable");
        } else {
            assert!(spoken == written, "{} goes differently:\n{}", path.display(), difference(&written, &spoken));
        }
    }
}

/// The same text with the answers that are given now.
fn converse(written: &str) -> String {
    let mut world = World::default();
    let mut spoken = String::new();
    for paragraph in written.trim_end().split("\n\n") {
        let said = paragraph.split(&format!("\n{RULE}")).next().expect("a split has a first part");
        let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with('#')).collect();
        if !spoken.is_empty() {
            spoken.push('\n');
        }
        writeln!(spoken, "{said}").expect("text grows");
        if !lines.is_empty() {
            writeln!(spoken, "{RULE}\n{}", world.hear(&lines).join("\n")).expect("text grows");
        }
    }
    spoken
}

/// Two replicas of one shard, of which one hears the encoded batches.
struct World {
    store: MemoryStore,
    replica: MemoryStore,
    moment: Timestamp,
}

impl Default for World {
    fn default() -> Self {
        Self { store: MemoryStore::new(), replica: MemoryStore::new(), moment: Timestamp(1_000_000) }
    }
}

impl World {
    fn hear(&mut self, lines: &[&str]) -> Vec<String> {
        let mut commands = Vec::new();
        let mut answers = Vec::new();
        for line in lines {
            match parse(line) {
                Line::Time(moment) => {
                    self.moment = Timestamp(moment);
                    answers.push(format!("time is {moment}"));
                }
                Line::Command(command) => {
                    command.check().unwrap_or_else(|invalid| panic!("{line}: {invalid}"));
                    commands.push(*command);
                }
                Line::Question(question) => answers.extend(self.answer(&question)),
            }
        }
        if !commands.is_empty() {
            answers.extend(self.apply(commands));
        }
        answers
    }

    fn apply(&mut self, commands: Vec<Command>) -> Vec<String> {
        let mut names: Vec<PersistenceId> = commands.iter().map(|command| command.persistence_id().clone()).collect();
        names.sort();
        names.dedup();
        let before = self.store.clone();
        let batch = Batch { moment: self.moment, commands };
        let replies = self.store.apply(&batch);
        let travelled = Batch::decode(&batch.encode()).expect("what was encoded decodes");
        assert_eq!(self.replica.apply(&travelled), replies, "both replicas answer the same");
        assert_eq!(self.replica, self.store, "both replicas hold the same");
        let mut answers: Vec<String> = replies.iter().map(describe::reply).collect();
        for name in &names {
            match self.store.journal(name) {
                Some(head) if before.journal(name) != Some(head) => answers.push(describe::head(name.as_str(), head)),
                _ => {}
            }
        }
        answers
    }

    fn answer(&self, question: &Question) -> Vec<String> {
        let store = &self.store;
        let answers: Vec<String> = match question {
            Question::Replay { journal, from, to, limit, with_deleted } => {
                let events = if *with_deleted {
                    store.replay_with_deleted(journal, *from, *to, *limit)
                } else {
                    store.replay(journal, *from, *to, *limit)
                };
                events.expect("stored bodies decode").iter().map(describe::event).collect()
            }
            Question::Positions(from) => {
                let events = store.events_from_position(*from, usize::MAX).expect("stored bodies decode");
                events.iter().map(|(name, event)| format!("{name} {}", describe::event(event))).collect()
            }
            Question::Snapshots(journal) => store.snapshots_of(journal).map(|record| self.snapshot(record)).collect(),
            Question::Load(journal, criteria) => {
                store.latest_snapshot(journal, criteria).map(|record| self.snapshot(record)).into_iter().collect()
            }
            Question::Journals(prefix) => store
                .journals(prefix, None, usize::MAX)
                .iter()
                .map(|journal| describe::head(journal.persistence_id.as_str(), &journal.head))
                .collect(),
            // Replicas of different builds compare it: it changes only with the version of the rules.
            Question::Chain => vec![format!("{:032x}", store.shard().chain)],
            Question::Uploads => {
                let uploads = store.shard().uploads.iter();
                uploads.map(|(save_id, upload)| describe::upload(save_id.0.as_u128(), upload)).collect()
            }
        };
        if answers.is_empty() { vec!["nothing".to_owned()] } else { answers }
    }

    fn snapshot(&self, record: &cairn_machine::SnapshotRecord) -> String {
        let bytes = self.store.snapshot_bytes(record).expect("a visible snapshot is whole");
        assert_eq!(bytes.len() as u64, record.bytes_total);
        assert!(record.sequence_number <= SequenceNumber::MAX);
        describe::snapshot(record, &bytes)
    }
}

/// The first lines that differ.
fn difference(written: &str, spoken: &str) -> String {
    let mut spoken_lines = spoken.lines();
    for (index, line) in written.lines().enumerate() {
        let now = spoken_lines.next().unwrap_or("(nothing)");
        if line != now {
            return format!("line {}\n  written: {line}\n  spoken:  {now}", index + 1);
        }
    }
    format!("behind the last line\n  spoken:  {}", spoken_lines.next().unwrap_or("(nothing)"))
}
