//! The parts that tables are given: what decides, and who looks on.

use std::sync::{Arc, Mutex};

use cairn_machine::{Batch, Command, Decision, Timestamp};

use super::world::{Place, delete, event, furnished, id, open, small, write};
use crate::entry::EntryId;
use crate::tables::{AppliedEntry, AppliedObserver, Applying, CairnRules, MembershipChange, Rules, TablesError, TablesSettings};

/// What was heard, to be looked at.
#[derive(Default)]
struct Notes(Mutex<Vec<Note>>);

#[derive(Clone, Debug, PartialEq)]
struct Note {
    entry: EntryId,
    commands: Option<usize>,
    decisions: Vec<Decision>,
    state_hash: u128,
}

impl Notes {
    fn take(&self) -> Vec<Note> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl AppliedObserver for Notes {
    fn applied(&self, applied: &AppliedEntry<'_>) {
        let AppliedEntry { entry, batch, decisions, state_hash, .. } = *applied;
        let commands = batch.map(|batch| batch.commands.len());
        self.0.lock().unwrap().push(Note { entry, commands, decisions: decisions.to_vec(), state_hash });
    }
}

fn observed(memtable_bytes_max: usize) -> (Arc<Notes>, TablesSettings) {
    let notes = Arc::new(Notes::default());
    let applied: Option<Arc<dyn AppliedObserver>> = Some(notes.clone());
    (notes, TablesSettings { applied, ..small(memtable_bytes_max) })
}

#[tokio::test]
async fn an_observer_hears_of_every_entry_what_was_decided_and_replicas_decide_alike() {
    let (notes, settings) = observed(usize::MAX);
    let mut world = furnished(Place::memory(), settings).await;
    let heard = notes.take();
    assert_eq!(heard.len(), world.log.len());
    for (note, applied) in heard.iter().zip(&world.log) {
        assert_eq!((note.entry, note.state_hash), (applied.entry, applied.chain));
        assert_eq!(note.commands, Some(applied.batch.commands.len()));
        let replies: Vec<_> = note.decisions.iter().map(|decision| decision.reply.clone()).collect();
        assert_eq!(replies, applied.replies);
        assert!(note.decisions.iter().any(|decision| !decision.changes.is_empty()), "every entry here changes something");
    }
    // What was only in memory is applied again, and heard again.
    world.restart().await;
    assert_eq!(notes.take(), heard);
    let (others_notes, settings) = observed(4_000);
    furnished(Place::memory(), settings).await;
    assert_eq!(others_notes.take(), heard, "a replica that flushes at other times decides the same");
}

#[tokio::test]
async fn an_observer_hears_of_entries_without_commands() {
    let (notes, settings) = observed(usize::MAX);
    let tables = open(&Place::memory().engine(), &settings, None).await.expect("opens");
    let at = |index| EntryId { term: 1, leader: 1, index };
    tables.apply(at(1), None, None).await.expect("applies");
    let change = MembershipChange { membership: vec![1].into(), seen_nodes: vec![2].into() };
    tables.apply(at(2), None, Some(change)).await.expect("applies");
    let heard: Vec<_> = notes.take().into_iter().map(|note| (note.entry, note.commands, note.decisions)).collect();
    assert_eq!(heard, [(at(1), None, Vec::new()), (at(2), None, Vec::new())]);
}

/// Answers deletions and does not do them.
struct Forgetful;

impl Rules for Forgetful {
    fn decide(&self, view: &Applying<'_>, command: &Command, moment: Timestamp) -> Result<Decision, TablesError> {
        let mut decision = CairnRules.decide(view, command, moment)?;
        if matches!(command, Command::DeleteTo(_)) {
            decision.changes.clear();
        }
        Ok(decision)
    }
}

#[tokio::test]
async fn tables_do_what_their_rules_decide() {
    let entry = EntryId { term: 1, leader: 1, index: 1 };
    let commands = vec![write("a", &[event(1, &[]), event(2, &[])]), delete("a", 1, false)];
    let batch = Batch { moment: Timestamp(1), commands };
    let mut outcomes = Vec::new();
    for rules in [Arc::new(CairnRules) as Arc<dyn Rules>, Arc::new(Forgetful)] {
        let settings = TablesSettings { rules, ..small(usize::MAX) };
        let tables = open(&Place::memory().engine(), &settings, None).await.expect("opens");
        let replies = tables.apply(entry, Some(&batch), None).await.expect("applies");
        let head = tables.head(&id("a")).await.expect("reads").expect("it was written");
        outcomes.push((replies, head.deleted_to.0, tables.state_hash()));
    }
    let [(right_replies, 1, right_hash), (wrong_replies, 0, wrong_hash)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(right_replies, wrong_replies, "what the sender hears is the same");
    assert_ne!(right_hash, wrong_hash, "the hash tells");
}
