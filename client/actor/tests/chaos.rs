//! Actors on a cluster in memory that loses requests and answers, changes its leader and breaks its connections, while the actors crash,
//! rest and are taken over by another process: what was acknowledged is there, once and in order.

mod common;

use std::time::Duration;

use cairn_actor::actor_ref::ActorRef;
use cairn_actor::effect::Effect;
use cairn_actor::kind::{Supervision, WriteRetry};
use cairn_actor::registry::Entities;
use cairn_client::memory::{Fault, MemoryCairn};
use common::{Notes, Scripted, Tell, make, run, scripted, state};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const ACTORS: usize = 3;
const SENDERS: usize = 4;
const COMMANDS: usize = 30;

/// Events that were acknowledged, by one sender to one actor, in order; with those whose outcome the sender does not know.
#[derive(Default)]
struct Sent {
    acknowledged: Vec<String>,
    all: Vec<String>,
}

fn fault(random: &mut StdRng) -> Fault {
    match random.random_range(0..20) {
        0 => Fault::LoseRequest,
        1 | 2 => Fault::LoseAnswer,
        3 => Fault::Silence,
        _ => Fault::None,
    }
}

/// A process: the actors in it, and how they are told of.
fn process(cluster: &MemoryCairn, seed: u64) -> Entities<Scripted> {
    // So short that many outcomes are unknown to the client.
    let (deadline, attempt_timeout) = (Duration::from_millis(600), Duration::from_millis(300));
    let client = cluster.builder().seed(seed).deadline(deadline).attempt_timeout(attempt_timeout).build().unwrap();
    let kind = scripted(&Notes::default())
        .passivate_after(Duration::from_secs(1))
        .write_retry(WriteRetry { time: Duration::from_secs(90), ..WriteRetry::default() })
        .supervision(Supervision { restarts_max: 1_000, ..Supervision::default() });
    common::system(client, seed).entities(kind)
}

async fn wait(random: &mut StdRng, milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(random.random_range(0..milliseconds))).await;
}

/// Persists an event, or several at once, and says whether it was acknowledged.
async fn send(actor: &ActorRef<Tell>, events: Vec<String>, is_async: bool) -> bool {
    let asked = actor.ask(Duration::from_secs(200), |reply_to| {
        run(move |_, _| {
            let effect = if is_async { Effect::persist_all_async(events) } else { Effect::persist_all(events) };
            effect.then_reply(reply_to, |_| ())
        })
    });
    asked.await.is_ok()
}

async fn sender(name: usize, processes: [Entities<Scripted>; 2], seed: u64) -> Vec<Sent> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut sent: Vec<Sent> = (0..ACTORS).map(|_| Sent::default()).collect();
    for number in 0..COMMANDS {
        wait(&mut random, 700).await;
        let target = random.random_range(0..ACTORS);
        // Mostly where the actor was before.
        let process = &processes[usize::from(random.random_bool(0.1))];
        let actor = process.get(format!("actor-{target}")).unwrap();
        match random.random_range(0..20) {
            0 => make(&actor, |_, _| Effect::fail("a crash")).await,
            1 => process.passivate(actor.persistence_id()),
            2 => make(&actor, |_, _| Effect::save_snapshot()).await,
            _ => {}
        }
        let events: Vec<_> = (0..random.random_range(1..4)).map(|part| format!("{name}.{number}.{part}")).collect();
        let is_acknowledged = send(&actor, events.clone(), random.random_bool(0.5)).await;
        sent[target].all.extend(events.clone());
        if is_acknowledged {
            sent[target].acknowledged.extend(events);
        }
    }
    sent
}

async fn trouble(cluster: MemoryCairn, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        wait(&mut random, 8_000).await;
        match random.random_range(0..4) {
            0 => cluster.break_connections(),
            1 => cluster.lead(random.random_range(0..3)),
            2 => {
                cluster.depose();
                wait(&mut random, 3_000).await;
                cluster.lead(random.random_range(0..3));
            }
            _ => {
                let node = random.random_range(0..3);
                cluster.stop(node);
                wait(&mut random, 3_000).await;
                cluster.start(node);
            }
        }
    }
}

/// One world. Gives how many events were acknowledged, and how many are there.
async fn world(seed: u64) -> (usize, usize) {
    let cluster = MemoryCairn::with_nodes(3);
    let processes = [process(&cluster, 10 * seed + 1), process(&cluster, 10 * seed + 2)];
    let mut random = StdRng::seed_from_u64(seed);
    cluster.inject(move |_| fault(&mut random));
    let troubled = tokio::spawn(trouble(cluster.clone(), seed));
    let senders: Vec<_> =
        (0..SENDERS).map(|name| tokio::spawn(sender(name, processes.clone(), 100 * seed + name as u64))).collect();
    let mut sent = Vec::new();
    for sender in senders {
        sent.push(sender.await.unwrap());
    }
    troubled.abort();
    cluster.inject(|_| Fault::None);
    (0..3).for_each(|node| cluster.start(node));
    cluster.lead(0);
    let reader = process(&cluster, 10 * seed + 3);
    let (mut acknowledged, mut there) = (0, 0);
    for actor in 0..ACTORS {
        let events = state(&reader.get(format!("actor-{actor}")).unwrap()).await.unwrap();
        let mut once = events.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), events.len(), "seed {seed}: an event is stored twice: {events:?}");
        there += events.len();
        for sent in sent.iter().map(|sent| &sent[actor]) {
            acknowledged += sent.acknowledged.len();
            let missing: Vec<_> = sent.acknowledged.iter().filter(|event| !events.contains(event)).collect();
            assert!(missing.is_empty(), "seed {seed}: acknowledged and lost: {missing:?}");
            let of_sender: Vec<_> = events.iter().filter(|event| sent.all.contains(event)).collect();
            let expected: Vec<_> = sent.all.iter().filter(|event| events.contains(event)).collect();
            assert_eq!(of_sender, expected, "seed {seed}: out of order");
            check_whole(seed, &events, &sent.all);
        }
    }
    (acknowledged, there)
}

/// Of each atomic write there is everything or nothing, in a row.
fn check_whole(seed: u64, events: &[String], sent: &[String]) {
    let write = |event: &str| event.rsplit_once('.').map(|(write, _)| write.to_owned());
    for part in sent.chunk_by(|one, other| write(one) == write(other)) {
        let at = events.windows(part.len()).position(|window| window == part);
        let is_absent = part.iter().all(|event| !events.contains(event));
        assert!(at.is_some() || is_absent, "seed {seed}: torn: {part:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledged_events_are_there_once_and_in_order_through_everything() {
    let (mut acknowledged, mut there) = (0, 0);
    for seed in 0..40 {
        let (of_world, stored) = world(seed).await;
        acknowledged += of_world;
        there += stored;
    }
    println!("{acknowledged} events acknowledged, {there} stored");
    assert!(acknowledged > 5_000, "the worlds did something: {acknowledged}");
    assert!(there > acknowledged, "some answers were lost for good");
}
