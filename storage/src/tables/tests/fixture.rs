//! Bytes that earlier builds have written, kept as hexadecimal text: what is on disks out there must stay readable.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;

use super::world::{Place, SHARD, check, furnished, open, small};
use crate::engine::{Engine, RunRow, Scan};
use crate::keys::Family;
use crate::memory_engine::{MemoryDisk, MemoryEngine};
use crate::tables::{Generation, make_current};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tables-v1.txt");

/// The kept lines, each of several fields, after comparing them with what is made today; with the environment variable
/// `CAIRN_REWRITE_FIXTURES` they are written first, which is right only for a version that nobody has on a disk yet.
pub(crate) fn compare(path: &str, made: &[Vec<Bytes>]) -> Vec<Vec<Bytes>> {
    let text: String = made.iter().map(|fields| line(fields) + "\n").collect();
    if std::env::var_os("CAIRN_REWRITE_FIXTURES").is_some() {
        std::fs::write(path, &text).expect("writes the fixture");
    }
    let kept = std::fs::read_to_string(path).expect("the fixture is checked in");
    assert!(kept == text, "{path} is not what is made today");
    kept.lines().map(|line| line.split(' ').map(bytes).collect()).collect()
}

fn line(fields: &[Bytes]) -> String {
    let hexadecimal = |field: &Bytes| {
        field.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string grows");
            text
        })
    };
    fields.iter().map(hexadecimal).collect::<Vec<_>>().join(" ")
}

fn bytes(text: &str) -> Bytes {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|digits| u8::from_str_radix(digits, 16).expect("hexadecimal")).collect()
}

#[tokio::test]
async fn rows_of_version_1_are_read_and_are_what_is_written_today() {
    let world = furnished(Place::memory(), small(10_000_000)).await;
    world.flush().await;
    let table = world.tables().inner.table();
    let all = Scan::ascending(&[], &[u8::MAX], usize::MAX, usize::MAX);
    let rows = table.scan(all).expect("scans");
    for family in Family::ALL.into_iter().filter(|family| *family != Family::Removal) {
        assert!(rows.iter().any(|(key, _)| Family::of(key) == Some(family)), "the fixture has rows of {family:?}");
    }
    let made: Vec<Vec<Bytes>> = rows.into_iter().map(|(key, value)| vec![key, value]).collect();

    let kept = compare(FIXTURE, &made);
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::open(MemoryDisk::new()));
    let generation = Generation { shard: SHARD, number: 5 };
    let table = engine.open(&generation.table_name()).expect("opens");
    let mut run = kept.into_iter().map(|fields| -> RunRow { (fields[0].clone(), Some(fields[1].clone())) });
    table.ingest(&mut run).expect("ingests");
    make_current(&*engine, generation).expect("switches");
    let tables = open(&engine, &small(10_000_000), None).await.expect("opens");
    check(&tables, &world.model).await;
}
