//! What simulated events and snapshots hold: who made them, for which place, and bytes that follow from that.
//!
//! Everything that is read back is made again from its stamp and compared byte for byte, so that damage, mixed-up events and foreign
//! events show without any other record.

use bytes::Bytes;
use cairn_client::NewEvent;
use cairn_machine::{Event, Payload, PersistenceId, SequenceNumber};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::dice::Dice;
use crate::fold::Fold;

/// Names one event or snapshot in a world: no two have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Which client made it.
    pub client: u16,
    /// In which operation.
    pub operation: u32,
    /// Which one of that operation.
    pub index: u16,
    /// Bytes of padding.
    pub padding: u32,
    /// The state that a snapshot holds, if it holds any.
    pub fold: Option<Fold>,
}

/// The serializer id of everything that is stamped.
const SERIALIZER_ID: i32 = 4242;
/// What is written where there is no state.
const NO_FOLD: &str = "-";

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "c{}.o{}.{}", self.client, self.operation, self.index)
    }
}

impl Stamp {
    /// The bytes of the event or snapshot at this place of this journal.
    #[must_use]
    pub fn bytes(self, persistence_id: &PersistenceId, number: SequenceNumber) -> Bytes {
        let Self { client, operation, index, padding, fold } = self;
        let id_hash = xxh3_64(persistence_id.as_str().as_bytes());
        let fold = fold.map_or_else(|| NO_FOLD.to_owned(), |fold| fold.to_string());
        let mut text = format!("{client} {operation} {index} {padding} {fold} {id_hash:016x} {number} ", number = number.0);
        let hash = xxh3_64(text.as_bytes());
        text.push_str(&format!("{hash:016x} "));
        let mut bytes = text.into_bytes();
        // Padding that follows from the rest, so that a part of one event in the place of another one shows.
        let pattern = hash.to_le_bytes();
        bytes.extend((0..padding as usize).map(|at| pattern[at % pattern.len()]));
        bytes.into()
    }

    /// The payload at this place.
    #[must_use]
    pub fn payload(self, persistence_id: &PersistenceId, number: SequenceNumber) -> Payload {
        let manifest = if self.index.is_multiple_of(2) { String::new() } else { format!("manifest-{}", self.operation % 7) };
        Payload { serializer_id: SERIALIZER_ID, manifest, bytes: self.bytes(persistence_id, number) }
    }

    /// The event at this place, with every field that an event can have.
    #[must_use]
    pub fn event(self, persistence_id: &PersistenceId, number: SequenceNumber) -> Event {
        let mut dice = Dice::new(u64::from(self.client) << 48 | u64::from(self.operation) << 16 | u64::from(self.index));
        let metadata = dice.chance(0.2).then(|| Payload {
            serializer_id: -1,
            manifest: "metadata".to_owned(),
            bytes: Bytes::from(self.to_string()),
        });
        let mut tags: Vec<String> = (0..dice.count(0, 2)).map(|_| format!("tag-{}", dice.number(0, 3))).collect();
        tags.sort();
        tags.dedup();
        let adapter_manifest = if dice.chance(0.3) { format!("adapter-{}", dice.number(0, 2)) } else { String::new() };
        Event { sequence_number: number, payload: self.payload(persistence_id, number), adapter_manifest, metadata, tags }
    }

    /// As [`Stamp::event`], for a writer that numbers by itself and will give it this number.
    #[must_use]
    pub fn new_event(self, persistence_id: &PersistenceId, number: SequenceNumber) -> NewEvent {
        let Event { payload, adapter_manifest, metadata, tags, .. } = self.event(persistence_id, number);
        NewEvent { payload, adapter_manifest, metadata, tags }
    }

    /// Reads the stamp out of an event that was read back, if the event is exactly what was written there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_event(persistence_id: &PersistenceId, event: &Event) -> Result<Self, String> {
        let stamp = Self::parse(&event.payload.bytes)?;
        if *event != stamp.event(persistence_id, event.sequence_number) {
            return Err(format!(
                "event {} of {persistence_id} is not what {stamp} wrote there: {event:?}",
                event.sequence_number.0
            ));
        }
        Ok(stamp)
    }

    /// Reads the stamp out of a snapshot's bytes, if they are exactly what was saved there.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of_snapshot(persistence_id: &PersistenceId, number: SequenceNumber, bytes: &Bytes) -> Result<Self, String> {
        let stamp = Self::parse(bytes)?;
        if *bytes != stamp.bytes(persistence_id, number) {
            return Err(format!("snapshot {} of {persistence_id} is not what {stamp} saved there", number.0));
        }
        Ok(stamp)
    }

    fn parse(bytes: &Bytes) -> Result<Self, String> {
        let malformed = || format!("no stamp in {:?}", &bytes[..bytes.len().min(80)]);
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        let mut words = head.split(' ');
        let mut word = || words.next().ok_or_else(malformed);
        Ok(Self {
            client: word()?.parse().map_err(|_| malformed())?,
            operation: word()?.parse().map_err(|_| malformed())?,
            index: word()?.parse().map_err(|_| malformed())?,
            padding: word()?.parse().map_err(|_| malformed())?,
            fold: match word()? {
                NO_FOLD => None,
                word => Some(Fold::parse(word).ok_or_else(malformed)?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(padding: u32) -> (PersistenceId, Stamp, Event) {
        let persistence_id = PersistenceId::new("account-1").expect("is legal");
        let stamp = Stamp { client: 3, operation: 70_000, index: 1, padding, fold: None };
        let event = stamp.event(&persistence_id, SequenceNumber(9));
        (persistence_id, stamp, event)
    }

    #[test]
    fn an_event_tells_its_stamp() {
        for padding in [0, 1, 5000] {
            let (persistence_id, stamp, event) = check(padding);
            assert_eq!(Stamp::of_event(&persistence_id, &event), Ok(stamp));
        }
    }

    #[test]
    fn a_changed_byte_an_other_place_and_an_other_journal_show() {
        let (persistence_id, _, event) = check(100);
        let mut flipped = event.clone();
        let mut bytes = flipped.payload.bytes.to_vec();
        *bytes.last_mut().expect("has bytes") ^= 1;
        flipped.payload.bytes = bytes.into();
        assert!(Stamp::of_event(&persistence_id, &flipped).is_err());
        let moved = Event { sequence_number: SequenceNumber(10), ..event.clone() };
        assert!(Stamp::of_event(&persistence_id, &moved).is_err());
        assert!(Stamp::of_event(&PersistenceId::new("account-2").expect("is legal"), &event).is_err());
    }
}
