//! A behavior without an actor does what it does in one.

mod common;

use cairn_actor::context::Context;
use cairn_actor::effect::{Effect, Maintain};
use cairn_actor::testing::given::{End, Scenario, given};
use cairn_client::memory::MemoryCairn;
use common::{Notes, Scripted, Text, make, run, scripted, state, system};

fn scenario(notes: &Notes) -> Scenario<Scripted> {
    given(Scripted { notes: notes.clone() })
}

fn event(text: &str) -> String {
    text.to_owned()
}

fn note(notes: &Notes, text: &str) -> impl FnOnce(&Vec<String>, &mut Context<Scripted>) -> Effect<Scripted> + Send + use<> {
    let (notes, text) = (notes.clone(), text.to_owned());
    move |state, context| {
        notes.add(format!("{text} on [{}] at {}", state.join(" "), context.last_sequence_number()));
        Effect::none()
    }
}

/// An effect of all kinds of steps.
fn everything(notes: &Notes) -> Effect<Scripted> {
    let n = |text| note(notes, text);
    let (nested, each) = (n("nested"), notes.clone());
    Effect::defer(n("first"))
        .and(Effect::persist_async(event("a")).then(n("persist_async")))
        .and(Effect::defer_async(n("defer_async")))
        .and(Effect::persist(event("!")).then(|_, _| panic!("it was rejected")))
        .and(Effect::none().then(n("at once")))
        .and(Effect::persist_all([event("b"), event("c")]).for_each(move |event, _, _| {
            each.add(format!("each {event}"));
            Effect::none()
        }))
        .and(Effect::persist(event("d")).then(|_, _| Effect::persist("e".to_owned()).then(nested)))
        .and(Effect::defer(n("last")))
}

#[tokio::test(start_paused = true)]
async fn same_order_as_in_an_actor() {
    let (alone, within) = (Notes::default(), Notes::default());
    let effect = everything(&alone);
    let after = scenario(&alone).formatted_by(Text).recovered().when(run(|_, _| effect));
    let actor = system(MemoryCairn::new().client(), 1).spawn(&scripted(&within), "actor").unwrap();
    let effect = everything(&within);
    make(&actor, |_, _| effect).await;
    assert_eq!(&state(&actor).await.unwrap(), after.state_now());
    assert_eq!(alone.all(), within.all());
    assert_eq!(after.persisted().iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 1, 1]);
    assert_eq!(after.rejected().len(), 1);
}

#[test]
fn events_and_state_come_first_and_then_the_command() {
    let notes = Notes::default();
    let seen = note(&notes, "seen");
    let scenario = scenario(&notes).state(vec![event("s")]).events([event("a")]).when(run(seen)).then_no_events();
    let scenario = scenario.when(run(|_, _| Effect::persist(event("b")))).then_events(&[event("b")]);
    let (_, answer) = scenario
        .then_state(&vec![event("s"), event("a"), event("b")])
        .ask(|reply_to| run(|state, _| Effect::reply(reply_to, state.len())));
    assert_eq!(answer, Some(3));
    assert_eq!(notes.all(), ["seen on [s a] at 1"]);
}

#[test]
fn stashed_commands_come_back_when_they_are_unstashed() {
    let notes = Notes::default();
    let (first, second) = (note(&notes, "1"), note(&notes, "2"));
    let stashed =
        scenario(&notes).when(run(move |_, _| Effect::stash(run(first)))).when(run(move |_, _| Effect::stash(run(second))));
    assert_eq!(stashed.stashed_count(), 2);
    let after = stashed.when(run(|_, _| Effect::persist(event("a")).then(|_, _| Effect::unstash_all())));
    assert_eq!(after.stashed_count(), 0);
    assert_eq!(notes.all(), ["1 on [a] at 1", "2 on [a] at 1"]);
}

#[test]
fn end_and_requests_are_seen() {
    let notes = Notes::default();
    let after = scenario(&notes).when(run(|_, _| Effect::save_snapshot().and(Effect::persist(event("a")).then_stop())));
    assert_eq!(after.maintained(), [Maintain::SaveSnapshot]);
    assert_eq!(after.end(), Some(&End::Stopped));
    let after = scenario(&notes).when(run(|_, _| Effect::fail("enough")));
    assert_eq!(after.end(), Some(&End::Failed(event("enough"))));
}

#[test]
#[should_panic(expected = "the events")]
fn other_events_than_expected_are_told() {
    let _ = scenario(&Notes::default()).when(run(|_, _| Effect::persist(event("a")))).then_events(&[event("b")]);
}
