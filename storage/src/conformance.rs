//! What every engine must do: one suite, run on each.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::{Compaction, Engine, EngineError, RunRow, Scan, Table, TableView};

/// A place where an engine can be opened again and again, with what was durable still there.
pub trait Reopen {
    /// Opens the engine; the one before was dropped.
    fn open(&self) -> Arc<dyn Engine>;
}

/// Runs the whole suite, each part in a new place.
///
/// # Panics
/// If the engine fails.
pub fn run<R: Reopen>(place: &dyn Fn() -> R) {
    rows_are_read_in_both_orders_within_limits(&place());
    a_later_run_replaces_and_removes(&place());
    a_run_that_is_not_ascending_is_refused_whole(&place());
    views_do_not_see_later_runs(&place());
    tables_are_apart_and_can_be_dropped(&place());
    everything_is_there_after_reopening(&place());
    large_and_empty_values_round_trip(&place());
    compaction_changes_no_answer(&place());
}

fn row(key: &str, value: &str) -> RunRow {
    (Bytes::copy_from_slice(key.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes())))
}

fn removal(key: &str) -> RunRow {
    (Bytes::copy_from_slice(key.as_bytes()), None)
}

fn ingest(table: &dyn Table, rows: Vec<RunRow>) {
    table.ingest(&mut rows.into_iter()).expect("ingests");
}

fn keys(view: &dyn TableView, scan: Scan<'_>) -> Vec<String> {
    let text = |key: Bytes| String::from_utf8(key.to_vec()).expect("ASCII");
    let rows: Vec<String> = view.scan(scan).expect("scans").into_iter().map(|(key, _)| text(key)).collect();
    if scan.bytes_max == usize::MAX {
        let alone: Vec<String> = view.scan_keys(scan).expect("scans").into_iter().map(text).collect();
        assert_eq!(alone, rows, "keys alone are the keys of the rows");
    }
    rows
}

fn get(view: &dyn TableView, key: &str) -> Option<String> {
    let value = view.get(key.as_bytes()).expect("reads")?;
    Some(String::from_utf8(value.to_vec()).expect("ASCII"))
}

fn rows_are_read_in_both_orders_within_limits(place: &impl Reopen) {
    let engine = place.open();
    let table = engine.open("t").expect("opens");
    ingest(&*table, vec![row("a", "1"), row("c", "3"), row("e", "5")]);
    ingest(&*table, vec![row("b", "2"), row("d", "4")]);
    let up = |from: &'static str, to: &'static str, rows| Scan::ascending(from.as_bytes(), to.as_bytes(), rows, usize::MAX);
    let down = |from: &'static str, to: &'static str, rows| Scan::descending(from.as_bytes(), to.as_bytes(), rows, usize::MAX);
    assert_eq!(keys(&*table, up("a", "z", 9)), ["a", "b", "c", "d", "e"]);
    assert_eq!(keys(&*table, up("b", "d", 9)), ["b", "c"], "the end is exclusive");
    assert_eq!(keys(&*table, up("a", "z", 2)), ["a", "b"]);
    assert_eq!(keys(&*table, down("a", "z", 9)), ["e", "d", "c", "b", "a"]);
    assert_eq!(keys(&*table, down("b", "d", 1)), ["c"]);
    assert_eq!(keys(&*table, Scan::ascending(b"a", b"z", 9, 1)), ["a"], "one row at least");
    assert_eq!(keys(&*table, Scan::ascending(b"a", b"z", 9, 3)), ["a", "b"]);
    assert!(keys(&*table, up("z", "a", 9)).is_empty());
    assert!(keys(&*table, up("a", "a", 9)).is_empty());
    let below = |key: &str, floor: &str| {
        let found = table.get_at_or_below(key.as_bytes(), floor.as_bytes()).expect("reads");
        found.map(|(key, _)| String::from_utf8(key.to_vec()).expect("ASCII"))
    };
    assert_eq!(below("cc", "a").as_deref(), Some("c"));
    assert_eq!(below("c", "a").as_deref(), Some("c"));
    assert_eq!(below("c", "cc"), None, "nothing below the floor");
}

fn a_later_run_replaces_and_removes(place: &impl Reopen) {
    let engine = place.open();
    let table = engine.open("t").expect("opens");
    ingest(&*table, vec![row("a", "1"), row("b", "1"), row("c", "1")]);
    ingest(&*table, vec![row("a", "2"), removal("b"), removal("never")]);
    assert_eq!(get(&*table, "a").as_deref(), Some("2"));
    assert_eq!(get(&*table, "b"), None);
    assert_eq!(get(&*table, "c").as_deref(), Some("1"));
    assert_eq!(keys(&*table, Scan::ascending(b"a", b"z", 9, usize::MAX)), ["a", "c"]);
    ingest(&*table, vec![row("b", "3")]);
    assert_eq!(get(&*table, "b").as_deref(), Some("3"));
    ingest(&*table, Vec::new());
    assert_eq!(get(&*table, "b").as_deref(), Some("3"));
}

fn a_run_that_is_not_ascending_is_refused_whole(place: &impl Reopen) {
    let engine = place.open();
    let table = engine.open("t").expect("opens");
    ingest(&*table, vec![row("a", "1")]);
    for rows in [vec![row("c", "2"), row("b", "2")], vec![row("c", "2"), row("c", "3")]] {
        let refused = table.ingest(&mut rows.into_iter());
        assert!(matches!(refused, Err(EngineError::Unsorted { row: 1 })), "{refused:?}");
        assert_eq!(keys(&*table, Scan::ascending(b"a", b"z", 9, usize::MAX)), ["a"]);
    }
    ingest(&*table, vec![row("b", "4")]);
    assert_eq!(get(&*table, "b").as_deref(), Some("4"));
}

fn views_do_not_see_later_runs(place: &impl Reopen) {
    let engine = place.open();
    let table = engine.open("t").expect("opens");
    ingest(&*table, vec![row("a", "1"), row("b", "1")]);
    let view = table.view();
    ingest(&*table, vec![removal("a"), row("b", "2"), row("c", "2")]);
    assert_eq!(table.compact(), Ok(Compaction::Done));
    assert_eq!(get(&*view, "a").as_deref(), Some("1"));
    assert_eq!(get(&*view, "b").as_deref(), Some("1"));
    assert_eq!(keys(&*view, Scan::ascending(b"a", b"z", 9, usize::MAX)), ["a", "b"]);
    assert_eq!(keys(&*table, Scan::ascending(b"a", b"z", 9, usize::MAX)), ["b", "c"]);
}

fn tables_are_apart_and_can_be_dropped(place: &impl Reopen) {
    let engine = place.open();
    let (one, other) = (engine.open("shard-1").expect("opens"), engine.open("shard-10").expect("opens"));
    ingest(&*one, vec![row("a", "1")]);
    ingest(&*other, vec![row("a", "2")]);
    assert_eq!(get(&*one, "a").as_deref(), Some("1"));
    assert_eq!(engine.tables().expect("lists"), ["shard-1", "shard-10"]);
    engine.drop_table("shard-1").expect("drops");
    engine.drop_table("never").expect("a missing table is no error");
    assert_eq!(get(&*one, "a").as_deref(), Some("1"), "an open handle keeps working");
    assert_eq!(engine.tables().expect("lists"), ["shard-10"]);
    drop(one);
    let again = engine.open("shard-1").expect("opens");
    assert_eq!(get(&*again, "a"), None, "a table made again is empty");
    assert_eq!(get(&*other, "a").as_deref(), Some("2"));
}

fn everything_is_there_after_reopening(place: &impl Reopen) {
    for round in 0..4u32 {
        let engine = place.open();
        assert_eq!(engine.tables().expect("lists").len(), usize::from(round > 0));
        let table = engine.open("t").expect("opens");
        for before in 0..round {
            assert_eq!(get(&*table, &format!("k{before}")).as_deref(), Some("1"));
        }
        assert_eq!(get(&*table, "last"), round.checked_sub(1).map(|before| before.to_string()), "the newest wins");
        ingest(&*table, vec![row(&format!("k{round}"), "1"), row("last", &round.to_string())]);
    }
}

fn large_and_empty_values_round_trip(place: &impl Reopen) {
    let values = [0, 1, 511, 512, 100_000, 4 << 20].map(|length| Bytes::from(vec![b'v'; length]));
    {
        let engine = place.open();
        let table = engine.open("t").expect("opens");
        let rows = values.iter().enumerate().map(|(index, value)| (Bytes::from(format!("k{index}")), Some(value.clone())));
        ingest(&*table, rows.collect());
    }
    let engine = place.open();
    let table = engine.open("t").expect("opens");
    for (index, value) in values.iter().enumerate() {
        assert_eq!(table.get(format!("k{index}").as_bytes()).expect("reads").as_ref(), Some(value));
    }
    let rows = table.scan(Scan::ascending(b"k", b"l", 99, usize::MAX)).expect("scans");
    assert_eq!(rows.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), values);
}

fn compaction_changes_no_answer(place: &impl Reopen) {
    let engine = place.open();
    let table = engine.open("t").expect("opens");
    let key = |number: u32| format!("k{number:04}");
    for round in 0..6 {
        let rows = (0..200).filter(|number| number % (round + 1) == 0);
        let change =
            |number| if (number + round) % 3 == 0 { removal(&key(number)) } else { row(&key(number), &format!("{round}")) };
        ingest(&*table, rows.map(change).collect());
    }
    let all = || table.scan(Scan::ascending(b"k", b"l", 999, usize::MAX)).expect("scans");
    let before = all();
    assert_eq!(table.compact(), Ok(Compaction::Done));
    assert_eq!(all(), before);
    assert!(!before.is_empty());
}
