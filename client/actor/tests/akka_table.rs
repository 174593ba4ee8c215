//! The table of what members of Akka are called here: made of what the documents say behind `Akka:`, and held against what users of Akka
//! look for. `akka_members` lists that: every name in the documents that this crate was made from, one file each, and what else Akka's
//! classic and typed interfaces have; names that are no members stand there too, behind a dash, so that it is seen that none was forgotten.
//!
//! After a change of what the documents say run this with `UPDATE_TABLE=1`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Known there, and not here: what to do instead.
const ABSENT: &[(&str, &str)] = &[
    ("ActorBase", "an actor without a journal is none of Cairn's: a task, or one of kameo or ractor"),
    ("CommandHandlerBuilder", "`match` on the command in `Behavior::handle`"),
    ("Config", "settings are values that are handed in, to `ActorSystem::builder` and `ActorKind`, not a file's"),
    ("DurableStateBehavior", "not built: events alone; an event that holds the whole state, with `Retention`, comes nearest"),
    ("Effect.asyncReply", "`Context::pipe_to_self`, and the reply as an effect of what comes back"),
    ("EventHandlerBuilder", "`match` on the event in `Behavior::apply`"),
    ("ExtendedActorSystem", "adapters are values: whoever makes one hands it what it needs"),
    ("IActorContext", "a store is no actor and needs no context"),
    ("IJournalRequest", "a store's methods are its requests"),
    ("PersistentFSM", "an ordinary `Behavior` whose state is an enumeration"),
    ("FSM", "an ordinary `Behavior` whose state is an enumeration"),
    ("ReceivePluginInternal", "an own store answers further questions by methods of its own"),
    ("ReplicatedEventSourcing", "not built: one writer a journal, and a cluster that outlives its nodes"),
    ("SignalHandlerBuilder", "`match` on the signal in `Behavior::on_signal`"),
    ("actorInstanceId", "the writer's name and the epoch of its claim tell incarnations apart"),
    ("class", "a store is a value that is handed to `ActorSystem::new`, not a name in a file"),
    ("dir", "snapshots are kept by the cluster; a node's directory is its setting `data_dir`"),
    ("journalPluginId", "a system has one store: another store is another `ActorSystem`"),
    ("max-message-batch-size", "does nothing there; what accumulates goes into one write, within the limits of a journal"),
    ("persistentActor", "a call answers whoever made it"),
    ("plugin-dispatcher", "a store's calls are futures on the caller's runtime"),
    ("publish-plugin-commands", "for tests there: here a deletion has happened when its call has returned"),
    ("runtimePluginConfig", "a store is a value that is handed to `ActorSystem::new`: make another one, with other settings"),
    ("sender", "a command says where to answer: `ReplyTo`"),
    ("NoSender", "events hold no sender, so that none has to be removed"),
    ("IPersistentRepresentation.Sender", "events hold no sender, so that none has to be removed"),
    ("stream-dispatcher", "a store's calls are futures on the caller's runtime"),
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

/// Every term that is in backticks, and no link: those are names of ours.
fn terms(text: &str) -> impl Iterator<Item = &str> {
    let parts: Vec<_> = text.split('`').collect();
    let terms: Vec<_> = parts.windows(2).step_by(2).filter(|pair| !pair[0].ends_with('[')).map(|pair| pair[1]).collect();
    terms.into_iter()
}

/// The members of one of the lists.
fn members(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ") && !line.starts_with("- "))
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
                if let Some((_, rest)) = doc.split_once("Akka: ") {
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
    table += "\nKnown there, and not here:\n\n| Akka | instead |\n| --- | --- |\n";
    let absent: BTreeMap<_, _> = ABSENT.iter().copied().collect();
    for (term, instead) in absent {
        table += &format!("| `{term}` | {instead} |\n");
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
    let absent: BTreeSet<_> = ABSENT.iter().map(|(absent, _)| *absent).collect();
    // Some say whose member it is.
    let is_there = |wanted: &str| found.keys().any(|term| term == wanted || term.ends_with(&format!(".{wanted}")));
    let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/akka_members");
    let mut missing = BTreeMap::new();
    let mut listed = 0;
    for list in std::fs::read_dir(lists).expect("it is there") {
        let path = list.expect("it is read").path();
        let text = std::fs::read_to_string(&path).expect("it is read");
        listed += members(&text).count();
        let of_list: Vec<_> = members(&text).filter(|wanted| !is_there(wanted) && !absent.contains(wanted)).collect();
        if !of_list.is_empty() {
            missing.insert(path.file_name().expect("a file").to_string_lossy().into_owned(), format!("{of_list:?}"));
        }
    }
    assert!(listed > 250, "only {listed} members are listed");
    assert!(missing.is_empty(), "nothing says what these are called here: {missing:#?}");
    let both: Vec<_> = absent.iter().filter(|absent| found.contains_key(**absent)).collect();
    assert!(both.is_empty(), "said to be absent, and there: {both:?}");
}

#[test]
fn every_row_is_a_member_of_akka_and_none_is_of_ours() {
    let found = found();
    let ours: Vec<_> = ["MemoryCairn", "Entities", "FaultyStore", "Versioned", "ReplayFilterSettings"]
        .into_iter()
        .filter(|ours| found.contains_key(*ours))
        .collect();
    assert!(ours.is_empty(), "names of ours in the column of Akka's: {ours:?}");
    let odd: Vec<_> = found.keys().filter(|term| term.contains("cairn") || term.contains("::") || term.contains("...")).collect();
    assert!(odd.is_empty(), "these are no members: {odd:?}");
}
