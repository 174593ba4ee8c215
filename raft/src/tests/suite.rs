//! openraft's own suite for log stores and state machines, on ours.

use std::path::PathBuf;
use std::sync::Arc;

use cairn_storage::blocking::InlineBlocking;
use cairn_storage::fs::MemoryFs;
use cairn_storage::log::{Log, LogSettings};
use cairn_storage::{MemoryDisk, MemoryEngine, Tables, TablesSettings};
use openraft::StorageError;
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

impl StoreBuilder<Types, LogStore, StateMachine, Running> for Builder {
    async fn build(&self) -> Result<(Running, LogStore, StateMachine), StorageError<Types>> {
        let settings = LogSettings { segment_bytes: 64 << 10, ..LogSettings::default() };
        let (fs, dir) = (MemoryFs::new(), PathBuf::from("/log"));
        Log::create(&fs, &dir).await.expect("a log is made");
        let opened = Log::open(Arc::new(fs), dir, settings).await;
        let (log, writer, _report) = opened.expect("an empty log opens");
        let running = Running(tokio::spawn(writer.run()));
        let shard_log = log.shard(SHARD);
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
