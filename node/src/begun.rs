//! What a node has begun, and how that ends: the same for one that ran and for one whose start failed.
//!
//! Invariants
//! - Every step is bounded, whatever hangs.
//! - The data directory stays locked until the log has ended, also where that is not waited for: two writers of one log destroy it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cairn_raft::Groups;
use cairn_storage::fs::DirLock;
use cairn_storage::log::Log;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long connections may take to end by themselves when everything is done.
const LINGER: Duration = Duration::from_millis(100);
/// Each of the last steps has at least so long, also when the deadline has passed.
const STEP_MIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub(crate) struct Begun {
    /// Ends what is not needed for the drain any more.
    pub stop: CancellationToken,
    /// Ends connections that did not end by themselves.
    pub cut: CancellationToken,
    pub tasks: TaskTracker,
    /// Held as long as the node may touch its files.
    pub lock: OnceLock<Arc<dyn DirLock>>,
    /// The log, when its writer runs.
    pub log: OnceLock<Log>,
    pub groups: OnceLock<Arc<Groups>>,
}

impl Begun {
    /// Closes the groups, then the log, then the rest.
    pub(crate) async fn end(&self, deadline: Instant) {
        self.end_groups(step(deadline)).await;
        self.stop.cancel();
        // The log ends last of what writes: until then everything that was accepted can be written.
        self.end_log(step(deadline)).await;
        self.tasks.close();
        // Peers hold their streams open for ever, and so may clients.
        if tokio::time::timeout(LINGER, self.tasks.wait()).await.is_err() {
            self.cut.cancel();
        }
        if tokio::time::timeout_at(step(deadline), self.tasks.wait()).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
    }

    /// All at once: each that hangs would take its time from the others.
    async fn end_groups(&self, end: Instant) {
        let Some(groups) = self.groups.get() else { return };
        let closing = groups.all().into_iter().map(|group| {
            groups.remove(group.shard());
            async move {
                if tokio::time::timeout_at(end, group.shutdown()).await.is_err() {
                    tracing::warn!(shard = %group.shard(), "the shard's core did not end in time");
                }
            }
        });
        futures::future::join_all(closing).await;
    }

    async fn end_log(&self, end: Instant) {
        let Some(log) = self.log.get().cloned() else { return };
        let lock = self.lock.get().cloned();
        let closing = tokio::spawn(async move {
            if let Err(error) = log.shutdown().await {
                tracing::error!(%error, "close the log");
            }
            drop(lock);
        });
        if tokio::time::timeout_at(end, closing).await.is_err() {
            tracing::warn!("the log did not end in time: its disk hangs");
        }
    }
}

fn step(deadline: Instant) -> Instant {
    deadline.max(Instant::now() + STEP_MIN)
}
