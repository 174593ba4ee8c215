//! A node's settings in layers: defaults, then a TOML file, then `CAIRN_*` variables, then flags.
//!
//! An operator must be able to ask where a value comes from, and a wrong key or value must be named with the place where it
//! stands. So each layer keeps its source, and the file keeps the line of every key.
//!
//! Invariants
//! - A key that no layer's reader knows is a problem, never ignored.
//! - Every problem names a place: a line of the file, a variable, or a flag.

mod file;
mod listing;

use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Env, Serialized};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Serialize;
use serde::de::DeserializeOwned;

use file::SettingsFile;
pub use listing::Effective;

/// What every variable that sets something starts with; sections and keys are parted by two underscores.
pub const VARIABLE_PREFIX: &str = "CAIRN_";

/// Variables with the prefix that are not settings of a node: the command line and the tests read them.
const NOT_SETTINGS: &[&str] = &["config", "endpoints", "output", "log", "deadline", "acceptance_file"];

const FLAGS: &str = "flags";

/// Where the values come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The TOML file, if there is one.
    pub file: Option<PathBuf>,
    /// Keys with their values as they were given on the command line; the value is read like one in the file.
    pub flags: Vec<Flag>,
}

/// One value given on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The key, its sections parted by dots.
    pub key: String,
    /// The value, as TOML; what is not TOML is a string.
    pub value: String,
    /// How the flag is called, for messages.
    pub name: String,
}

/// A wrong key or value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line of the file, the variable or the flag; empty if the value is missing or the default.
    pub place: String,
    /// The key, its sections parted by dots; empty if the file as a whole cannot be read.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.place, &self.key] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

/// Settings with the source of every value.
#[derive(Debug)]
pub struct Loaded<S> {
    /// The values.
    pub settings: S,
    places: Places,
}

/// Reads all layers into one value.
///
/// # Errors
/// Everything that is wrong, as far as it can be told at once.
pub fn load<S: Serialize + DeserializeOwned + Default>(sources: &Sources) -> Result<Loaded<S>, Vec<Problem>> {
    let mut figment = Figment::from(Serialized::defaults(S::default()));
    let mut file = None;
    if let Some(path) = &sources.file {
        let read = SettingsFile::read(path).map_err(|problem| vec![problem])?;
        figment = figment.merge(FileLayer { path: path.clone(), table: read.table().clone() });
        file = Some(read);
    }
    figment = figment.merge(Env::prefixed(VARIABLE_PREFIX).ignore(NOT_SETTINGS).split("__"));
    for flag in &sources.flags {
        figment = figment.merge(FlagLayer(flag));
    }
    let places = Places { figment, file, flags: sources.flags.clone() };
    match places.figment.extract::<S>() {
        Ok(settings) => Ok(Loaded { settings, places }),
        Err(error) => Err(error.into_iter().map(|each| places.problem(each)).collect()),
    }
}

impl<S: Serialize> Loaded<S> {
    /// A problem with the value of a key, found by whoever understands it.
    pub fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        // Whoever finds it may name an element of a list by `[index]`.
        let path = key.replace('[', ".").replace(']', "");
        Problem { place: self.places.of(&path).unwrap_or_default(), key: key.to_owned(), message: message.into() }
    }

    /// Every value with its key and source, in the order of the keys.
    pub fn effective(&self) -> Vec<Effective> {
        listing::effective(&self.settings, |key| self.places.of(key).unwrap_or_else(|| "default".to_owned()))
    }
}

/// Knows where each value stands.
#[derive(Debug)]
struct Places {
    figment: Figment,
    file: Option<SettingsFile>,
    flags: Vec<Flag>,
}

impl Places {
    /// Where the effective value of a key stands; none if it is the default.
    fn of(&self, key: &str) -> Option<String> {
        let mut sourced = key;
        let metadata = loop {
            if let Some(metadata) = self.figment.find_metadata(sourced) {
                break metadata;
            }
            // An element of a list has no source of its own in figment: its list has.
            sourced = sourced.rsplit_once('.')?.0;
        };
        // In the file the element still has a line of its own.
        let is_file = self.file.is_some() && metadata.source.as_ref().and_then(|source| source.file_path()).is_some();
        self.in_layer(metadata, if is_file { key } else { sourced })
    }

    fn in_layer(&self, metadata: &Metadata, key: &str) -> Option<String> {
        if metadata.name == FLAGS {
            return self.flag(key).map(|flag| flag.name.clone());
        }
        if let (Some(file), Some(_)) = (&self.file, metadata.source.as_ref().and_then(|source| source.file_path())) {
            return Some(file.place(key));
        }
        metadata.name.contains(VARIABLE_PREFIX).then(|| variable(key))
    }

    /// Where a key is mentioned although nobody knows it.
    fn of_unknown(&self, key: &str) -> String {
        let below = format!("{key}.");
        if let Some(flag) = self.flag(key).or_else(|| self.flags.iter().rev().find(|flag| flag.key.starts_with(&below))) {
            return flag.name.clone();
        }
        match &self.file {
            Some(file) if file.line(key).is_some() => file.place(key),
            _ => variable(key),
        }
    }

    fn flag(&self, key: &str) -> Option<&Flag> {
        self.flags.iter().rev().find(|flag| flag.key == key || key.starts_with(&format!("{}.", flag.key)))
    }

    fn problem(&self, error: figment::Error) -> Problem {
        // An unknown key is the end of the path, a missing one is not in it.
        let unknown = matches!(&error.kind, Kind::UnknownField(name, _) if error.path.last() == Some(name));
        let path = &error.path[..error.path.len() - usize::from(unknown)];
        let parents = path.join(".");
        let join = |name: &str| if parents.is_empty() { name.to_owned() } else { format!("{parents}.{name}") };
        match &error.kind {
            Kind::UnknownField(name, expected) => {
                let key = join(name);
                let message = format!("unknown key; known here: {}", expected.join(", "));
                Problem { place: self.of_unknown(&key), key, message }
            }
            Kind::MissingField(name) => {
                let place = self.of(&parents).unwrap_or_default();
                Problem { place, key: join(name), message: "missing".to_owned() }
            }
            kind => {
                let place = match &error.metadata {
                    Some(metadata) => self.in_layer(metadata, &parents),
                    None => self.of(&parents),
                };
                Problem { place: place.unwrap_or_default(), message: kind.to_string(), key: parents }
            }
        }
    }
}

fn variable(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.replace('.', "__").to_uppercase())
}

struct FileLayer {
    path: PathBuf,
    table: toml::Table,
}

impl Provider for FileLayer {
    fn metadata(&self) -> Metadata {
        Metadata::from("file", Path::new(&self.path))
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        Serialized::defaults(&self.table).data()
    }
}

struct FlagLayer<'a>(&'a Flag);

impl Provider for FlagLayer<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(FLAGS)
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        let nested = figment::util::nest(&self.0.key, Value::serialize(flag_value(&self.0.value))?);
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

fn flag_value(text: &str) -> toml::Value {
    let table = toml::from_str::<toml::Table>(&format!("value = {text}"));
    table.ok().and_then(|mut table| table.remove("value")).unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests;
