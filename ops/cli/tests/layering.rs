//! Holds the table of who may import whom against `cargo metadata`, so that the rule is readable and not folklore.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crate, and what of ours it may import (normal dependencies). The same table stands in ARCHITECTURE.md.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("cairn-machine", &[]),
    ("cairn-storage", &["cairn-machine"]),
    ("cairn-raft", &["cairn-machine", "cairn-storage"]),
    ("cairn-api", &["cairn-machine"]),
    ("cairn-client", &["cairn-machine", "cairn-api"]),
    ("cairn-actor", &["cairn-machine", "cairn-client"]),
    ("cairn-tellus", &["cairn-client"]),
    ("cairn-kameo", &["cairn-actor"]),
    ("cairn-ractor", &["cairn-actor"]),
    ("cairn-node", &["cairn-machine", "cairn-storage", "cairn-raft", "cairn-api"]),
    ("cairn-simulation", &["cairn-machine", "cairn-storage", "cairn-raft", "cairn-api", "cairn-client", "cairn-node"]),
    ("cairn-bench", &["cairn-machine", "cairn-client", "cairn-actor"]),
    ("cairn-bench-peers", &["cairn-client", "cairn-bench"]),
    ("cairn", &["cairn-machine", "cairn-api", "cairn-client", "cairn-node", "cairn-bench"]),
];

/// A library that only one of our crates may import.
const ONE_IMPORTER: &[(&str, &str)] = &[
    ("openraft", "cairn-raft"),
    ("openraft-rt-tokio", "cairn-raft"),
    ("fjall", "cairn-storage"),
    ("turmoil", "cairn-simulation"),
    ("kameo", "cairn-kameo"),
    ("ractor", "cairn-ractor"),
];

/// What the rules never import: anything asynchronous, random or stored.
const NEVER_IN_MACHINE: &[&str] = &["tokio", "futures", "rand", "tonic", "async-trait"];

/// Normal dependencies of each workspace member, by name.
fn normal_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs: it runs this test");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages is a list");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies is a list");
            let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), normal.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("a name is text").to_owned()
}

#[test]
fn every_crate_imports_only_what_the_table_allows() {
    let found = normal_dependencies();
    let listed: BTreeSet<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    let members: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(listed, members, "every member of the workspace stands in the table");
    for (name, allowed) in MAY_IMPORT {
        let ours = found[*name].iter().filter(|dependency| members.contains(dependency.as_str()));
        let excess: Vec<_> = ours.filter(|dependency| !allowed.contains(&dependency.as_str())).collect();
        assert!(excess.is_empty(), "{name} may not import {excess:?}");
    }
}

#[test]
fn engines_are_imported_by_their_one_owner() {
    for (name, dependencies) in normal_dependencies() {
        for (library, owner) in ONE_IMPORTER {
            assert!(name == *owner || !dependencies.contains(*library), "{name} imports {library}, which is {owner}'s alone");
        }
    }
}

#[test]
fn the_rules_import_nothing_asynchronous() {
    let found = normal_dependencies();
    let excess: Vec<_> = NEVER_IN_MACHINE.iter().filter(|name| found["cairn-machine"].contains(**name)).collect();
    assert!(excess.is_empty(), "cairn-machine may not import {excess:?}");
}
