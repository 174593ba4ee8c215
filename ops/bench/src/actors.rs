//! Persistent actors: how fast they persist, and how fast they come back.

use std::time::Duration;

use bytes::Bytes;
use cairn_actor::adapter::Format;
use cairn_actor::codec::{Cbor, Versioned};
use cairn_actor::{ActorKind, ActorRef, ActorSystem, AskError, Behavior, Context, Effect, ReplyTo};
use cairn_client::Error;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Run;
use crate::append::{journal_name, payload};
use crate::measure::{Measured, Meter, finish, measure};

/// How long an actor may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Actors filled at the same time.
const ACTORS_IN_FLIGHT: usize = 128;
/// Events of one atomic write while actors are filled.
const FILL_BATCH: usize = 100;

/// Measures actors that persist an event, answer, and are asked for the next.
pub(crate) async fn measure_persist(run: &Run<'_>, prefix: &str, actors: usize, payload_bytes: usize) -> Result<Measured, Error> {
    let actors = spawn_all(run, prefix, actors)?;
    futures::stream::iter(actors.iter().map(Ok::<_, Error>))
        .try_for_each_concurrent(ACTORS_IN_FLIGHT, |actor| async { add(actor, Bytes::new(), 0).await.map(drop) })
        .await?;
    let (meter, payload) = (Meter::start(run.warm_up, run.duration), payload(payload_bytes));
    let load = async {
        let mut tasks = JoinSet::new();
        for actor in actors {
            let (meter, payload) = (meter.clone(), payload.clone());
            tasks.spawn(async move {
                while !meter.is_over() {
                    let begun = Instant::now();
                    add(&actor, payload.clone(), 1).await?;
                    meter.done(begun, 1);
                }
                Ok(())
            });
        }
        finish(tasks).await
    };
    measure(run, &meter, load).await
}

/// Measures how long it takes until actors that start at once have all recovered, again and again. An operation is a round of all
/// of them.
pub(crate) async fn measure_recover(
    run: &Run<'_>,
    prefix: &str,
    actors: usize,
    events_each: usize,
    payload_bytes: usize,
) -> Result<Measured, Error> {
    let (first, payload) = (spawn_all(run, prefix, actors)?, payload(payload_bytes));
    futures::stream::iter(first.iter().map(Ok::<_, Error>))
        .try_for_each_concurrent(ACTORS_IN_FLIGHT, |actor| async {
            let mut left = events_each;
            while left > 0 {
                let batch = left.min(FILL_BATCH);
                left -= batch;
                add(actor, payload.clone(), batch).await?;
            }
            Ok(())
        })
        .await?;
    let meter = Meter::start(run.warm_up, run.duration);
    let load = async {
        while !meter.is_over() {
            let begun = Instant::now();
            // As another process would: the first ones learn that they were superseded when they write.
            let recovering = spawn_all(run, prefix, actors)?;
            let counts = futures::future::try_join_all(recovering.iter().map(|actor| add(actor, Bytes::new(), 0))).await?;
            assert!(counts.iter().all(|count| *count == events_each as u64), "an actor recovers every event");
            meter.done(begun, (actors * events_each) as u64);
            recovering.iter().for_each(ActorRef::stop);
        }
        Ok(())
    };
    measure(run, &meter, load).await
}

fn spawn_all(run: &Run<'_>, prefix: &str, actors: usize) -> Result<Vec<ActorRef<Add>>, Error> {
    let system = ActorSystem::new(run.cairn.clone());
    let kind = ActorKind::new(|_| Counter, Format::new(Versioned::new("counter-event", Cbor)));
    (0..actors).map(|ordinal| system.spawn(&kind, journal_name(prefix, ordinal))).collect()
}

/// Lets an actor persist so many events at once; how many it has then.
async fn add(actor: &ActorRef<Add>, payload: Bytes, events: usize) -> Result<u64, Error> {
    let add = |reply_to| Add { payload, events, reply_to };
    actor.ask(PATIENCE, add).await.map_err(|error: AskError| Error::Unknown { message: error.to_string() })
}

/// Counts its events.
struct Counter;

struct Add {
    payload: Bytes,
    events: usize,
    reply_to: ReplyTo<u64>,
}

#[derive(Serialize, Deserialize)]
struct Added {
    payload: Bytes,
}

impl Behavior for Counter {
    type State = u64;
    type Command = Add;
    type Event = Added;

    fn empty_state(&self) -> u64 {
        0
    }

    fn apply(count: &mut u64, _: &Added) {
        *count += 1;
    }

    fn handle(&mut self, count: &u64, add: Add, _: &mut Context<Self>) -> Effect<Self> {
        let Add { payload, events, reply_to } = add;
        if events == 0 {
            return Effect::reply(reply_to, *count);
        }
        let added = (0..events).map(|_| Added { payload: payload.clone() });
        Effect::persist_all(added).then_reply(reply_to, |count| *count)
    }
}
