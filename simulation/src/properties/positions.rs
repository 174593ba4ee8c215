//! Positions: a follower of a shard sees every event once, in commit order, without gap, and resumes from any position.

use std::collections::BTreeMap;

use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    // What is known to stand at each position, by shard.
    let mut known: BTreeMap<u16, BTreeMap<u64, (&str, u64)>> = BTreeMap::new();
    for (persistence_id, journal) in &evidence.journals {
        let shard = known.entry(evidence.shard_of(persistence_id)).or_default();
        for (number, (operation, event)) in &journal.known {
            if let Some(other) = shard.insert(event.position, (persistence_id, *number)) {
                return Err(format!(
                    "position {} holds event {number} of {persistence_id:?} (operation {operation}) and event {} of {:?}",
                    event.position, other.1, other.0
                ));
            }
        }
    }
    for followed in &evidence.follows {
        let positions: Vec<u64> = followed.events.iter().map(|(_, event)| event.position).collect();
        if let Some(pair) = positions.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(format!("follow {} shows position {} after {}", followed.operation, pair[1], pair[0]));
        }
        if positions.first().is_some_and(|first| *first <= followed.after) {
            return Err(format!("follow {} after {} shows position {}", followed.operation, followed.after, positions[0]));
        }
        if let Some((foreign, _)) = followed.events.iter().find(|(id, _)| evidence.shard_of(id) != followed.shard) {
            return Err(format!("follow {} of shard {} shows {foreign:?} of another one", followed.operation, followed.shard));
        }
        let Some(shard) = known.get(&followed.shard) else { continue };
        // Whoever resumes where it says that it is must not miss anything.
        let shown_to = positions.last().copied().unwrap_or(followed.after);
        if shown_to > followed.to {
            return Err(format!("follow {} shows position {shown_to} and is at {}", followed.operation, followed.to));
        }
        for (position, (persistence_id, number)) in shard.range(followed.after + 1..followed.to + 1) {
            let may_be_deleted = evidence.journals[persistence_id].may_be_deleted(*number, followed.ended, false);
            if !may_be_deleted && positions.binary_search(position).is_err() {
                return Err(format!(
                    "follow {} of shard {} is at {} and has skipped position {position}: event {number} of {persistence_id:?}",
                    followed.operation, followed.shard, followed.to
                ));
            }
        }
    }
    Ok(())
}
