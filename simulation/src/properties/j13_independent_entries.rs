//! J13: the atomic writes of one call are independent and in order: one may be refused while its neighbours are stored.
//!
//! Order of numbers and order of positions agree, within a call and over a whole journal; time never goes back.

use crate::evidence::{Evidence, Fate};

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (persistence_id, journal) in &evidence.journals {
        let wrong = |what: String| Err(format!("{persistence_id:?}: {what}"));
        for pair in journal.attempts.windows(2).filter(|pair| pair[0].operation == pair[1].operation) {
            let (Fate::Stored { position: one, .. }, Fate::Stored { position: other, previous, .. }) =
                (pair[0].fate, pair[1].fate)
            else {
                continue;
            };
            if one >= other || previous != pair[0].last() {
                return wrong(format!("operation {} stored its atomic writes out of order: {:?}", pair[0].operation, pair));
            }
        }
        let known: Vec<_> = journal.known.values().map(|(_, event)| event).collect();
        if let Some(pair) = known.windows(2).find(|pair| pair[0].position >= pair[1].position) {
            return wrong(format!("numbers and positions disagree: {:?}, then {:?}", pair[0], pair[1]));
        }
        if let Some(pair) = known.windows(2).find(|pair| pair[0].timestamp > pair[1].timestamp) {
            return wrong(format!("time goes back: {:?}, then {:?}", pair[0], pair[1]));
        }
    }
    Ok(())
}
