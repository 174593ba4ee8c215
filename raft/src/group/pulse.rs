//! Whether a shard's core still lives: openraft tells of a core that ended, not of one that waits for ever.
//!
//! The core is asked a question that it answers between two pieces of work, and is given a minute. One that waits for a disk that hangs
//! is not dead: a restart would wait for the same disk, and the shard goes on elsewhere meanwhile. So the log and the tables are asked
//! too, and only a core that is silent beside a disk that works makes the node exit.
//!
//! Invariants
//! - While a core is silent no ticks come in for it. It is the only reader of the channel that they wait in, and writes into it itself:
//!   with a full one it would wait for itself.

use std::pin::pin;
use std::time::Duration;

use cairn_storage::Tables;
use cairn_storage::log::ShardLog;

use super::RaftGroup;
use crate::runtime;

/// Between two questions.
const ASK_INTERVAL: Duration = Duration::from_secs(10);
/// A core that has not answered for so long is silent.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A core that is silent for so long beside a disk that works is dead.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// What stood still with the core has so long to go on, when it is dead but for that.
const GRACE: Duration = Duration::from_secs(10);

/// Resolves, with the reason, when the core lives no more; never if it ends otherwise.
pub(super) async fn stopped(raft: RaftGroup, log: ShardLog, tables: Tables) -> String {
    loop {
        runtime::sleep(ASK_INTERVAL).await;
        // One question at a time: those that nobody answers would pile up.
        let mut answer = pin!(raft.with_raft_state(|_| ()));
        let mut silence = pin!(silence(&raft, &log, &tables));
        tokio::select! {
            biased;
            answer = &mut answer => if answer.is_err() { std::future::pending().await },
            () = &mut silence => return format!("the core gives no sign of life for {SILENT_MAX:?} beside a disk that works"),
        }
        raft.runtime_config().tick(true);
    }
}

/// Resolves when a core that does not answer meanwhile is dead.
async fn silence(raft: &RaftGroup, log: &ShardLog, tables: &Tables) {
    runtime::sleep(ANSWER_MAX).await;
    raft.runtime_config().tick(false);
    tracing::warn!(shard = %tables.shard(), "a shard's core is silent: it waits for the disk, or for ever");
    runtime::sleep(SILENT_MAX - ANSWER_MAX).await;
    // Nothing is cut off behind the end: it resolves when everything that was handed over before is synced.
    let works = log.truncate_after(Some(u64::MAX)).await.is_ok() && tables.flush().await.is_ok();
    if !works {
        // Log and tables tell by themselves that they are broken.
        std::future::pending::<()>().await;
    }
    runtime::sleep(GRACE).await;
}
