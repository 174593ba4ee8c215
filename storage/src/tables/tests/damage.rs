//! Damage on the disk: bits of the engine's files flipped one by one.
//!
//! Whatever is hit, tables answer what was written or an error; an answer that is wrong or short never comes.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;

use super::world::{Place, World, check_once, furnished, open, small};
use crate::engine::Engine;
use crate::fjall_engine::{FjallEngine, FjallSettings};

/// Bytes hit in each file, spread evenly.
const HITS: usize = 3;

/// All files below a directory.
pub(super) fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("lists") {
        let path = entry.expect("lists").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creates");
    for entry in fs::read_dir(from).expect("lists") {
        let path = entry.expect("lists").path();
        let target = to.join(path.file_name().expect("has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else if is_journal(&path) {
            let length = fs::metadata(&path).expect("is there").len();
            fs::File::create(&target).and_then(|file| file.set_len(length)).expect("creates");
        } else {
            fs::copy(&path, &target).expect("copies");
        }
    }
}

/// fjall's own journal: large, and empty, as it is never written to.
pub(super) fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jnl")
}

/// What became of a damaged copy.
#[derive(Debug, PartialEq)]
enum Outcome {
    Found,
    Harmless,
}

async fn look(dir: &Path, world: &World) -> Outcome {
    let Ok(engine) = FjallEngine::open(dir, FjallSettings::default()) else { return Outcome::Found };
    let engine: Arc<dyn Engine> = Arc::new(engine);
    let Ok(tables) = open(&engine, &small(1_000_000), None).await else { return Outcome::Found };
    if tables.applied().map(|entry| entry.index) != Some(world.applied_index()) {
        // Lost, and the caller sees that.
        return Outcome::Found;
    }
    // A wrong answer is told from an error by its message.
    match AssertUnwindSafe(check_once(&tables, &world.model)).catch_unwind().await {
        Ok(()) => Outcome::Harmless,
        Err(panic) => {
            let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            assert!(message.contains("Broken") || message.contains("Damaged"), "{message}");
            Outcome::Found
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_is_found_or_harmless() {
    let mut world = furnished(Place::fjall(), small(1_000_000)).await;
    world.flush().await;
    world.stop().await;
    let Place::Fjall(whole) = &world.place else { unreachable!("it was made on disk") };
    let mut all = Vec::new();
    files(whole.path(), &mut all);
    let mut outcomes = Vec::new();
    for file in all.iter().filter(|file| !is_journal(file)) {
        let length = fs::metadata(file).expect("is there").len() as usize;
        for hit in 0..HITS.min(length) {
            let dir = tempfile::tempdir().expect("a directory");
            let copied = dir.path().join("copy");
            copy(whole.path(), &copied);
            let target = copied.join(file.strip_prefix(whole.path()).expect("is below"));
            let mut bytes = fs::read(&target).expect("reads");
            let at = (length - 1) * hit / (HITS - 1);
            bytes[at.min(length - 1)] ^= 1 << (hit % 8);
            fs::write(&target, bytes).expect("writes");
            let outcome = look(&copied, &world).await;
            outcomes.push(outcome);
        }
    }
    assert!(outcomes.contains(&Outcome::Found));
}
