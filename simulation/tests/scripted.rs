//! Scripts of users: what they ask for happens when they ask, and what goes wrong ends the test with everything that is needed to go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_client::Error;
use cairn_simulation::{Cluster, Cut, Detail, Fault, Loss, Report, Simulation, Who};
use tokio::time::Instant;

type Ended = Result<(), Box<dyn std::error::Error>>;

/// Runs `run` and gives back the text with which it panics.
fn panic_of(run: impl FnOnce() -> Report) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it was to panic");
    panic.downcast_ref::<String>().expect("a text").clone()
}

#[test]
fn a_partitioned_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let report = Simulation::new(1).run(|cluster| async move {
        let mut account = cluster.client().journal("account-1")?.claim().await?;
        account.append("before").await?;
        let cut_off = cluster.partition(Who::Leader(0), Cut::Isolate).await;
        account.append("meanwhile").await?;
        let hit_again = cluster.crash(Who::Leader(0)).await;
        assert_ne!(cut_off, hit_again, "another node leads by now");
        cluster.heal().await;
        account.append("after").await?;
        let events = account.journal().replay(..).start().collect_all().await?;
        assert_eq!(events.len(), 3);
        Ok(())
    });
    assert_eq!(report.faults.keys().copied().collect::<Vec<_>>(), ["kill", "partition"]);
}

#[test]
fn without_a_quorum_the_outcome_is_unknown_and_with_it_the_cluster_serves_again() {
    Simulation::new(2).run(|cluster| async move {
        let client = cluster.client().with_deadline(Duration::from_secs(5));
        let mut account = client.journal("account-1")?.claim().await?;
        let first = cluster.crash(Who::Follower(0)).await;
        let second = cluster.cut_power(Who::Follower(0)).await;
        assert_ne!(first, second);
        let outcome = account.append("without a quorum").await;
        assert!(matches!(outcome, Err(Error::Unknown { .. } | Error::Unavailable { .. })), "{outcome:?}");
        cluster.restart(first).await;
        account.resume().await?;
        account.append("with a quorum").await?;
        cluster.restart(second).await;
        cluster.ready().await;
        Ok(())
    });
}

/// Takes the leader away under a writer so that nothing tells the client: its machine is gone, or cut off from the other nodes alone. How
/// long it takes until an event is acknowledged: the writer's next one, and the first one of a client that comes then.
fn gaps_of(seed: u64, is_cut_off: bool) -> [Duration; 2] {
    let gaps = Arc::new(Mutex::new([Duration::ZERO; 2]));
    let seen = gaps.clone();
    Simulation::new(seed).run(move |cluster| async move {
        let client = || cluster.client_builder().attempt_timeout(Duration::from_secs(20)).build();
        let mut account = client()?.journal("account-1")?.claim().await?;
        for _ in 0..100 {
            account.append("before").await?;
        }
        let lost = if is_cut_off {
            cluster.partition(Who::Leader(0), Cut::FromNodes).await
        } else {
            cluster.crash(Who::Leader(0)).await
        };
        let begun = Instant::now();
        let writer = async {
            account.append("after").await?;
            Ok::<_, Error>(begun.elapsed())
        };
        let newcomer = async {
            client()?.journal("account-2")?.claim().await?.append("first").await?;
            Ok::<_, Error>(begun.elapsed())
        };
        let (writer, newcomer) = tokio::try_join!(writer, newcomer)?;
        *seen.lock().expect("nobody panics while holding it") = [writer, newcomer];
        if is_cut_off {
            cluster.heal().await;
        } else {
            cluster.restart(lost).await;
        }
        Ok(())
    });
    *gaps.lock().expect("nobody panics while holding it")
}

#[test]
fn a_leader_whose_machine_is_gone_is_waited_for_until_another_one_leads_and_not_until_the_try_ends() {
    for is_cut_off in [false, true] {
        let mut gaps: Vec<_> = (1..=10).flat_map(|seed| gaps_of(seed, is_cut_off)).collect();
        gaps.sort_unstable();
        // Where two followers stand at the same time, an election takes another round.
        let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        assert!(median <= Duration::from_millis(1_200) && longest <= Duration::from_secs(4), "{gaps:?}");
    }
}

#[test]
fn a_paused_leader_is_replaced_and_goes_on_as_a_follower() {
    let report = Simulation::new(10).run(|cluster| async move {
        let mut account = cluster.client().journal("account-1")?.claim().await?;
        account.append("before").await?;
        let paused = cluster.pause(Who::Leader(0)).await;
        account.append("meanwhile").await?;
        let leads = cluster.clock_jump(Who::Leader(0), 1).await;
        assert_ne!(paused, leads, "another node leads by now");
        let late = cluster.client().with_deadline(Duration::from_secs(2));
        let waits = late.journal("account-1")?.read_at(format!("node-{}:7101", paused.0)).replay(..).start().collect_all().await;
        assert!(waits.is_err(), "who stands still answers nobody: {waits:?}");
        cluster.heal().await;
        cluster.ready().await;
        account.append("after").await?;
        Ok(())
    });
    assert_eq!(report.faults.get("pause"), Some(&1));
    let restarted = report.chronicle.lines.iter().find(|line| line.text.contains("starts"));
    assert!(restarted.is_none(), "it went on where it stopped: {restarted:?}");
}

/// What the world said while a machine lost its files, under a writer who did not stop writing.
fn said_after_loss_of(seed: u64, loss: Loss) -> Report {
    Simulation::new(seed).spares(1).time_max(Duration::from_secs(60)).run(move |cluster| async move {
        let mut account = cluster.client().journal("account-1")?.claim().await?;
        account.append("before").await?;
        cluster.begin_for(Fault::Loss { who: Who::Follower(0), loss }, Duration::from_secs(1)).await;
        for number in 0..100 {
            account.append(format!("event {number}")).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    })
}

fn has_said(report: &Report, text: &str) -> bool {
    report.chronicle.lines.iter().any(|line| line.text.contains(text))
}

#[test]
fn a_node_with_an_older_copy_of_its_files_stops_and_says_so_and_is_replaced() {
    let report = said_after_loss_of(11, Loss::Old);
    assert_eq!(report.faults.get("old files"), Some(&1));
    for text in ["this node has acknowledged", "must not be used again", "changed: Replace"] {
        assert!(has_said(&report, text), "nobody said {text:?}");
    }
}

#[test]
fn a_wiped_node_serves_nobody_and_is_replaced() {
    let report = said_after_loss_of(12, Loss::Wiped);
    assert_eq!(report.faults.get("wiped disk"), Some(&1));
    assert!(has_said(&report, "changed: Replace"));
}

#[test]
fn a_node_with_another_ones_files_does_not_start_until_it_has_its_own_again() {
    let report = said_after_loss_of(13, Loss::Foreign);
    assert_eq!(report.faults.get("foreign files"), Some(&1));
    assert!(has_said(&report, "ended: NotStarted") && !has_said(&report, "changed: Replace"));
}

#[test]
fn slow_disks_and_jumping_clocks_lose_nothing() {
    Simulation::new(3).shards(2).run(|cluster| async move {
        cluster.slow_disk(Who::Leader(0), Duration::from_millis(200)).await;
        cluster.clock_jump(Who::Leader(1), -3_600_000_000).await;
        let mut account = cluster.client().journal("account-1")?.claim().await?;
        for number in 0..20 {
            account.append(format!("event {number}")).await?;
        }
        Ok(())
    });
}

#[test]
fn a_fault_begins_at_its_moment_and_ends_by_itself() {
    let (second, fault) = (Duration::from_secs(1), Fault::Crash { who: Who::Node(2), power_cut: true });
    let report = Simulation::new(4).fault_at(10 * second, 5 * second, fault).run(|cluster| async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        cluster.ready().await;
        Ok(())
    });
    let said = |text: &str| report.chronicle.lines.iter().find(|line| line.text.contains(text)).map(|line| line.at.as_secs());
    assert_eq!((said("Crash"), said("node-2 starts")), (Some(10), Some(15)));
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    async fn work(cluster: Cluster) -> Ended {
        let mut account = cluster.client().journal("account-1")?.claim().await?;
        for number in 0..cluster.dice("events").number(5, 20) {
            account.append(format!("event {number}")).await?;
            cluster.begin_for(Fault::Partition { who: Who::Leader(0), cut: Cut::Mute }, Duration::from_secs(1)).await;
        }
        Ok(())
    }
    let trace = |seed| Simulation::new(seed).detail(Detail::TraceHash).run(work).chronicle.trace;
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5), trace(6));
}

#[test]
fn a_failed_assertion_of_a_user_says_seed_timeline_and_how_to_run_it_again() {
    let text = panic_of(|| {
        Simulation::new(7).run(|cluster| async move {
            cluster.partition(Who::Node(3), Cut::Isolate).await;
            panic!("the balance is wrong");
        })
    });
    for part in ["seed 7", "the workload", "the balance is wrong", "Isolate", "again:", "Simulation::new(7)"] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn an_error_of_a_closure_ends_the_test() {
    let text = panic_of(|| Simulation::new(8).run(|_| async move { Err("no money".into()) }));
    assert!(text.contains("no money"), "{text}");
}

#[test]
fn a_closure_that_does_not_end_ends_the_test() {
    let text = panic_of(|| Simulation::new(9).time_max(Duration::from_secs(20)).run(|_| std::future::pending::<Ended>()));
    assert!(text.contains("not within"), "{text}");
}
