//! `cairn snapshot`: saved states of persistent actors, for operators.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use cairn_client::{NewSnapshot, SnapshotInfo};
use cairn_machine::{Criteria, Payload, SequenceNumber};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::connect::connect;
use crate::exit::{Exit, Stop};
use crate::output::Row;
use crate::shared::Shared;

/// `cairn snapshot ..`
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Save a snapshot, replacing one at the same number.
    Save(SaveArguments),
    /// Write the newest snapshot within bounds to a file.
    Load {
        /// The persistence id.
        persistence_id: String,
        /// Where to write it; `-` is standard output.
        #[arg(default_value = "-")]
        file: PathBuf,
        #[command(flatten)]
        bounds: Bounds,
    },
    /// List the snapshots within bounds.
    Ls {
        /// The persistence id.
        persistence_id: String,
        #[command(flatten)]
        bounds: Bounds,
    },
    /// Delete the snapshot at a number, or all within bounds.
    Delete {
        /// The persistence id.
        persistence_id: String,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        bounds: Bounds,
    },
}

/// `cairn snapshot save ..`
#[derive(Debug, Args)]
pub struct SaveArguments {
    /// The persistence id.
    persistence_id: String,
    /// The number of the last event that the snapshot covers.
    sequence_number: u64,
    /// Its bytes; `-` is standard input.
    file: PathBuf,
    /// Kept as it is [default: the leader's clock, in milliseconds since 1970 UTC].
    #[arg(long, allow_hyphen_values = true)]
    timestamp: Option<i64>,
    /// The id of the serializer in your actor system.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    serializer_id: i32,
    /// The serializer's manifest.
    #[arg(long, default_value = "")]
    manifest: String,
}

/// Which snapshots, all bounds inclusive.
#[derive(Clone, Debug, Args)]
pub struct Bounds {
    /// The lowest sequence number.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// The highest sequence number.
    #[arg(long)]
    to: Option<u64>,
    /// The lowest timestamp.
    #[arg(long, allow_hyphen_values = true)]
    since: Option<i64>,
    /// The highest timestamp.
    #[arg(long, allow_hyphen_values = true)]
    until: Option<i64>,
}

/// What a deletion means: said aloud, so that nothing is deleted by leaving something out.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The snapshot at exactly this number.
    #[arg(long, conflicts_with_all = ["from", "to", "since", "until"])]
    number: Option<u64>,
    /// All within the bounds.
    #[arg(long)]
    all: bool,
}

impl Bounds {
    fn criteria(&self) -> Criteria {
        let number = |number: u64| SequenceNumber(number.min(SequenceNumber::MAX.0));
        Criteria {
            sequence_number_min: number(self.from),
            sequence_number_max: self.to.map_or(SequenceNumber::MAX, number),
            timestamp_min: self.since.unwrap_or(i64::MIN),
            timestamp_max: self.until.unwrap_or(i64::MAX),
        }
    }
}

#[derive(Serialize)]
struct SnapshotView {
    persistence_id: String,
    sequence_number: u64,
    timestamp: i64,
    bytes: u64,
    serializer_id: i32,
    manifest: String,
    writer: String,
    save_number: u64,
}

impl SnapshotView {
    fn of(info: &SnapshotInfo) -> Self {
        Self {
            persistence_id: info.persistence_id.as_str().to_owned(),
            sequence_number: info.sequence_number.0,
            timestamp: info.timestamp,
            bytes: info.bytes_total,
            serializer_id: info.serializer_id,
            manifest: info.manifest.clone(),
            writer: info.writer.as_str().to_owned(),
            save_number: info.save_number.0,
        }
    }
}

impl Row for SnapshotView {
    const COLUMNS: &'static [&'static str] = &["number", "timestamp", "bytes", "serializer", "manifest", "save"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.sequence_number.to_string(),
            self.timestamp.to_string(),
            self.bytes.to_string(),
            self.serializer_id.to_string(),
            crate::output::one_line(&self.manifest),
            self.save_number.to_string(),
        ]
    }
}

#[derive(Serialize)]
struct SavedView {
    persistence_id: String,
    sequence_number: u64,
    timestamp: i64,
    save_number: u64,
    bytes: usize,
}

#[derive(Serialize)]
struct DeletedView {
    persistence_id: String,
    deleted: u64,
}

/// Runs `cairn snapshot ..`
///
/// # Errors
/// What the cluster refused, or why it could not answer.
pub async fn run(command: &SnapshotCommand, shared: &Shared) -> anyhow::Result<()> {
    match command {
        SnapshotCommand::Save(arguments) => save(arguments, shared).await,
        SnapshotCommand::Load { persistence_id, file, bounds } => load(persistence_id, file, bounds, shared).await,
        SnapshotCommand::Ls { persistence_id, bounds } => list(persistence_id, bounds, shared).await,
        SnapshotCommand::Delete { persistence_id, which, bounds } => delete(persistence_id, which, bounds, shared).await,
    }
}

async fn save(arguments: &SaveArguments, shared: &Shared) -> anyhow::Result<()> {
    let bytes = read(&arguments.file)?;
    let bytes_total = bytes.len();
    let journal = connect(shared).await?.journal(arguments.persistence_id.as_str())?;
    let snapshot = NewSnapshot {
        sequence_number: SequenceNumber(arguments.sequence_number),
        payload: Payload { serializer_id: arguments.serializer_id, manifest: arguments.manifest.clone(), bytes: bytes.into() },
        metadata: None,
        timestamp: arguments.timestamp,
    };
    let saved = journal.save_snapshot(snapshot).await?;
    shared.output().record(&SavedView {
        persistence_id: arguments.persistence_id.clone(),
        sequence_number: arguments.sequence_number,
        timestamp: saved.timestamp,
        save_number: saved.save_number.0,
        bytes: bytes_total,
    })
}

async fn load(persistence_id: &str, file: &Path, bounds: &Bounds, shared: &Shared) -> anyhow::Result<()> {
    let journal = connect(shared).await?.journal(persistence_id)?;
    let Some(snapshot) = journal.load_snapshot(bounds.criteria()).await? else {
        return Err(anyhow!(Stop::new(Exit::NotFound, format!("no snapshot of {persistence_id:?} is within the bounds"))));
    };
    if file == Path::new("-") {
        let mut out = std::io::stdout().lock();
        out.write_all(&snapshot.bytes)?;
        out.flush()?;
        return Ok(());
    }
    std::fs::write(file, &snapshot.bytes).with_context(|| format!("write {}", file.display()))?;
    shared.output().record(&SnapshotView::of(&snapshot.info))
}

async fn list(persistence_id: &str, bounds: &Bounds, shared: &Shared) -> anyhow::Result<()> {
    let journal = connect(shared).await?.journal(persistence_id)?;
    let snapshots = journal.snapshots(bounds.criteria()).await?;
    let views: Vec<_> = snapshots.iter().map(SnapshotView::of).collect();
    shared.output().rows(&views)
}

async fn delete(persistence_id: &str, which: &Which, bounds: &Bounds, shared: &Shared) -> anyhow::Result<()> {
    let journal = connect(shared).await?.journal(persistence_id)?;
    let deleted = match which.number {
        Some(number) => journal.delete_snapshot(SequenceNumber(number), None).await?,
        None => journal.delete_snapshots(bounds.criteria()).await?,
    };
    shared.output().record(&DeletedView { persistence_id: persistence_id.to_owned(), deleted })
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file != Path::new("-") {
        return std::fs::read(file).map_err(|error| Stop::input(format!("read {}: {error}", file.display())).into());
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("read standard input")?;
    Ok(bytes)
}
