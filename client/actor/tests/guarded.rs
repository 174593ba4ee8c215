//! Actors on a store behind circuit breakers: an outage costs time, and never an event or the truth about one.

mod common;

use std::sync::Arc;
use std::time::Duration;

use cairn_actor::circuit_breaker::{CircuitBreakerSettings, CircuitState, Guard, GuardedStore};
use cairn_actor::kind::WriteRetry;
use cairn_actor::store::JournalStore;
use cairn_actor::{StopReason, Supervision};
use cairn_client::memory::{Fault, MemoryCairn};
use cairn_client::{Cairn, Error, PersistenceId};
use cairn_machine::Slice;

use common::{Notes, persist, scripted, state, system};

const ID: &str = "account-1";

fn guarded(memory: &MemoryCairn) -> Arc<GuardedStore<Cairn>> {
    let client = memory.builder().deadline(Duration::from_secs(1)).build().unwrap();
    let journals =
        CircuitBreakerSettings { failures_max: 3, reset_timeout: Duration::from_secs(10), ..CircuitBreakerSettings::journal() };
    Arc::new(GuardedStore::with_settings(client, journals.without_backoff(), CircuitBreakerSettings::snapshots(), 1))
}

async fn highest(memory: &MemoryCairn) -> u64 {
    memory.client().journal(ID).unwrap().highest().await.unwrap().highest.0
}

#[tokio::test(start_paused = true)]
async fn an_outage_delays_events_and_each_is_stored_once() {
    let memory = MemoryCairn::new();
    let store = guarded(&memory);
    let notes = Notes::default();
    let actor = system(store.clone(), 1).spawn(&scripted(&notes), ID).unwrap();
    persist(&actor, "before").await.unwrap();

    memory.stop(0);
    let outage = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let state = store.journals()[0].state();
        memory.start(0);
        state
    };
    let (during, state_then) = tokio::join!(persist(&actor, "during"), outage);
    assert_eq!((during, state_then), (Ok(()), CircuitState::Open));
    assert_eq!(store.journals()[0].state(), CircuitState::Closed);
    assert_eq!(state(&actor).await.unwrap(), ["before", "during"]);
    assert_eq!(highest(&memory).await, 2);
    assert_eq!(notes.all(), ["recovered  at 0"], "the actor did not even restart");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_be_stored_stays_unknown_behind_an_open_breaker() {
    let memory = MemoryCairn::new();
    let notes = Notes::default();
    let retry = WriteRetry { time: Duration::from_secs(30), ..WriteRetry::default() };
    let kind = scripted(&notes).write_retry(retry).supervision(Supervision::STOP);
    let store = guarded(&memory);
    let actor = system(store.clone(), 1).spawn(&kind, ID).unwrap();
    persist(&actor, "before").await.unwrap();

    // The first try is carried out, and nobody hears of it; then the cluster is away.
    let mut tries = 0;
    memory.inject(move |_| {
        tries += 1;
        if tries == 1 { Fault::LoseAnswer } else { Fault::LoseRequest }
    });
    assert!(persist(&actor, "lost").await.is_err());
    assert!(matches!(actor.stopped().await, StopReason::Failed(_)));
    let noted = notes.all();
    assert_eq!(noted, ["recovered  at 0", "Unknown lost from 2"]);
    let refused = store.highest(&PersistenceId::new(ID).unwrap()).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "the breaker is open: {refused:?}");

    memory.inject(|_| Fault::None);
    assert_eq!(highest(&memory).await, 2, "and it was stored indeed");
}

const SHARDS: u16 = 2;

fn shard_of(persistence_id: &PersistenceId) -> u16 {
    Slice::of(persistence_id).shard(SHARDS).0
}

#[tokio::test(start_paused = true)]
async fn a_shard_out_of_reach_does_not_hold_up_the_actors_of_another() {
    let ids = || (0..).map(|number| PersistenceId::new(format!("account-{number}")).unwrap());
    let id_in = |shard| ids().find(|id| shard_of(id) == shard).unwrap();
    let memory = MemoryCairn::new();
    let client = memory.builder().deadline(Duration::from_secs(1)).build().unwrap();
    let settings = CircuitBreakerSettings { failures_max: 3, ..CircuitBreakerSettings::journal() };
    let store = GuardedStore::with_settings(client, settings, CircuitBreakerSettings::snapshots(), 1).per_shard(SHARDS);
    let names: Vec<_> = store.journals().iter().map(Guard::name).collect();
    assert_eq!(names, ["journals of shard 0", "journals of shard 1"]);
    let store = Arc::new(store);
    let kind = scripted(&Notes::default()).supervision(Supervision::STOP);
    let system = system(store.clone(), 1);
    let (near, far) = (system.spawn(&kind, id_in(0).as_str()).unwrap(), system.spawn(&kind, id_in(1).as_str()).unwrap());
    persist(&near, "before").await.unwrap();
    persist(&far, "before").await.unwrap();

    memory.inject(|command| if shard_of(command.persistence_id()) == 1 { Fault::LoseRequest } else { Fault::None });
    assert!(persist(&far, "lost").await.is_err());
    let states: Vec<_> = store.journals().iter().map(Guard::state).collect();
    assert_eq!(states, [CircuitState::Closed, CircuitState::Open]);
    assert_eq!(persist(&near, "meanwhile").await, Ok(()));
}
