//! What is written, wrongly.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cairn_machine::SequenceNumber;
use cairn_storage::EngineError;
use cairn_storage::engine::{RunRow, Scan, Table};
use cairn_storage::keys::{Family, chunk, head, snapshot};
use xxhash_rust::xxh3::xxh3_64;

use crate::broken::Bug;

/// The heads of one journal of so many are lost.
const HEADS_LOST_ONE_OF: u64 = 3;

pub(super) fn is_wrong(bug: Bug) -> bool {
    matches!(
        bug,
        Bug::AppliedBeforeData
            | Bug::DataBeforeApplied
            | Bug::HeadRowsLost
            | Bug::HighestFromEvents
            | Bug::ReclaimTakesMore
            | Bug::RowDamaged
            | Bug::FlushesLost
    )
}

/// The run that is written in the place of another one.
pub(super) fn wrong(bug: Bug, real: &dyn Table, mut run: Vec<RunRow>) -> Result<Vec<RunRow>, EngineError> {
    match bug {
        Bug::HeadRowsLost => {
            run.retain(|(key, _)| Family::of(key) != Some(Family::Head) || !xxh3_64(key).is_multiple_of(HEADS_LOST_ONE_OF));
        }
        Bug::RowDamaged => {
            for (key, value) in &mut run {
                if let (Some(Family::SnapshotChunk), Some(value)) = (Family::of(key), value) {
                    damage(value);
                }
            }
        }
        Bug::HighestFromEvents => {
            for (key, value) in &mut run {
                if Family::of(key) == Some(Family::Head) && value.as_ref().is_some_and(is_empty) {
                    *value = None;
                }
            }
        }
        Bug::ReclaimTakesMore => return take_more(real, run),
        _ => {}
    }
    Ok(run)
}

fn damage(value: &mut Bytes) {
    let mut changed = value.to_vec();
    if let Some(last) = changed.last_mut() {
        *last ^= 1;
    }
    *value = changed.into();
}

/// Whether a journal's events are all gone.
fn is_empty(value: &Bytes) -> bool {
    head::decode(value).is_ok_and(|head| head.removed_to == head.highest)
}

/// Where chunks of events go, all snapshots of the journal go too.
fn take_more(real: &dyn Table, run: Vec<RunRow>) -> Result<Vec<RunRow>, EngineError> {
    let removed = run.iter().filter(|(_, value)| value.is_none());
    let journals: BTreeSet<_> = removed.filter_map(|(key, _)| chunk::decode_key(key).ok()).map(|chunk| chunk.journal).collect();
    let mut rows: BTreeMap<Bytes, Option<Bytes>> = run.into_iter().collect();
    for journal in journals {
        let (from, to) = (snapshot::key(journal, SequenceNumber(0)), snapshot::end(journal, SequenceNumber::MAX));
        let snapshots = real.scan_keys(Scan::ascending(&from, &to, usize::MAX, usize::MAX))?;
        rows.extend(snapshots.into_iter().map(|key| (key, None)));
    }
    Ok(rows.into_iter().collect())
}

/// What a crash takes back of a run that is about to be written: rows as they were before it.
pub(super) fn lost_in_a_crash(bug: Bug, real: &dyn Table, run: &[RunRow]) -> Result<Option<Vec<RunRow>>, EngineError> {
    let is_lost = |key: &Bytes| match (bug, Family::of(key)) {
        (Bug::AppliedBeforeData, family) => family != Some(Family::Meta),
        (Bug::DataBeforeApplied, family) => family == Some(Family::Meta),
        (Bug::FlushesLost, _) => true,
        _ => false,
    };
    if !matches!(bug, Bug::AppliedBeforeData | Bug::DataBeforeApplied | Bug::FlushesLost) {
        return Ok(None);
    }
    let keys = run.iter().map(|(key, _)| key).filter(|key| is_lost(key));
    keys.map(|key| Ok((key.clone(), real.get(key)?))).collect::<Result<_, _>>().map(Some)
}
