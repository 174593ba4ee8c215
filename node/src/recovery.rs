//! How far a node is that opens its shards: what they had applied when it stopped, and what their logs hold beyond that, which is
//! applied again.

use std::sync::Mutex;
use std::time::Duration;

use cairn_storage::Tables;
use cairn_storage::log::ShardLog;
use tokio::sync::watch;

use crate::readiness::Reason;

/// How often progress is told.
const TELL_INTERVAL: Duration = Duration::from_millis(200);

/// The recovery of all shards of a node.
#[derive(Default)]
pub(crate) struct Recovery {
    shards: Mutex<Vec<Share>>,
}

/// One shard's part of it.
struct Share {
    tables: Tables,
    /// Applied when its tables were opened.
    from: u64,
    /// Known to be committed.
    to: u64,
}

impl Recovery {
    /// Takes a shard into account whose tables were opened just now.
    pub(crate) fn begin(&self, tables: &Tables, log: &ShardLog) {
        let from = tables.applied().map_or(0, |entry| entry.index);
        let to = log.state().committed.map_or(0, |entry| entry.index);
        self.shards.lock().expect("nothing panics while it is held").push(Share { tables: tables.clone(), from, to });
    }

    /// Tells how far the recovery is while `opening` runs.
    pub(crate) async fn told_during<T>(&self, opening: impl Future<Output = T>, readiness: &watch::Sender<Vec<Reason>>) -> T {
        let mut opening = std::pin::pin!(opening);
        loop {
            readiness.send_replace(vec![Reason::Recovering(self.percent())]);
            tokio::select! {
                biased;
                opened = &mut opening => return opened,
                () = tokio::time::sleep(TELL_INTERVAL) => {}
            }
        }
    }

    fn percent(&self) -> u8 {
        let shards = self.shards.lock().expect("nothing panics while it is held");
        percent(shards.iter().map(|share| (share.from, share.tables.applied().map_or(0, |entry| entry.index), share.to)))
    }
}

/// Of shards, each with where it began, where it is, and where it must come.
fn percent(shards: impl Iterator<Item = (u64, u64, u64)>) -> u8 {
    let (mut done, mut all) = (0_u64, 0_u64);
    for (from, now, to) in shards {
        all += to.saturating_sub(from);
        done += now.min(to).saturating_sub(from);
    }
    done.saturating_mul(100).checked_div(all).map_or(0, |percent| u8::try_from(percent).unwrap_or(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_what_was_applied_of_what_was_committed_over_all_shards() {
        assert_eq!(percent([].into_iter()), 0, "nothing is open yet");
        assert_eq!(percent([(0, 0, 100)].into_iter()), 0);
        assert_eq!(percent([(100, 143, 200)].into_iter()), 43);
        assert_eq!(percent([(0, 10, 10), (10, 10, 20)].into_iter()), 50);
        assert_eq!(percent([(5, 30, 20)].into_iter()), 100, "more than was known to be committed");
    }
}
