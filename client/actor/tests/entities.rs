//! Actors that start with the first command and rest when they have nothing to do.

mod common;

use std::time::Duration;

use cairn_actor::actor_ref::{ActorRef, StopReason, TellError};
use cairn_actor::effect::Effect;
use cairn_actor::kind::Supervision;
use cairn_actor::registry::Entities;
use cairn_actor::system::ActorSystem;
use cairn_client::memory::MemoryCairn;
use common::meddled::{Fate, Meddled, unavailable};
use common::{Notes, Scripted, Tell, make, persist, run, scripted, state};

struct World {
    notes: Notes,
    store: Meddled,
    system: ActorSystem,
}

impl World {
    fn new() -> Self {
        let store = Meddled::new(MemoryCairn::new().client());
        Self { notes: Notes::default(), system: common::system(store.clone(), 1), store }
    }

    fn entities(&self, idle: Option<Duration>) -> Entities<Scripted> {
        let kind = scripted(&self.notes);
        self.system.entities(match idle {
            Some(idle) => kind.passivate_after(idle),
            None => kind,
        })
    }

    fn recoveries(&self) -> usize {
        self.notes.all().iter().filter(|note| note.starts_with("recovered")).count()
    }
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn entity_starts_with_its_first_command_and_only_once() {
    let world = World::new();
    let entities = world.entities(None);
    let (first, second) = (entities.get("actor").unwrap(), entities.get("actor").unwrap());
    seconds(9).await;
    assert_eq!(world.recoveries(), 0);
    let (one, two) = tokio::join!(persist(&first, "a"), persist(&second, "b"));
    assert_eq!((one, two), (Ok(()), Ok(())));
    assert_eq!(state(&entities.get("actor").unwrap()).await.unwrap(), ["a", "b"]);
    assert_eq!(world.recoveries(), 1);
}

#[tokio::test(start_paused = true)]
async fn idle_entity_rests_and_the_next_command_starts_it_again() {
    let world = World::new();
    let entities = world.entities(Some(Duration::from_secs(10)));
    let entity = entities.get("actor").unwrap();
    persist(&entity, "a").await.unwrap();
    for _ in 0..3 {
        seconds(9).await;
        state(&entity).await.unwrap();
    }
    assert_eq!(world.recoveries(), 1, "it was not idle for so long");
    seconds(11).await;
    assert_eq!(state(&entity).await.unwrap(), ["a"]);
    assert_eq!(world.recoveries(), 2);
}

#[tokio::test(start_paused = true)]
async fn entity_rests_on_request_when_it_has_handled_what_waits() {
    let world = World::new();
    let entities = world.entities(None);
    let entity = entities.get("actor").unwrap();
    world.store.hold();
    for event in ["a", "b", "c"] {
        make(&entity, move |_, _| Effect::persist(event.to_owned())).await;
    }
    seconds(1).await;
    entities.passivate(entity.persistence_id());
    seconds(1).await;
    world.store.let_go(3);
    seconds(1).await;
    assert_eq!(world.store.writes().concat().concat(), [1, 2, 3]);
    assert_eq!(world.recoveries(), 1);
    assert_eq!(state(&entity).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(world.recoveries(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_command_is_lost_however_often_an_entity_rests() {
    let world = World::new();
    let entities = world.entities(Some(Duration::from_millis(3)));
    let mut senders = Vec::new();
    for sender in 0..8_u64 {
        let entities = entities.clone();
        senders.push(tokio::spawn(async move {
            for number in 0..50_u64 {
                let entity = entities.get("actor").unwrap();
                persist(&entity, &format!("{sender}-{number}")).await.unwrap();
                if number % 7 == sender {
                    entities.passivate(entity.persistence_id());
                }
                drop(entity);
                tokio::time::sleep(Duration::from_millis((sender * 5 + number * 3) % 17)).await;
            }
        }));
    }
    for sender in senders {
        sender.await.unwrap();
    }
    let events = state(&entities.get("actor").unwrap()).await.unwrap();
    assert_eq!(events.len(), 8 * 50);
    for sender in 0..8 {
        let of_sender: Vec<_> = events.iter().filter(|event| event.starts_with(&format!("{sender}-"))).collect();
        let expected: Vec<_> = (0..50).map(|number| format!("{sender}-{number}")).collect();
        assert!(of_sender.into_iter().eq(&expected), "commands of one sender keep their order");
    }
    assert!(world.recoveries() > 10, "it rested {} times", world.recoveries());
}

#[tokio::test(start_paused = true)]
async fn entity_that_has_put_commands_aside_does_not_rest() {
    let world = World::new();
    let entities = world.entities(Some(Duration::from_secs(1)));
    let entity = entities.get("actor").unwrap();
    let notes = world.notes.clone();
    make(&entity, move |_, _| Effect::stash(run(move |_, _| Effect::none().then_run(move |_| notes.add("brought back"))))).await;
    entities.passivate(entity.persistence_id());
    seconds(60).await;
    make(&entity, |_, _| Effect::unstash_all()).await;
    seconds(60).await;
    assert_eq!(world.notes.all(), ["recovered  at 0", "brought back"]);
}

#[tokio::test(start_paused = true)]
async fn entity_that_stopped_itself_starts_again_with_the_next_command() {
    let world = World::new();
    let entity = world.entities(None).get("actor").unwrap();
    make(&entity, |_, _| Effect::persist("a".to_owned()).then_stop()).await;
    seconds(1).await;
    assert_eq!(state(&entity).await.unwrap(), ["a"]);
    assert_eq!(world.recoveries(), 2);
}

#[tokio::test(start_paused = true)]
async fn entity_that_its_owner_stopped_is_another_one_when_it_is_asked_for_again() {
    let world = World::new();
    let entities = world.entities(None);
    let entity = entities.get("actor").unwrap();
    persist(&entity, "a").await.unwrap();
    entity.stop();
    assert_eq!(entity.stopped().await, StopReason::Done);
    assert!(matches!(entity.tell(run(|_, _| Effect::none())).await, Err(TellError::Stopped(_))));
    assert_eq!(state(&entities.get("actor").unwrap()).await.unwrap(), ["a"]);
    let never_started = entities.get("another").unwrap();
    never_started.stop();
    assert_eq!(never_started.stopped().await, StopReason::Done);
}

#[tokio::test(start_paused = true)]
async fn superseded_entity_takes_its_journal_back_only_for_a_new_command() {
    let world = World::new();
    let here = world.entities(None).get("actor").unwrap();
    persist(&here, "a").await.unwrap();
    let elsewhere = common::system(world.store.clone(), 2);
    let there = elsewhere.entities(scripted(&world.notes)).get("actor").unwrap();
    persist(&there, "b").await.unwrap();
    assert!(persist(&here, "lost").await.is_err());
    seconds(60).await;
    persist(&there, "c").await.unwrap();
    persist(&here, "d").await.unwrap();
    assert_eq!(state(&here).await.unwrap(), ["a", "b", "c", "d"]);
}

/// Why an entity stopped, which its owner asked for, and that it is another one when it is asked for again.
async fn stops(entities: &Entities<Scripted>, entity: &ActorRef<Tell>) -> StopReason {
    let stopped = tokio::time::timeout(Duration::from_secs(3600), entity.stopped()).await.expect("a stop is not forgotten");
    let another = entities.get("actor").unwrap();
    assert!(state(&another).await.is_ok(), "it takes commands");
    stopped
}

#[tokio::test(start_paused = true)]
async fn entity_that_is_stopped_during_an_outage_stops_when_it_is_given_up() {
    let world = World::new();
    let supervision = Supervision { restarts_max: 2, ..Supervision::default() };
    let entities = world.system.entities(scripted(&world.notes).supervision(supervision));
    let entity = entities.get("actor").unwrap();
    let mut tries = 0;
    world.store.on_recover(move |_| {
        tries += 1;
        if tries <= 3 { Fate::Fail(unavailable()) } else { Fate::Pass }
    });
    make(&entity, |_, _| Effect::none()).await;
    entity.stop();
    assert_eq!(stops(&entities, &entity).await, StopReason::Failed(unavailable().to_string()));
}

#[tokio::test(start_paused = true)]
async fn entity_that_is_stopped_while_it_is_superseded_stops() {
    let world = World::new();
    let entities = world.entities(None);
    let here = entities.get("actor").unwrap();
    persist(&here, "a").await.unwrap();
    world.store.hold();
    make(&here, |_, _| Effect::persist("lost".to_owned())).await;
    seconds(1).await;
    let elsewhere = common::system(world.store.clone(), 2);
    let there = elsewhere.entities(scripted(&world.notes)).get("actor").unwrap();
    assert_eq!(state(&there).await.unwrap(), ["a"]);
    here.stop();
    world.store.let_go(9);
    assert_eq!(stops(&entities, &here).await, StopReason::Superseded);
}

#[tokio::test(start_paused = true)]
async fn entity_that_is_stopped_while_it_stops_itself_stops_for_good() {
    let world = World::new();
    let entities = world.entities(None);
    let entity = entities.get("actor").unwrap();
    world.store.hold();
    make(&entity, |_, _| Effect::persist("a".to_owned()).then_stop()).await;
    seconds(1).await;
    entity.stop();
    world.store.let_go(9);
    assert_eq!(stops(&entities, &entity).await, StopReason::Done);
}

#[tokio::test(start_paused = true)]
async fn name_that_is_none_is_refused() {
    assert!(World::new().entities(None).get("  ").is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_question_is_answered_while_entities_rest_on_other_threads() {
    let world = World::new();
    let entities = world.system.entities(scripted(&world.notes).passivate_after(Duration::from_micros(50)).mailbox_room(2));
    let senders = (0..8_usize).map(|sender| {
        let entities = entities.clone();
        tokio::spawn(async move {
            for number in 0..150 {
                let entity = entities.get(format!("actor-{}", (sender + number) % 3)).unwrap();
                assert_eq!(state(&entity).await, Ok(Vec::new()));
                if number % 5 == 0 {
                    entities.passivate(entity.persistence_id());
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    assert!(world.recoveries() > 10, "they rested: {}", world.recoveries());
}
