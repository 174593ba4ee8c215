//! `cairn config`: the settings that a node would run with, and where each comes from.

use std::path::PathBuf;

use anyhow::anyhow;
use cairn_node::Settings;
use clap::{Args, Subcommand};

use crate::exit::Stop;
use crate::log_lines;
use crate::output::{Format, Output, Row, line, plain};
use crate::settings::{self, Effective, Flag, Loaded, Problem, Sources};

/// `cairn config ..`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every effective value with its source; name every wrong key or value with its line.
    Check(SettingsArguments),
    /// Print the commented file of all settings with their defaults.
    Default,
}

/// Where a node's settings come from: a file, then `CAIRN_*` variables, then these flags.
///
/// The variable of `listen.client` is `CAIRN_LISTEN__CLIENT`.
#[derive(Debug, Args)]
pub struct SettingsArguments {
    /// The settings file (TOML).
    #[arg(long, env = "CAIRN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the node's files are.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Let the peer port listen where other machines reach it, although peers are not authenticated yet.
    #[arg(long)]
    insecure: bool,
    /// Wait to be added to a running cluster instead of forming one.
    #[arg(long)]
    join: bool,
    /// Any other setting, by its key: --set listen.client=10.0.0.1:7101. Can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not KEY=VALUE".to_owned()),
    }
}

impl SettingsArguments {
    /// Reads all layers and checks every value.
    ///
    /// # Errors
    /// Everything that is wrong, a line each.
    pub fn load(&self) -> anyhow::Result<Loaded<Settings>> {
        let loaded: Loaded<Settings> = settings::load(&self.sources()?).map_err(|problems| wrong(&problems))?;
        let found = loaded.settings.validate();
        let mut problems: Vec<_> = found.iter().map(|problem| loaded.problem(&problem.key, &problem.reason)).collect();
        // The node's library does not know how its process writes log lines.
        if let Err(error) = log_lines::filter(&loaded.settings.telemetry) {
            problems.push(loaded.problem("telemetry.filter", error.to_string()));
        }
        if problems.is_empty() { Ok(loaded) } else { Err(wrong(&problems)) }
    }

    fn sources(&self) -> anyhow::Result<Sources> {
        let mut flags: Vec<_> = self
            .set
            .iter()
            .map(|(key, value)| Flag { key: key.clone(), value: value.clone(), name: format!("--set {key}") })
            .collect();
        let mut named = |key: &str, value: String, name: &str| {
            flags.push(Flag { key: key.to_owned(), value, name: name.to_owned() });
        };
        if let Some(dir) = &self.data_dir {
            let text = dir.to_str().ok_or_else(|| anyhow!(Stop::input("--data-dir: the path is not UTF-8")))?;
            named("data_dir", toml::Value::String(text.to_owned()).to_string(), "--data-dir");
        }
        if self.insecure {
            named("insecure", "true".to_owned(), "--insecure");
        }
        if self.join {
            named("cluster.join", "true".to_owned(), "--join");
        }
        Ok(Sources { file: self.config.clone(), flags })
    }
}

fn wrong(problems: &[Problem]) -> anyhow::Error {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    anyhow!(Stop::input(lines.join("\n")))
}

impl Row for Effective {
    const COLUMNS: &'static [&'static str] = &["key", "value", "source"];

    fn cells(&self) -> Vec<String> {
        vec![self.key.clone(), plain(&self.value), self.source.clone()]
    }
}

/// Runs `cairn config ..`.
///
/// # Errors
/// Everything that is wrong with the settings.
pub fn run(command: &ConfigCommand, output: Output) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check(arguments) => output.rows(&arguments.load()?.effective()),
        ConfigCommand::Default => match output.format {
            Format::Table => line(format_args!("{}", DEFAULT_FILE.trim_end())),
            Format::Json => output.record(&Settings::default()),
        },
    }
}

/// The commented file of all settings.
const DEFAULT_FILE: &str = include_str!("../../config/cairn.toml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commented_default_file_sets_every_setting_to_its_default() {
        let table: toml::Table = toml::from_str(DEFAULT_FILE).expect("the file is TOML");
        let settings: Settings = toml::from_str(DEFAULT_FILE).expect("the file holds settings");
        assert_eq!(settings, Settings::default());
        let mut missing = Vec::new();
        let defaults = toml::Table::try_from(Settings::default()).expect("settings are plain data");
        missing_from(&table, &defaults, "", &mut missing);
        assert!(missing.is_empty(), "not in the file: {missing:?}");
    }

    #[test]
    fn every_setting_of_the_default_file_has_a_comment_above_it() {
        let mut above = "";
        for text in DEFAULT_FILE.lines() {
            let setting = text.trim_start_matches("# ").split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
            if setting {
                assert!(above.starts_with("# "), "{text}: no comment above it");
            }
            above = text;
        }
    }

    fn missing_from(table: &toml::Table, defaults: &toml::Table, at: &str, missing: &mut Vec<String>) {
        for (key, value) in defaults {
            match (table.get(key), value) {
                (Some(toml::Value::Table(inner)), toml::Value::Table(defaults)) => {
                    missing_from(inner, defaults, &format!("{at}{key}."), missing);
                }
                (Some(_), _) => {}
                (None, _) => missing.push(format!("{at}{key}")),
            }
        }
    }
}
