//! `cairn journal`: events of persistent actors, for operators.

mod append;
mod read;
mod transfer;
mod view;

use std::path::PathBuf;

use cairn_client::{Deletion, Listing};
use cairn_machine::SequenceNumber;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::connect::connect;
use crate::export::Order;
use crate::output::{Row, one_line};
use crate::shared::Shared;

/// `cairn journal ..`
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Append events. This claims the journal: whoever wrote to it before is fenced.
    Append(append::AppendArguments),
    /// Print stored events.
    Read(read::ReadArguments),
    /// Print events as they come, until Ctrl-C.
    Tail(read::TailArguments),
    /// Print what is known of a journal: highest number, delete watermark, writer.
    Highest {
        /// The persistence id.
        persistence_id: String,
    },
    /// Delete events up to a number, for every reader and for ever; the highest number stays.
    DeleteTo {
        /// The persistence id.
        persistence_id: String,
        /// The last number to delete, or `all` for everything there is now.
        #[arg(value_parser = delete_bound)]
        to: DeleteBound,
        /// Give the space back: not even `read --deleted` finds the events again.
        #[arg(long)]
        permanent: bool,
    },
    /// List journals by prefix of their persistence id.
    Ls {
        /// The prefix; all journals without it.
        #[arg(default_value = "")]
        prefix: String,
        /// How many at most.
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Store events from JSON lines, atomic writes kept whole. Running it again stores nothing twice.
    Import {
        /// The file; `-` is standard input.
        file: PathBuf,
        /// Requests in flight at most.
        #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
        in_flight: u16,
    },
    /// Write events as JSON lines.
    Export {
        /// The file; `-` is standard output.
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Only journals whose persistence id begins so.
        #[arg(long, default_value = "")]
        prefix: String,
        /// In which order.
        #[arg(long, value_enum, default_value_t)]
        order: Order,
        #[command(flatten)]
        from: FromNode,
    },
}

/// Reading from one given node.
#[derive(Clone, Debug, Args)]
pub struct FromNode {
    /// Read what this node has, instead of asking whoever leads.
    #[arg(long, value_name = "HOST:PORT")]
    from_node: Option<String>,
    /// Do not ask the leader how far the node must have come: whatever it has.
    #[arg(long, requires = "from_node")]
    local: bool,
}

/// Up to where events are deleted.
#[derive(Clone, Copy, Debug)]
pub enum DeleteBound {
    /// Everything there is now.
    All,
    /// Up to this number.
    To(u64),
}

fn delete_bound(text: &str) -> Result<DeleteBound, String> {
    match text {
        "all" => Ok(DeleteBound::All),
        number => number.parse().map(DeleteBound::To).map_err(|error| format!("neither `all` nor a number: {error}")),
    }
}

/// Runs `cairn journal ..`
///
/// # Errors
/// What the cluster refused, or why it could not answer.
pub async fn run(command: &JournalCommand, shared: &Shared) -> anyhow::Result<()> {
    match command {
        JournalCommand::Append(arguments) => append::run(arguments, shared).await,
        JournalCommand::Read(arguments) => read::read(arguments, shared).await,
        JournalCommand::Tail(arguments) => read::tail(arguments, shared).await,
        JournalCommand::Highest { persistence_id } => highest(persistence_id, shared).await,
        JournalCommand::DeleteTo { persistence_id, to, permanent } => delete_to(persistence_id, *to, *permanent, shared).await,
        JournalCommand::Ls { prefix, limit } => list(prefix, *limit, shared).await,
        JournalCommand::Import { file, in_flight } => transfer::import_file(file, *in_flight, shared).await,
        JournalCommand::Export { file, prefix, order, from } => transfer::export_file(file, prefix, *order, from, shared).await,
    }
}

#[derive(Serialize)]
struct HighestView {
    persistence_id: String,
    highest: u64,
    deleted_to: u64,
    removed_to: u64,
    epoch: u64,
    writer: String,
    snapshots_ever_saved: u64,
}

async fn highest(persistence_id: &str, shared: &Shared) -> anyhow::Result<()> {
    let journal = connect(shared).await?.journal(persistence_id)?;
    let known = journal.highest().await?;
    shared.output().record(&HighestView {
        persistence_id: persistence_id.to_owned(),
        highest: known.highest.0,
        deleted_to: known.deleted_to.0,
        removed_to: known.removed_to.0,
        epoch: known.epoch.0,
        writer: known.writer.as_str().to_owned(),
        snapshots_ever_saved: known.saves.0,
    })
}

#[derive(Serialize)]
struct DeletedView {
    persistence_id: String,
    deleted_to: u64,
    highest: u64,
    permanent: bool,
}

async fn delete_to(persistence_id: &str, to: DeleteBound, permanent: bool, shared: &Shared) -> anyhow::Result<()> {
    let journal = connect(shared).await?.journal(persistence_id)?;
    let deletion = if permanent { Deletion::Permanent } else { Deletion::Logical };
    let to = match to {
        DeleteBound::All => SequenceNumber::MAX,
        DeleteBound::To(number) => SequenceNumber(number),
    };
    let deleted = journal.delete_to(to, deletion).await?;
    shared.output().record(&DeletedView {
        persistence_id: persistence_id.to_owned(),
        deleted_to: deleted.deleted_to.0,
        highest: deleted.highest.0,
        permanent,
    })
}

#[derive(Serialize)]
struct JournalView {
    persistence_id: String,
    highest: u64,
    deleted_to: u64,
    removed_to: u64,
    epoch: u64,
    writer: String,
    snapshots: u32,
    shard: u16,
    changed: Option<String>,
}

impl JournalView {
    fn of(journal: Listing) -> Self {
        let known = journal.known;
        Self {
            persistence_id: journal.persistence_id.as_str().to_owned(),
            highest: known.highest.0,
            deleted_to: known.deleted_to.0,
            removed_to: known.removed_to.0,
            epoch: known.epoch.0,
            writer: known.writer.as_str().to_owned(),
            snapshots: journal.snapshots,
            shard: journal.shard.0,
            changed: (journal.timestamp.0 > 0).then(|| view::time(journal.timestamp)),
        }
    }
}

impl Row for JournalView {
    const COLUMNS: &'static [&'static str] =
        &["persistence id", "highest", "deleted to", "removed to", "epoch", "snapshots", "shard", "changed", "writer"];

    fn cells(&self) -> Vec<String> {
        vec![
            one_line(&self.persistence_id),
            self.highest.to_string(),
            self.deleted_to.to_string(),
            self.removed_to.to_string(),
            self.epoch.to_string(),
            self.snapshots.to_string(),
            self.shard.to_string(),
            self.changed.clone().unwrap_or_else(|| "-".to_owned()),
            one_line(&self.writer),
        ]
    }
}

async fn list(prefix: &str, limit: Option<usize>, shared: &Shared) -> anyhow::Result<()> {
    let cairn = connect(shared).await?;
    let mut journals = cairn.journals(prefix);
    let mut views = Vec::new();
    while limit.is_none_or(|limit| views.len() < limit)
        && let Some(journal) = journals.next().await?
    {
        views.push(JournalView::of(journal));
    }
    shared.output().rows(&views)
}
