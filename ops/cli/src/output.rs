//! How results look: a table for people, or JSON with a stable schema for programs.

use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// How results look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one document, or one object a line where results come one by one.
    Json,
}

/// A result that can be a row of a table.
pub trait Row: Serialize {
    /// The columns' names.
    const COLUMNS: &'static [&'static str];

    /// The cells, one for each column.
    fn cells(&self) -> Vec<String>;
}

/// A result of a stream: a line.
pub trait Item: Serialize {
    /// The line for people.
    fn text(&self) -> String;
}

/// Writes results to standard output.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// How they look.
    pub format: Format,
}

impl Output {
    /// Several results, at once.
    pub fn rows<R: Row>(self, rows: &[R]) -> anyhow::Result<()> {
        match self.format {
            Format::Json => self.json(&rows),
            Format::Table => {
                let mut table = table(R::COLUMNS);
                table.add_rows(rows.iter().map(Row::cells));
                line(format_args!("{table}"))
            }
        }
    }

    /// One result of a stream: a line.
    pub fn item(self, item: &impl Item) -> anyhow::Result<()> {
        match self.format {
            Format::Json => line(format_args!("{}", serde_json::to_string(item)?)),
            Format::Table => line(format_args!("{}", item.text())),
        }
    }

    /// One result: names and values for people, an object for programs.
    pub fn record(self, record: &impl Serialize) -> anyhow::Result<()> {
        if self.format == Format::Json {
            return self.json(record);
        }
        let mut table = table(&[]);
        if let serde_json::Value::Object(fields) = serde_json::to_value(record)? {
            table.add_rows(fields.into_iter().map(|(name, value)| [name.replace('_', " "), plain(&value)]));
        }
        line(format_args!("{table}"))
    }

    /// A record for programs, lines for people.
    pub fn record_or_lines(self, record: &impl Serialize, lines: &[String]) -> anyhow::Result<()> {
        match self.format {
            Format::Json => self.json(record),
            Format::Table => lines.iter().try_for_each(|each| line(format_args!("{each}"))),
        }
    }

    fn json(self, document: &impl Serialize) -> anyhow::Result<()> {
        line(format_args!("{}", serde_json::to_string_pretty(document)?))
    }
}

/// Writes a line to standard output, and says so if nobody reads it.
pub fn line(text: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// A value as people read it.
pub fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !columns.is_empty() {
        table.set_header(columns);
    }
    table
}

/// Text in which nothing moves the terminal's cursor: names and payloads come from anybody.
pub fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(one_line("a\n\u{1b}[2J\0é"), "a\\n\\u{1b}[2J\\u{0}é");
    }
}
