//! A script: the leader is partitioned away in the middle of writes; nothing that was acknowledged is lost, and nothing is there twice.
//!
//!     cargo run --profile simulation -p cairn-simulation --example partition

use cairn_simulation::{Cluster, Cut, Simulation, Who};

const DEPOSITS: usize = 200;

pub(crate) fn main() {
    let report = Simulation::new(7).nodes(3).client(follow).run(write);
    println!(
        "{DEPOSITS} deposits acknowledged and found, each once; faults: {:?}; the world took {:?}",
        report.faults, report.elapsed
    );
}

/// Writes with many writes in flight, and cuts the leader off when half of them are on their way.
async fn write(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
    let mut account = cluster.client().journal("account-1")?.claim().await?;
    let mut in_flight = Vec::new();
    for number in 0..DEPOSITS {
        if number == DEPOSITS / 2 {
            let leader = cluster.partition(Who::Leader(0), Cut::Isolate).await;
            println!("node {leader} leads and is cut off, with {number} deposits submitted");
        }
        in_flight.push(account.submit(format!("deposited {number}")).await?);
    }
    for acknowledged in in_flight {
        acknowledged.await?;
    }
    cluster.heal().await;
    let events = account.journal().replay(..).start().collect_all().await?;
    let found: Vec<_> = events.iter().map(|stored| String::from_utf8_lossy(&stored.event.payload.bytes).into_owned()).collect();
    let wanted: Vec<_> = (0..DEPOSITS).map(|number| format!("deposited {number}")).collect();
    assert_eq!(found, wanted);
    Ok(())
}

/// Another client host follows the same journal meanwhile, without gap or repetition.
async fn follow(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
    let mut events = cluster.client().journal("account-1")?.follow(1);
    for number in 0..DEPOSITS {
        let stored = events.next().await?.expect("a follow goes on");
        assert_eq!(stored.event.payload.bytes, format!("deposited {number}").as_bytes());
    }
    Ok(())
}
