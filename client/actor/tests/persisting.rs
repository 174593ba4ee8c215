//! What an actor persists is there for its next incarnation, and handlers run in order (contract 3.5).

mod common;

use cairn_actor::effect::Effect;
use cairn_client::memory::MemoryCairn;
use common::{Notes, PATIENCE, make, persist, run, scripted, state, system};

#[tokio::test(start_paused = true)]
async fn next_incarnation_has_the_state_of_the_last() {
    let cluster = MemoryCairn::new();
    let notes = Notes::default();
    let first = system(cluster.client(), 1).spawn(&scripted(&notes), "actor").unwrap();
    persist(&first, "a").await.unwrap();
    persist(&first, "b").await.unwrap();
    first.stop();
    first.stopped().await;
    let second = system(cluster.client(), 2).spawn(&scripted(&notes), "actor").unwrap();
    assert_eq!(state(&second).await.unwrap(), ["a", "b"]);
    assert_eq!(notes.all(), ["recovered  at 0", "recovered a b at 2"]);
}

#[tokio::test(start_paused = true)]
async fn handler_sees_the_state_with_its_event() {
    let notes = Notes::default();
    let actor = system(MemoryCairn::new().client(), 1).spawn(&scripted(&notes), "actor").unwrap();
    let seen = actor.ask(PATIENCE, |reply_to| {
        run(|before, _| {
            assert!(before.is_empty());
            Effect::persist("a".to_owned()).then_reply(reply_to, Clone::clone)
        })
    });
    assert_eq!(seen.await.unwrap(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn handlers_run_in_the_order_of_registration_over_all_kinds() {
    let notes = Notes::default();
    let actor = system(MemoryCairn::new().client(), 1).spawn(&scripted(&notes), "actor").unwrap();
    let note = |text: &'static str| {
        let notes = notes.clone();
        move |_: &Vec<String>, _: &mut cairn_actor::context::Context<common::Scripted>| {
            notes.add(text);
            Effect::none()
        }
    };
    let nested = note("nested persist");
    let effect = Effect::defer(note("defer with nothing pending"))
        .and(Effect::persist_async("a".to_owned()).then(note("persist_async")))
        .and(Effect::defer_async(note("defer_async")))
        .and(Effect::persist("b".to_owned()).then(note("persist")).then(|_, _| Effect::persist("n".to_owned()).then(nested)))
        .and(Effect::defer(note("defer")))
        .and(Effect::persist_all(["c".to_owned(), "d".to_owned()]).then(note("persist_all")))
        .and(Effect::none().then(note("at once")));
    make(&actor, |_, _| effect).await;
    assert_eq!(state(&actor).await.unwrap(), ["a", "b", "c", "d", "n"]);
    let expected = [
        "defer with nothing pending",
        "at once",
        "persist_async",
        "defer_async",
        "persist",
        "defer",
        "persist_all",
        "nested persist",
    ];
    assert_eq!(notes.all()[1..], expected);
}
