//! Power cuts at every call of the disk: what was acknowledged is there.

use super::*;

/// Performs the first `acts` acts of a history with every kind of call. Says how many were acknowledged, one after the other,
/// before the log broke.
async fn perform(log: &Log, acts: usize) -> usize {
    let (a, b) = (log.shard(A), log.shard(B));
    for act in 0..acts {
        let done = match act % 5 {
            0 => append(&a, next_entries(&a, 3)).await,
            1 => b.save_vote(Bytes::from(format!("vote {act}"))).await,
            2 => append(&b, next_entries(&b, 2)).await,
            3 => a.truncate_after(Some(a.state().last.expect("not empty").index - 1)).await,
            _ => a.purge(a.entry_id(a.first_index()).expect("not empty")).await,
        };
        if done.is_err() {
            return act;
        }
    }
    acts
}

const ACTS: usize = 30;

fn next_entries(shard: &ShardLog, count: u64) -> Vec<LogEntry> {
    let next = shard.state().last.map_or(0, |last| last.index + 1);
    entries(1, next..next + count, 250)
}

/// What the history comes to after each act, from a log that nothing happens to.
async fn undisturbed() -> Vec<[Content; 2]> {
    let mut after = Vec::new();
    for acts in 0..=ACTS {
        let running = start(&MemoryFs::new(), small()).await;
        assert_eq!(perform(&running.log, acts).await, acts);
        after.push([content(&running.log, A).await.expect("read"), content(&running.log, B).await.expect("read")]);
        running.kill().await;
    }
    after
}

#[tokio::test]
async fn acknowledged_calls_survive_a_power_cut_at_every_call_of_the_disk() {
    let states = undisturbed().await;
    let (mut torn, mut cuts) = (0, 0);
    for (sync, survivors) in [(true, 0), (true, 1), (true, 2), (true, 3), (false, 0), (false, 1)] {
        for call in 0.. {
            let fs = MemoryFs::new();
            let running = start(&fs, small()).await;
            if sync {
                fs.fail_sync_after(call)
            } else {
                fs.fail_write_after(call)
            }
            let acknowledged = perform(&running.log, ACTS).await;
            running.kill().await;
            let mut sector = 0;
            fs.crash(|| {
                sector += 1;
                // Nothing, everything, every second sector, the others.
                [false, true, sector % 2 == 0, sector % 2 == 1][survivors]
            });
            let what = format!("sync {sync}, call {call}, survivors {survivors}: {acknowledged} acknowledged");
            let (log, _writer, report) = open(&fs, small()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            torn += usize::from(report.torn_tail.is_some());
            cuts += 1;
            let found = [content(&log, A).await.expect("read"), content(&log, B).await.expect("read")];
            let allowed = &states[acknowledged..=(acknowledged + 1).min(ACTS)];
            assert!(allowed.contains(&found), "{what}: {found:?}");
            if acknowledged == ACTS {
                break;
            }
        }
    }
    assert!(cuts > 200 && torn > 20, "{cuts} power cuts tore {torn} batches");
}

#[tokio::test]
async fn a_torn_batch_is_cut_and_stays_cut() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let a = running.log.shard(A);
    append(&a, entries(1, 0..3, 100)).await.expect("append");
    fs.fail_sync_after(0);
    append(&a, entries(1, 3..9, 300)).await.expect_err("the sync fails");
    running.kill().await;
    let mut sector = 0;
    fs.crash(|| {
        sector += 1;
        sector != 3
    });
    let (log, _writer, report) = open(&fs, small()).await.expect("open");
    let torn = report.torn_tail.expect("it is reported");
    assert!(torn.bytes_cut > 500 && torn.batch == 3, "{torn:?}");
    assert_eq!(content(&log, A).await.expect("read").entries, entries(1, 0..3, 100));
    // The cut was synced: another power cut brings nothing back.
    fs.crash(|| false);
    let (log, _writer, report) = open(&fs, small()).await.expect("open");
    assert_eq!(report.torn_tail, None);
    assert_eq!(content(&log, A).await.expect("read").entries, entries(1, 0..3, 100));
}

#[tokio::test]
async fn what_a_failed_sync_left_in_the_page_cache_is_made_durable_by_opening() {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let a = running.log.shard(A);
    append(&a, entries(1, 0..3, 100)).await.expect("append");
    fs.fail_sync_after(0);
    append(&a, entries(1, 3..4, 100)).await.expect_err("the sync fails");
    running.kill().await;
    let (log, _writer, _) = open(&fs, small()).await.expect("open");
    assert_eq!(log.shard(A).durable_index(), Some(3));
    fs.crash(|| false);
    let (log, _writer, _) = open(&fs, small()).await.expect("open");
    assert_eq!(content(&log, A).await.expect("read").entries, entries(1, 0..4, 100));
}
