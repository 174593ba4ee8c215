//! `cargo simulate` as it is typed.

use std::process::{Command, Output};

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cairn-simulation")).args(arguments).output().expect("starts")
}

#[test]
fn a_run_tries_the_worlds_of_the_file_first_and_forgets_those_that_are_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("failures");
    std::fs::write(&file, "{\"seed\":5,\"scenario\":\"all-down\"}\n").expect("writes");
    let name = file.to_str().expect("a plain name");
    let output = simulate(&["run", "--seeds", "1", "--from", "5", "--scenario", "leader-isolated", "--failures", name]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("first 1 that broke something before") && text.contains("2, 0 with a violation"), "{text}");
    for fault in ["partition 4", "all down 3"] {
        assert!(text.contains(fault), "{fault} is missing: {text}");
    }
    assert_eq!(std::fs::read_to_string(&file).expect("is there"), "");
}

#[test]
fn what_cannot_be_run_is_an_error_and_no_violation() {
    for (arguments, said) in [(["run", "--nodes", "4"], "3, 5 or 7"), (["run", "--scenario", "none"], "all-down")] {
        let output = simulate(&arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
    }
}
