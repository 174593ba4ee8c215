//! The settings file, with the line of every key.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;

/// A file that was read, and parses as TOML.
#[derive(Debug)]
pub struct SettingsFile {
    path: PathBuf,
    text: String,
    table: toml::Table,
}

impl SettingsFile {
    /// Reads and parses a file.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let whole = |message: String| Problem { place: path.display().to_string(), key: String::new(), message };
        let text = std::fs::read_to_string(path).map_err(|error| whole(error.to_string()))?;
        match toml::from_str::<toml::Table>(&text) {
            Ok(table) => Ok(Self { path: path.to_owned(), text, table }),
            Err(error) => {
                let line = error.span().map(|span| line_at(&text, span.start));
                let place = line.map_or_else(|| path.display().to_string(), |line| format!("{}:{line}", path.display()));
                Err(Problem { place, key: String::new(), message: error.message().to_owned() })
            }
        }
    }

    /// What it holds.
    pub fn table(&self) -> &toml::Table {
        &self.table
    }

    /// The line of a key, from 1; none if the file does not mention it. A key may lead into lists by the elements' indices.
    pub fn line(&self, key: &str) -> Option<usize> {
        let root = DeTable::parse(&self.text).ok()?;
        let mut names = key.split('.');
        let mut offset = None;
        let mut value: Option<&Spanned<DeValue<'_>>> = None;
        let mut table: Option<&DeTable<'_>> = Some(root.get_ref());
        for name in names.by_ref() {
            let (start, found) = match (table, value.map(|spanned| spanned.get_ref())) {
                (Some(table), _) => {
                    let (key, found) = table.iter().find(|(key, _)| key.get_ref() == name)?;
                    (key.span().start, found)
                }
                (None, Some(DeValue::Array(array))) => {
                    let found = array.get(name.parse::<usize>().ok()?)?;
                    (found.span().start, found)
                }
                _ => return None,
            };
            offset = Some(start);
            value = Some(found);
            table = match found.get_ref() {
                DeValue::Table(inner) => Some(inner),
                _ => None,
            };
        }
        offset.map(|offset| line_at(&self.text, offset))
    }

    /// The file, and the line of a key or of the nearest section around it that the file mentions.
    pub fn place(&self, key: &str) -> String {
        let mut key = Some(key);
        while let Some(name) = key {
            if let Some(line) = self.line(name) {
                return format!("{}:{line}", self.path.display());
            }
            key = name.rsplit_once('.').map(|(parent, _)| parent);
        }
        self.path.display().to_string()
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}
