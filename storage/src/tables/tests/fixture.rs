//! Bytes that earlier builds have written, kept as hexadecimal text: what is on disks out there must stay readable.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::damage::{files, is_journal};
use super::world::{Place, SHARD, check, furnished, open, small};
use crate::engine::{Engine, RunRow, Scan};
use crate::fjall_engine::{FjallEngine, FjallSettings};
use crate::keys::Family;
use crate::memory_engine::{MemoryDisk, MemoryEngine};
use crate::tables::{Generation, make_current};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tables-v1.txt");
/// The files of a database on a disk, one a line: where it is, and its bytes, or of one that holds nothing but zeros how many.
const DATABASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/database-v1.txt");

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

fn pack(dir: &Path) -> String {
    let mut found = Vec::new();
    files(dir, &mut found);
    found.sort();
    let line_of = |path: &PathBuf| {
        let name = path.strip_prefix(dir).expect("is below").display().to_string();
        let bytes = std::fs::read(path).expect("reads");
        if is_journal(path) {
            assert!(bytes.iter().all(|byte| *byte == 0), "nothing is ever written to {name}");
            return format!("{name} zeros {}\n", bytes.len());
        }
        format!("{name} {}\n", line(&[Bytes::from(bytes)]))
    };
    found.iter().map(line_of).collect()
}

fn unpack(text: &str, dir: &Path) {
    for file in text.lines() {
        let (name, content) = file.split_once(' ').expect("a name and what is in it");
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("is below")).expect("creates");
        match content.strip_prefix("zeros ") {
            Some(count) => {
                let file = std::fs::File::create(path).expect("creates");
                file.set_len(count.parse().expect("a number")).expect("grows");
            }
            None => std::fs::write(path, bytes(content)).expect("writes"),
        }
    }
}

#[tokio::test]
async fn a_database_of_version_1_opens_with_all_that_was_written() {
    let mut world = furnished(Place::fjall(), small(10_000_000)).await;
    world.flush().await;
    world.stop().await;
    if std::env::var_os("CAIRN_REWRITE_FIXTURES").is_some() {
        let Place::Fjall(dir) = &world.place else { unreachable!("it was made on disk") };
        std::fs::write(DATABASE, pack(dir.path())).expect("writes the fixture");
    }
    let dir = tempfile::tempdir().expect("a directory");
    unpack(&std::fs::read_to_string(DATABASE).expect("the fixture is checked in"), dir.path());
    let engine: Arc<dyn Engine> = Arc::new(FjallEngine::open(dir.path(), FjallSettings::default()).expect("opens"));
    let tables = open(&engine, &small(10_000_000), None).await.expect("opens");
    assert_eq!(tables.applied().map(|entry| entry.index), Some(world.applied_index()));
    check(&tables, &world.model).await;
}
