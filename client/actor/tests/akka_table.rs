//! The table of what members of Akka are called here: made of the lines in the documents that begin with `Akka:`, and held against what
//! users of Akka look for.
//!
//! After a change of such lines run this with `UPDATE_TABLE=1`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The members that users of Akka's classic and typed persistence, of Akka.NET's, and of their plugins know.
const WANTED: &[&str] = &[
    // Actors.
    "PersistentActor",
    "ReceivePersistentActor",
    "EventSourcedBehavior",
    "persistenceId",
    "PersistenceId",
    "receiveRecover",
    "receiveCommand",
    "emptyState",
    "commandHandler",
    "eventHandler",
    "persist",
    "Persist",
    "persistAll",
    "PersistAll",
    "persistAsync",
    "PersistAsync",
    "persistAllAsync",
    "defer",
    "Defer",
    "deferAsync",
    "DeferAsync",
    "deleteMessages",
    "DeleteMessages",
    "loadSnapshot",
    "LoadSnapshot",
    "saveSnapshot",
    "SaveSnapshot",
    "deleteSnapshot",
    "DeleteSnapshot",
    "deleteSnapshots",
    "DeleteSnapshots",
    "OnReplaySuccess",
    "OnReplayFailure",
    "IsRecovering",
    "recoveryRunning",
    "lastSequenceNr",
    "snapshotSequenceNr",
    "SnapshotSequenceNr",
    "Recover",
    "RecoveryCompleted",
    "RecoveryFailed",
    "onRecoveryFailure",
    "SnapshotOffer",
    "onPersistFailure",
    "onPersistRejected",
    "SaveSnapshotSuccess",
    "SaveSnapshotFailure",
    "Effect.none",
    "Effect.persist",
    "Effect.reply",
    "Effect.stop",
    "Effect.stash",
    "thenRun",
    "thenReply",
    "thenStop",
    "thenUnstashAll",
    "Effect.unhandled",
    "stash",
    "unstashAll",
    "ask",
    "tell",
    "entityRefFor",
    "Passivate",
    "withRetention",
    "withTagger",
    "withRecovery",
    "max-concurrent-recoveries",
    "recovery-event-timeout",
    "stash-capacity",
    "stash-overflow-strategy",
    // Delivery.
    "AtLeastOnceDelivery",
    "GuaranteedDeliveryActor",
    "deliver",
    "Deliver",
    "confirmDelivery",
    "ConfirmDelivery",
    "getDeliverySnapshot",
    "GetDeliverySnapshot",
    "setDeliverySnapshot",
    "SetDeliverySnapshot",
    "redeliverInterval",
    "redeliveryBurstLimit",
    "RedeliveryBurstLimit",
    "warnAfterNumberOfUnconfirmedAttempts",
    "UnconfirmedDeliveryAttemptsToWarn",
    "UnconfirmedWarning",
    "maxUnconfirmedMessages",
    "MaxUnconfirmedMessages",
    "MaxUnconfirmedMessagesExceededException",
    "numberOfUnconfirmed",
    "UnconfirmedCount",
    "UnconfirmedDelivery",
    // Views.
    "PersistentView",
    "ViewId",
    "IsAutoUpdate",
    "AutoUpdateInterval",
    "AutoUpdateReplayMax",
    "Update",
    // Stores.
    "AsyncWriteJournal",
    "asyncWriteMessages",
    "asyncReplayMessages",
    "asyncReadHighestSequenceNr",
    "asyncDeleteMessagesTo",
    "SnapshotStore",
    "loadAsync",
    "saveAsync",
    "Delete(metadata)",
    "replay-filter",
    "CircuitBreaker",
    // Events.
    "EventAdapter",
    "WriteEventAdapter",
    "ReadEventAdapter",
    "toJournal",
    "fromJournal",
    "Tagged",
    // Queries.
    "eventsByPersistenceId",
    "currentEventsByPersistenceId",
    "eventsByTag",
    "currentEventsByTag",
    "eventsBySlices",
    "currentEventsBySlices",
    "persistenceIds",
    "currentPersistenceIds",
    "EventEnvelope",
    "Offset",
    "NoOffset",
    // Test kits.
    "JournalSpec",
    "SnapshotStoreSpec",
    "JournalPerfSpec",
    "EventSourcedBehaviorTestKit",
    "PersistenceTestKit",
];

/// Known there, and not here, with the reason.
const ABSENT: &[(&str, &str)] = &[
    ("sender", "a command says where to answer: `ReplyTo`"),
    ("max-message-batch-size", "does nothing there; what accumulates goes into one write, within the limits of a journal"),
    ("FSM", "an ordinary `Behavior` whose state is an enumeration"),
    ("DurableStateBehavior", "not built: events alone"),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("it is read").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every term that is in backticks.
fn terms(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What a line of code declares, if it declares something that can be linked to.
fn declared(line: &str) -> Option<(&'static str, String)> {
    let line = line.trim_start();
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    let line = line.strip_prefix("const fn ").map_or(line, |_| &line["const ".len()..]);
    for (keyword, kind) in [
        ("fn ", "member"),
        ("const ", "member"),
        ("struct ", "struct"),
        ("enum ", "type"),
        ("trait ", "type"),
        ("type ", "type"),
        ("mod ", "type"),
    ] {
        if let Some(rest) = line.strip_prefix(keyword) {
            return Some((kind, name(rest)));
        }
    }
    // A field or a variant.
    let name = name(line);
    (!name.is_empty()).then_some(("member", name))
}

fn name(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// The type that an `impl` block is for.
fn implemented(line: &str) -> Option<String> {
    let rest = line.strip_prefix("impl")?;
    let rest = if rest.starts_with('<') { &rest[closing(rest)? + 1..] } else { rest };
    let target = rest.split(" for ").last().unwrap_or(rest);
    Some(name(target.trim_start()))
}

/// Where the bracket that opens a text is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        match letter {
            '<' => depth += 1,
            '>' if before != '-' && before != '=' => depth -= 1,
            _ => {}
        }
        before = letter;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The text of every module, by the path under which it can be named.
fn modules() -> Vec<(Vec<String>, String)> {
    let (root, mut paths) = (source(), Vec::new());
    files(&root, &mut paths);
    let mut modules = Vec::new();
    for path in paths {
        let module = path.strip_prefix(&root).expect("it is within").with_extension("");
        let module: Vec<_> = module.iter().map(|part| part.to_string_lossy().into_owned()).filter(|part| part != "lib").collect();
        let module = reachable(&root, &module);
        modules.push((module, std::fs::read_to_string(&path).expect("it is read")));
    }
    modules
}

/// For each term of Akka, what it is called here.
fn found() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let modules = modules();
    let types = |(module, text): &(Vec<String>, String)| {
        let names = text.lines().filter(|line| line.starts_with("pub ")).filter_map(declared);
        names.filter(|(kind, _)| *kind != "member").map(|(_, name)| (name, module.clone())).collect::<Vec<_>>()
    };
    let homes: BTreeMap<String, Vec<String>> = modules.iter().flat_map(types).collect();
    for (module, text) in &modules {
        let (mut enclosing, mut is_struct, mut pending, mut is_open) = (String::new(), false, Vec::new(), false);
        let mut member = String::new();
        for line in text.lines() {
            let trimmed = line.trim_start();
            if let Some(doc) = trimmed.strip_prefix("///").or_else(|| trimmed.strip_prefix("//!")) {
                let doc = doc.trim();
                if let Some(rest) = doc.strip_prefix("Akka: ") {
                    is_open = true;
                    pending.extend(terms(rest).map(str::to_owned));
                } else if doc.is_empty() {
                    is_open = false;
                } else if is_open {
                    pending.extend(terms(doc).map(str::to_owned));
                }
                continue;
            }
            is_open = false;
            if trimmed.is_empty() || trimmed.starts_with("#[") || trimmed.starts_with("//") {
                continue;
            }
            let is_top = !line.starts_with(' ');
            let declared = declared(line);
            if is_top {
                is_struct = declared.as_ref().is_some_and(|(kind, _)| *kind == "struct");
                enclosing = implemented(line).or_else(|| declared.as_ref().map(|(_, name)| name.clone())).unwrap_or_default();
            }
            let taken = std::mem::take(&mut pending);
            let Some((_, mut name)) = declared else { continue };
            // A field of a variant is told by the variant.
            if line.starts_with("        ") {
                name.clone_from(&member);
            } else {
                member.clone_from(&name);
            }
            if taken.is_empty() {
                continue;
            }
            let mut here = module.clone();
            if !is_top {
                here = homes.get(&enclosing).unwrap_or(module).clone();
                here.push(enclosing.clone());
            }
            // What a private field says is said of its struct.
            if is_top || !is_struct || trimmed.starts_with("pub ") {
                here.push(name);
            }
            for term in taken {
                found.entry(term).or_default().insert(here.join("::"));
            }
        }
    }
    found
}

/// A module as far as it can be named: what is in a private one is told by the one above.
fn reachable(root: &Path, module: &[String]) -> Vec<String> {
    let mut reachable: Vec<String> = module.iter().take(1).cloned().collect();
    for (above, below) in module.iter().zip(module.iter().skip(1)) {
        let path = reachable.iter().fold(root.to_owned(), |path, part| path.join(part)).with_extension("rs");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if reachable.last() != Some(above) || !text.contains(&format!("pub mod {below};")) {
            break;
        }
        reachable.push(below.clone());
    }
    reachable
}

fn table(found: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut table = String::from("| Akka | here |\n| --- | --- |\n");
    for (term, here) in found {
        let links: Vec<_> = here.iter().map(|path| format!("[`{}`](crate::{path})", short(path))).collect();
        table += &format!("| `{}` | {} |\n", term.replace('|', "\\|"), links.join(", "));
    }
    table += "\nKnown there, and not here:\n\n| Akka | why |\n| --- | --- |\n";
    for (term, why) in ABSENT {
        table += &format!("| `{term}` | {why} |\n");
    }
    table
}

/// Without the modules.
fn short(path: &str) -> String {
    let parts: Vec<_> = path.split("::").collect();
    let from = parts.iter().position(|part| part.starts_with(char::is_uppercase)).unwrap_or(parts.len() - 1);
    parts[from..].join("::")
}

#[test]
fn the_table_is_what_the_documents_say() {
    let (path, table) = (source().join("akka.md"), table(&found()));
    if std::env::var_os("UPDATE_TABLE").is_some() {
        std::fs::write(&path, &table).expect("it is written");
    }
    let written = std::fs::read_to_string(&path).expect("it is read");
    assert!(written == table, "src/akka.md is not up to date: run this test with UPDATE_TABLE=1");
}

#[test]
fn no_member_that_users_of_akka_know_is_missing() {
    let found = found();
    // Some say whose member it is.
    let is_there = |wanted: &str| found.keys().any(|term| term == wanted || term.ends_with(&format!(".{wanted}")));
    let missing: Vec<_> = WANTED.iter().filter(|wanted| !is_there(wanted)).collect();
    assert!(missing.is_empty(), "nothing says what these are called here: {missing:?}");
    let both: Vec<_> = ABSENT.iter().filter(|(absent, _)| found.contains_key(*absent)).collect();
    assert!(both.is_empty(), "said to be absent, and there: {both:?}");
}
