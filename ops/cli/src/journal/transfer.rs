//! `cairn journal import` and `export`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cairn_machine::WriteReply;
use indicatif::ProgressBar;
use serde::Serialize;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufRead, BufReader};

use super::FromNode;
use crate::connect::connect;
use crate::exit::Stop;
use crate::export::{Order, export};
use crate::import::{Group, Groups, Observer, Pace, import};
use crate::progress;
use crate::shared::Shared;

/// What is read from the file at a time, in bytes.
const READ_BYTES: usize = 256 * 1024;
/// Atomic writes in one request at most.
const GROUPS_PER_REQUEST_MAX: usize = 64;
/// Atomic writes read ahead at most.
const GROUPS_AHEAD_MAX: usize = 8_192;
/// Of an exported file: what any new file has, as far as the process's mask lets it.
const PERMISSIONS: u32 = 0o666;

#[derive(Serialize)]
struct ImportedView {
    events: u64,
    atomic_writes: u64,
}

#[derive(Serialize)]
struct ExportedView {
    events: u64,
    file: PathBuf,
}

/// Moves the bar; sends as fast as the cluster takes it.
struct Bar(ProgressBar);

impl Observer for Bar {
    async fn ready(&self) {}

    fn sent(&self, _: &[Group]) {}

    fn acknowledged(&self, groups: Vec<Group>, _: &WriteReply) {
        self.0.inc(groups.iter().map(|group| group.events.len() as u64).sum());
    }

    fn failed(&self, _: &[Group]) {}
}

/// Runs `cairn journal import`.
///
/// # Errors
/// The first line that is wrong or refused, or why the cluster could not answer. Running it again is safe.
pub async fn import_file(file: &Path, in_flight: u16, shared: &Shared) -> anyhow::Result<()> {
    let cairn = connect(shared).await?;
    let pace = Pace {
        requests_in_flight_max: usize::from(in_flight),
        groups_per_request_max: GROUPS_PER_REQUEST_MAX,
        groups_ahead_max: GROUPS_AHEAD_MAX,
    };
    let bar = Bar(progress::bar("import", None));
    let input: Box<dyn AsyncBufRead + Unpin> = if file == Path::new("-") {
        Box::new(BufReader::with_capacity(READ_BYTES, tokio::io::stdin()))
    } else {
        let opened =
            tokio::fs::File::open(file).await.map_err(|error| Stop::input(format!("open {}: {error}", file.display())))?;
        Box::new(BufReader::with_capacity(READ_BYTES, opened))
    };
    let imported = import(Groups::new(input), &cairn, &bar, pace).await;
    bar.0.finish_and_clear();
    let imported = imported.with_context(|| format!("import {}; running the same command again continues it", file.display()))?;
    shared.output().record(&ImportedView { events: imported.events, atomic_writes: imported.atomic_writes })
}

/// Runs `cairn journal export`.
///
/// # Errors
/// Why the events cannot be read or written.
pub async fn export_file(file: &Path, prefix: &str, order: Order, from: &FromNode, shared: &Shared) -> anyhow::Result<()> {
    let source = from.source(shared).await?;
    if file == Path::new("-") {
        export(&source, prefix, order, &mut io::stdout(), |_| {}).await?;
        return Ok(());
    }
    let mut out = Destination::open(file).map_err(|error| Stop::input(format!("create {}: {error}", file.display())))?;
    let bar = progress::bar("export", None);
    let events = export(&source, prefix, order, out.file(), |count| bar.set_position(count)).await;
    bar.finish_and_clear();
    let events = events.with_context(|| format!("export to {}", file.display()))?;
    out.finish(file).with_context(|| format!("write {}", file.display()))?;
    shared.output().record(&ExportedView { events, file: file.to_owned() })
}

/// Where an export goes. A file appears under its name when it is whole: an export that fails leaves the one before it as it was.
enum Destination {
    /// Beside its place, until it is whole.
    Beside(NamedTempFile),
    /// A device or a pipe: nothing can be put in its place.
    Direct(File),
}

impl Destination {
    fn open(file: &Path) -> io::Result<Self> {
        match std::fs::metadata(file) {
            Ok(found) if !found.is_file() => Ok(Self::Direct(File::options().write(true).open(file)?)),
            _ => {
                let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let permissions = std::fs::Permissions::from_mode(PERMISSIONS);
                let beside = tempfile::Builder::new().prefix(".cairn-export-").permissions(permissions).tempfile_in(dir)?;
                Ok(Self::Beside(beside))
            }
        }
    }

    fn file(&mut self) -> &mut File {
        match self {
            Self::Beside(beside) => beside.as_file_mut(),
            Self::Direct(file) => file,
        }
    }

    /// Syncs it, and gives it its name.
    fn finish(mut self, file: &Path) -> io::Result<()> {
        self.file().flush()?;
        match self {
            Self::Beside(beside) => {
                beside.as_file().sync_all()?;
                beside.persist(file).map(drop).map_err(|error| error.error)
            }
            // Most of these cannot be synced.
            Self::Direct(_) => Ok(()),
        }
    }
}
