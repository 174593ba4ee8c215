//! Wrong rules: Cairn's own, asked differently or answered differently.

mod deletions;
mod snapshots;
mod writes;

use std::sync::Arc;

use cairn_machine::{
    Command, Decision, Head, JournalId, PersistenceId, SequenceNumber, ShardState, SnapshotRecord, StoredWrite, Timestamp, View,
};
use cairn_node::Clock;
use cairn_storage::TablesError;
use cairn_storage::tables::{Applying, Rules};

use super::Bug;

/// A replica that skips commands skips those of one moment of so many.
const SKIPS_ONE_OF: i64 = 50;

type Decided = Result<Decision, TablesError>;

/// Wrong rules in the place of the real ones, if the bug is one of rules.
pub(super) fn wrap(bug: Bug, node: u64, clock: Arc<dyn Clock>, real: Arc<dyn Rules>) -> Arc<dyn Rules> {
    Arc::new(BrokenRules { bug, node, clock, real })
}

struct BrokenRules {
    bug: Bug,
    node: u64,
    clock: Arc<dyn Clock>,
    real: Arc<dyn Rules>,
}

impl Rules for BrokenRules {
    fn decide(&self, view: &Applying<'_>, command: &Command, moment: Timestamp) -> Decided {
        let decided = self.real.decide(view, command, moment)?;
        match (self.bug, command) {
            (Bug::StaleEpochAccepted, Command::Write(write)) => writes::accept_stale(view, write, moment, decided),
            (Bug::AfterIgnored, Command::Write(write)) => writes::ignore_after(view, write, moment),
            (Bug::RetryAppliedTwice, Command::Write(write)) => writes::apply_twice(view, write, moment, decided),
            (Bug::RetryAnsweredAnew, Command::Write(_)) => Ok(writes::answer_anew(view, moment, decided)),
            (Bug::RetryRefused, Command::Write(write)) => writes::refuse_retry(view, write, moment),
            (Bug::RefusedIsStored, Command::Write(write)) => writes::store_refused(view, write, moment, decided),
            (Bug::ConflictIsStored, Command::Write(write)) => Ok(writes::tell_stored(view, write, moment, decided)),
            (Bug::WriteSplit, Command::Write(_)) => writes::split(decided),
            (Bug::WriteCut, Command::Write(_)) => writes::cut(decided),
            (Bug::MetadataDropped, Command::Write(_)) => writes::drop_metadata(decided),
            (Bug::PreviousGuessed, Command::Write(write)) => Ok(writes::guess_previous(write, decided)),
            (Bug::LocalTimestamps, Command::Write(_)) => self.real.decide(view, command, self.clock.now()),
            (Bug::ReplicaRefuses, Command::Write(write)) if self.node == 2 => Ok(writes::refuse_large(view, write, decided)?),
            (Bug::DamagedSkipped, _) if self.node == 2 && moment.0 % SKIPS_ONE_OF == 0 => Ok(without_changes(decided)),
            (Bug::ClaimSharesEpoch, Command::Claim(claim)) => writes::share_epoch(view, claim, decided),
            (Bug::ClaimKeepsEpoch, Command::Claim(_)) => Ok(writes::keep_epoch(decided)),
            (Bug::NamesCutAtNul, command) => self.real.decide(view, &cut_at_nul(command), moment),
            (Bug::DeleteSwallowsLater, Command::DeleteTo(delete)) => deletions::swallow_later(view, delete, decided),
            (Bug::DeleteOneMore, Command::DeleteTo(_)) => Ok(deletions::take_one_more(decided)),
            (Bug::DeleteNotDone, Command::DeleteTo(_)) => Ok(without_changes(decided)),
            (Bug::WatermarkGoesBack, Command::DeleteTo(delete)) => deletions::go_back(view, delete, decided),
            (Bug::DeleteTakesSnapshots, Command::DeleteTo(delete)) => deletions::take_snapshots(view, delete, decided),
            (Bug::SaveLost, Command::SaveSnapshot(_)) => Ok(without_changes(decided)),
            (Bug::FirstSaveWins, Command::SaveSnapshot(save)) => snapshots::keep_first(view, save, decided),
            (Bug::LocalSaveTimestamps, Command::SaveSnapshot(_)) => self.real.decide(view, command, self.clock.now()),
            (Bug::CriteriaIgnoreTime, Command::DeleteSnapshots(delete)) => {
                self.real.decide(view, &snapshots::at_any_time(delete), moment)
            }
            (Bug::SnapshotDeleteNotDone, Command::DeleteSnapshot(_) | Command::DeleteSnapshots(_)) => {
                Ok(without_changes(decided))
            }
            (Bug::HashOrder, Command::DeleteSnapshots(_)) => Ok(snapshots::reorder(self.node, decided)),
            _ => Ok(decided),
        }
    }
}

/// The same answer, and nothing is done.
fn without_changes(decided: Decision) -> Decision {
    Decision { changes: Vec::new(), ..decided }
}

fn cut_at_nul(command: &Command) -> Command {
    let mut command = command.clone();
    let persistence_id = match &mut command {
        Command::Write(command) => &mut command.persistence_id,
        Command::Claim(command) => &mut command.persistence_id,
        Command::DeleteTo(command) => &mut command.persistence_id,
        Command::SnapshotChunk(command) => &mut command.persistence_id,
        Command::SaveSnapshot(command) => &mut command.persistence_id,
        Command::DeleteSnapshot(command) => &mut command.persistence_id,
        Command::DeleteSnapshots(command) => &mut command.persistence_id,
    };
    let start = persistence_id.as_str().split('\0').next().unwrap_or_default().to_owned();
    if let Ok(start) = PersistenceId::new(start) {
        *persistence_id = start;
    }
    command
}

/// What the rules see, but for one journal's head and, if wanted, its writes.
struct WithHead<'a, 'b> {
    view: &'a Applying<'b>,
    head: Option<Head>,
    knows_writes: bool,
}

impl View for WithHead<'_, '_> {
    type Error = TablesError;

    fn shard(&self) -> &ShardState {
        self.view.shard()
    }

    fn head(&self, _: &PersistenceId) -> Result<Option<Head>, TablesError> {
        Ok(self.head.clone())
    }

    fn stored_write(&self, journal: JournalId, first: SequenceNumber) -> Result<Option<StoredWrite>, TablesError> {
        if self.knows_writes { self.view.stored_write(journal, first) } else { Ok(None) }
    }

    fn snapshot(&self, journal: JournalId, sequence_number: SequenceNumber) -> Result<Option<SnapshotRecord>, TablesError> {
        self.view.snapshot(journal, sequence_number)
    }

    fn snapshots(
        &self,
        journal: JournalId,
        from: SequenceNumber,
        to: SequenceNumber,
    ) -> Result<Vec<SnapshotRecord>, TablesError> {
        self.view.snapshots(journal, from, to)
    }
}
