//! The test that the README shows.

use cairn_simulation::{Cut, Simulation, Who};

#[test]
fn what_was_acknowledged_survives_the_loss_of_the_leader() {
    Simulation::new(7).nodes(3).run(|cluster| async move {
        let mut account = cluster.client().journal("account-1")?.claim().await?;
        let deposit = account.submit("deposited 100").await?; // in flight
        cluster.partition(Who::Leader(0), Cut::Isolate).await; // nobody reaches it
        let withdrawal = account.submit("withdrew 30").await?;
        let acknowledged = [deposit.await?, withdrawal.await?].len();
        cluster.heal().await;
        let events = account.journal().replay(..).start().collect_all().await?;
        assert_eq!(events.len(), acknowledged);
        Ok(())
    });
}

#[test]
fn the_readme_shows_the_test_above() {
    let (readme, here) = (include_str!("../../README.md"), include_str!("readme.rs"));
    let (_, code) = here.split_once("\n\n").expect("there is code after the first line");
    let (shown, _) = code.split_once("\n#[test]\nfn the_readme").expect("there is this test");
    assert!(readme.contains(&format!("```rust\n{shown}```")), "README.md does not show:\n{shown}");
}
