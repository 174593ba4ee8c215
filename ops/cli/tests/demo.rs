//! `cairn demo` as its users run it: from any directory, with nothing set up.

mod support;

#[test]
fn the_demo_ends_with_its_summary_and_code_0() {
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let ended: support::Ended =
        support::cairn().arg("demo").current_dir(elsewhere.path()).output().expect("the binary runs").into();
    assert_eq!(ended.code, 0, "{ended:?}");
    let last = ended.out.lines().last().expect("the demo says something");
    let words: Vec<_> = last.split(' ').collect();
    assert_eq!(words[..2], ["demo:", "ok:"], "{last}");
    let events: u64 = words[2].parse().expect("a number of events");
    let gap: u64 = words[words.len() - 2].parse().expect("a gap in milliseconds");
    assert_eq!(last, format!("demo: ok: {events} events acknowledged, 0 lost, 2 leaders killed, longest gap {gap} ms"));
    assert_eq!(events, include_str!("../data/sample.jsonl").lines().count() as u64);
    assert!(ended.out.contains("killed node"), "progress is shown: {}", ended.out);
}
