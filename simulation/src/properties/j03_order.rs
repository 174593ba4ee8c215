//! J3: replayed sequence numbers strictly ascend, and each (persistence id, sequence number) holds one event for ever.
//!
//! Contract 1.5, rule 2. Position, writer, time and atomic write are part of what an event is.

use crate::evidence::Evidence;
use crate::history::ReadEvent;

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        for replay in &journal.replays {
            if let Some(pair) = replay.events.windows(2).find(|pair| pair[0].number >= pair[1].number) {
                return Err(format!(
                    "{persistence_id:?}: replay {} shows event {} after event {}",
                    replay.operation, pair[1].number, pair[0].number
                ));
            }
            for event in replay.events {
                same(persistence_id, journal.known[&event.number], (replay.operation, event))?;
            }
        }
    }
    for followed in &evidence.follows {
        for (persistence_id, event) in followed.events {
            let known = evidence.journals[persistence_id.as_str()].known[&event.number];
            same(persistence_id, known, (followed.operation, event))?;
        }
    }
    Ok(())
}

fn same(persistence_id: &str, known: (usize, &ReadEvent), read: (usize, &ReadEvent)) -> Result<(), String> {
    // Whether it is deleted is not part of what it is.
    let plain = |event: &ReadEvent| ReadEvent { deleted: false, ..event.clone() };
    if plain(known.1) == plain(read.1) {
        return Ok(());
    }
    Err(format!("{persistence_id:?}: operation {} read {:?}, and operation {} read {:?}", known.0, known.1, read.0, read.1))
}
