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

#[test]
fn a_demo_that_fails_ends_with_code_1_whatever_the_cause_and_says_it() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let file = temporary.path().join("wrong.jsonl");
    std::fs::write(&file, "{}\n").expect("the directory is ours");
    let ended: support::Ended = support::cairn()
        .args(["demo", "--dir"])
        .arg(temporary.path().join("cluster"))
        .arg("--file")
        .arg(&file)
        .env("TMPDIR", temporary.path())
        .output()
        .expect("the binary runs")
        .into();
    // By itself a wrong line would be code 3.
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("demo: failed") && ended.err.contains("line 1"), "{}", ended.err);
    let mut left: Vec<_> =
        std::fs::read_dir(temporary.path()).expect("it is there").map(|entry| entry.expect("a name").file_name()).collect();
    left.sort();
    assert_eq!(left, ["cluster", "wrong.jsonl"], "nothing lies elsewhere");
}
