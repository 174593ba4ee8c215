//! Snapshots and deletions: those that effects ask for, and those of retention.

use cairn_client::SequenceNumber;

use super::Cell;
use crate::behavior::Behavior;
use crate::effect::Maintain;
use crate::maintenance::Origin;
use crate::retention::{RetentionStep, SnapshotDue};
use crate::signal::{Signal, SnapshotError};

impl<B: Behavior> Cell<B> {
    /// Whether an event makes a snapshot due, that is stored under all numbers after `last` up to its own.
    pub(super) fn due(&self, event: &B::Event, last: SequenceNumber, number: SequenceNumber) -> SnapshotDue {
        let retention = &self.kind.shared().retention;
        let dues = (last.0 + 1..=number.0).map(|number| retention.due(&self.state, event, SequenceNumber(number)));
        dues.max().unwrap_or_default()
    }

    pub(super) fn snapshot_if(&mut self, due: SnapshotDue) {
        if self.retention.begin(due) {
            self.save_snapshot(if due == SnapshotDue::WithRetention { Origin::Cycle } else { Origin::Actor });
        }
    }

    pub(super) fn maintain(&mut self, maintain: Maintain) {
        let (origin, stores) = (Origin::Actor, self.stores.clone());
        match maintain {
            Maintain::SaveSnapshot => self.save_snapshot(origin),
            Maintain::LoadSnapshot(criteria) => {
                self.maintenance.load(origin, stores, criteria, self.kind.shared().snapshots.clone());
            }
            Maintain::DeleteSnapshot(number) => self.maintenance.delete_snapshot(origin, stores, number),
            Maintain::DeleteSnapshots(criteria) => self.maintenance.delete_snapshots(origin, stores, criteria),
            Maintain::DeleteEvents(to) => self.delete_events(origin, to),
        }
    }

    /// The state becomes bytes now, whatever happens to it before they are saved.
    fn save_snapshot(&mut self, origin: Origin) {
        self.behavior.before_snapshot(&mut self.state);
        let codec = self.kind.shared().snapshots.as_ref();
        let payload = codec.ok_or(SnapshotError::NoFormat).and_then(|codec| Ok(codec.encode(&self.state)?));
        self.maintenance.save(origin, self.stores.clone(), self.context.last_sequence_number, payload);
    }

    fn delete_events(&mut self, origin: Origin, to: SequenceNumber) {
        self.maintenance.delete_events(origin, self.stores.clone(), to, self.context.last_sequence_number);
    }

    pub(super) fn on_signal(&mut self, origin: Origin, signal: Signal<B::State>) {
        if let Signal::SnapshotSaved { number, .. } = signal {
            self.context.snapshot_sequence_number = number;
        }
        if origin == Origin::Cycle {
            self.go_on_retaining(&signal);
        }
        // Before the effect, which may register events: they are not written any more, and told as superseded.
        self.superseded = signal.fenced().cloned().map(Box::new);
        let effect = self.behavior.on_signal(signal, &self.state, &mut self.context);
        self.carry_out(effect);
        self.end_if_superseded();
    }

    fn go_on_retaining(&mut self, signal: &Signal<B::State>) {
        let step = match signal {
            Signal::SnapshotSaved { number, .. } => self.retention.snapshot_saved(&self.kind.shared().retention, *number),
            Signal::EventsDeleted { to } => self.retention.events_deleted(*to),
            _ => self.retention.end(),
        };
        match step {
            RetentionStep::DeleteEvents { to } => self.delete_events(Origin::Cycle, to),
            RetentionStep::DeleteSnapshots(criteria) => {
                self.maintenance.delete_snapshots(Origin::Cycle, self.stores.clone(), criteria);
            }
            RetentionStep::Done => {}
        }
    }
}
