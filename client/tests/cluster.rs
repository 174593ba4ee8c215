//! Changes of the cluster, when nobody answers.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_client::{Cairn, Error};
use tokio::io::DuplexStream;
use tokio::time::Instant;

/// A client whose every connection is taken and never answered, as by a process that is stopped.
fn client_of_a_silent_node(deadline: Duration) -> Cairn {
    let held = Arc::new(Mutex::new(Vec::<DuplexStream>::new()));
    let connector = move |_: String| {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        held.lock().unwrap().push(theirs);
        async move { Ok::<_, io::Error>(ours) }
    };
    Cairn::builder().endpoints(["node-1:1"]).connector(connector).deadline(deadline).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn handing_leadership_over_ends_at_the_clients_deadline_and_its_outcome_is_unknown() {
    let begun = Instant::now();
    let cairn = client_of_a_silent_node(Duration::from_secs(20));
    let error = cairn.cluster().transfer_leader(None, None).await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(21), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_change_at_an_address_that_is_none_is_refused_before_anything_is_sent() {
    let cairn = client_of_a_silent_node(Duration::from_secs(20));
    for error in [
        cairn.cluster().add("nonsense").await.unwrap_err(),
        cairn.cluster().replace(cairn_machine::NodeId(1), "nonsense").await.unwrap_err(),
    ] {
        assert!(matches!(&error, Error::Invalid { message } if message.contains("nonsense")), "{error}");
    }
}
