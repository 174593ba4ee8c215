//! Each case writes a file, sets flags, and looks at the value with its source or at the problem with its place.

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sample {
    name: String,
    insecure: bool,
    limits: Limits,
    founders: Vec<Founder>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    bytes_max: u64,
    wait_ms: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Founder {
    node_id: u64,
    address: String,
}

impl Default for Sample {
    fn default() -> Self {
        Self { name: "cairn".to_owned(), insecure: false, limits: Limits::default(), founders: Vec::new() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 8, wait_ms: None }
    }
}

fn load_text(text: &str, flags: &[(&str, &str)]) -> (tempfile::TempDir, Result<Loaded<Sample>, Vec<Problem>>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("node.toml");
    std::fs::write(&path, text).expect("the directory is ours");
    let flags = flags
        .iter()
        .map(|(key, value)| Flag { key: (*key).to_owned(), value: (*value).to_owned(), name: format!("--set {key}") })
        .collect();
    let loaded = load(&Sources { file: Some(path), flags });
    (dir, loaded)
}

/// The one problem of a file, with the directory taken out of its place.
fn problem_of(text: &str, flags: &[(&str, &str)]) -> String {
    let (dir, loaded) = load_text(text, flags);
    let problems = loaded.expect_err("the settings are wrong");
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string().replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let found = problem_of("name = 'a'\n\n[limits]\nbytes_max = 1\nbyte_max = 2\n", &[]);
    assert_eq!(found, "node.toml:5: limits.byte_max: unknown key; known here: bytes_max, wait_ms");
}

#[test]
fn an_unknown_section_is_named_with_its_line() {
    let found = problem_of("name = 'a'\n[limit]\nbytes_max = 1\n", &[]);
    assert_eq!(found, "node.toml:2: limit: unknown key; known here: name, insecure, limits, founders");
}

#[test]
fn an_unknown_section_of_a_flag_is_named_with_the_flag() {
    let found = problem_of("", &[("limit.bytes_max", "1")]);
    assert_eq!(found, "--set limit.bytes_max: limit: unknown key; known here: name, insecure, limits, founders");
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_line() {
    let found = problem_of("[limits]\n\nbytes_max = 'many'\n", &[]);
    assert!(found.starts_with("node.toml:3: limits.bytes_max: "), "{found}");
    assert!(found.contains("many"), "{found}");
}

#[test]
fn a_wrong_value_in_a_list_is_named_with_its_line() {
    let found = problem_of("[[founders]]\nnode_id = 1\naddress = 'a'\n\n[[founders]]\nnode_id = -1\naddress = 'b'\n", &[]);
    assert!(found.starts_with("node.toml:6: founders.1.node_id: "), "{found}");
}

#[test]
fn an_unknown_key_in_a_list_is_named_with_its_line() {
    let found = problem_of("[[founders]]\nnode_id = 1\naddress = 'a'\nport = 3\n", &[]);
    assert!(found.starts_with("node.toml:4: founders.0.port: unknown key"), "{found}");
}

#[test]
fn a_missing_key_is_named_with_the_section_that_lacks_it() {
    let found = problem_of("name = 'a'\n[[founders]]\nnode_id = 1\n", &[]);
    assert_eq!(found, "node.toml:2: founders.0.address: missing");
}

#[test]
fn a_file_that_is_not_toml_is_named_with_the_line() {
    let found = problem_of("name = 'a'\nlimits = = 3\n", &[]);
    assert!(found.starts_with("node.toml:2: "), "{found}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let file = PathBuf::from("/nowhere/node.toml");
    let problems = load::<Sample>(&Sources { file: Some(file), flags: Vec::new() }).expect_err("there is no file");
    assert_eq!(problems[0].place, "/nowhere/node.toml");
}

#[test]
fn an_unknown_key_of_a_flag_is_named_with_the_flag() {
    let found = problem_of("", &[("limits.byte_max", "3")]);
    assert!(found.starts_with("--set limits.byte_max: limits.byte_max: unknown key"), "{found}");
}

#[test]
fn flags_win_over_the_file_and_every_value_tells_its_source() {
    let (dir, loaded) = load_text("name = 'a'\n\n[limits]\nbytes_max = 1\nwait_ms = 5\n", &[("limits.bytes_max", "2")]);
    let loaded = loaded.expect("the settings are right");
    assert_eq!(loaded.settings.limits, Limits { bytes_max: 2, wait_ms: Some(5) });
    let file = dir.path().join("node.toml");
    let sources: Vec<_> = loaded.effective().into_iter().map(|each| (each.key, each.value.to_string(), each.source)).collect();
    let expected = [
        ("founders", "[]", "default".to_owned()),
        ("insecure", "false", "default".to_owned()),
        ("limits.bytes_max", "2", "--set limits.bytes_max".to_owned()),
        ("limits.wait_ms", "5", format!("{}:5", file.display())),
        ("name", "\"a\"", format!("{}:1", file.display())),
    ];
    let mut sources = sources;
    sources.sort();
    let expected: Vec<_> = expected.map(|(key, value, source)| (key.to_owned(), value.to_owned(), source)).into();
    assert_eq!(sources, expected);
}

#[test]
fn a_flag_that_is_not_toml_is_a_string() {
    let (_dir, loaded) = load_text("", &[("name", "127.0.0.1:7101")]);
    assert_eq!(loaded.expect("the settings are right").settings.name, "127.0.0.1:7101");
}

#[test]
fn a_problem_found_later_names_the_place_of_the_value() {
    let (dir, loaded) = load_text("[limits]\nbytes_max = 1\n", &[]);
    let loaded = loaded.expect("the settings are right");
    let problem = loaded.problem("limits.bytes_max", "too small");
    let file = dir.path().join("node.toml");
    assert_eq!(problem.to_string(), format!("{}:2: limits.bytes_max: too small", file.display()));
    assert_eq!(loaded.problem("limits.wait_ms", "missing").to_string(), "limits.wait_ms: missing");
}
