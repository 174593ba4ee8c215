//! openraft's own suite for log stores and state machines, on ours.

use std::path::PathBuf;
use std::sync::Arc;

use cairn_storage::blocking::InlineBlocking;
use cairn_storage::fs::MemoryFs;
use cairn_storage::log::{Log, LogEntry, LogSettings, ShardLog};
use cairn_storage::{EntryId, MemoryDisk, MemoryEngine, Tables, TablesSettings};
use futures::StreamExt;
use openraft::StorageError;
use openraft::storage::RaftLogReader;
use openraft::testing::log::{StoreBuilder, Suite};

use super::world::SHARD;
use crate::log_store::LogStore;
use crate::state_machine::StateMachine;
use crate::type_config::Types;

struct Builder;

/// Keeps the log's writer running as long as its store is used.
struct Running(tokio::task::JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn new_log(fs: &MemoryFs) -> (Running, ShardLog) {
    let settings = LogSettings { segment_bytes: 64 << 10, ..LogSettings::default() };
    let dir = PathBuf::from("/log");
    Log::create(fs, &dir).await.expect("a log is made");
    let opened = Log::open(Arc::new(fs.clone()), dir, settings).await;
    let (log, writer, _report) = opened.expect("an empty log opens");
    (Running(tokio::spawn(writer.run())), log.shard(SHARD))
}

impl StoreBuilder<Types, LogStore, StateMachine, Running> for Builder {
    async fn build(&self) -> Result<(Running, LogStore, StateMachine), StorageError<Types>> {
        let (running, shard_log) = new_log(&MemoryFs::new()).await;
        let engine = Arc::new(MemoryEngine::open(MemoryDisk::new()));
        let tables = Tables::open(engine, SHARD, Arc::new(InlineBlocking), None, TablesSettings::default()).await;
        let state_machine = StateMachine::new(tables.expect("empty tables open")).expect("empty tables have no members");
        Ok((running, LogStore::new(shard_log, Arc::default()), state_machine))
    }
}

/// Nothing here waits for real time: where the log or the suite sleeps, the clock jumps.
#[tokio::test(start_paused = true)]
async fn the_log_store_and_the_state_machine_pass_openrafts_own_suite() {
    Suite::test_all(Builder).await.expect("the suite passes");
}

/// openraft asks for what it appended, to apply it, before it hears that the log refused it: an end of the log that is none would pass
/// for entries that were applied.
#[tokio::test(start_paused = true)]
async fn entries_that_a_broken_log_refused_are_an_error_and_not_the_end_of_the_log() {
    let fs = MemoryFs::new();
    let (_running, log) = new_log(&fs).await;
    let mut store = LogStore::new(log.clone(), Arc::default());
    let append = async |index: u64| {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let entry = LogEntry { id: EntryId { term: 1, leader: 1, index }, payload: bytes::Bytes::from_static(b"x") };
        log.append(vec![entry], Box::new(move |result| drop(sender.send(result))));
        receiver.await.expect("an answer")
    };
    append(1).await.expect("is taken");
    assert!(store.entries_stream(2..3).await.next().await.is_none(), "nothing lies behind the end");
    assert!(store.try_get_log_entries(2..3).await.expect("reads").is_empty());
    fs.fail_sync_after(0);
    append(2).await.expect_err("the log breaks");
    append(3).await.expect_err("the log is broken");
    assert!(store.entries_stream(3..4).await.next().await.is_some_and(|entry| entry.is_err()));
    assert!(store.try_get_log_entries(3..4).await.is_err());
}
