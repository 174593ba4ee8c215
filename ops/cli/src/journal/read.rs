//! `cairn journal read` and `tail`.

use anyhow::anyhow;
use cairn_api::Freshness;
use cairn_machine::{PersistenceId, Position, SequenceNumber, ShardId};
use clap::Args;
use futures::{StreamExt, TryStreamExt};

use super::FromNode;
use super::view::EventView;
use crate::connect::connect;
use crate::exit::{Exit, Stop};
use crate::node_client::NodeClient;
use crate::shared::Shared;
use crate::signals;
use crate::source::{Range, Source};

/// `cairn journal read ..`
#[derive(Debug, Args)]
pub struct ReadArguments {
    /// The persistence id.
    persistence_id: String,
    /// The first number.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// The last number [default: the last there is].
    #[arg(long)]
    to: Option<u64>,
    /// How many events at most.
    #[arg(long)]
    max: Option<usize>,
    /// Logically deleted events too, marked as such.
    #[arg(long)]
    deleted: bool,
    #[command(flatten)]
    node: FromNode,
}

/// `cairn journal tail ..`
#[derive(Debug, Args)]
pub struct TailArguments {
    /// The persistence id.
    #[arg(required_unless_present = "shard", conflicts_with = "shard")]
    persistence_id: Option<String>,
    /// The first number.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Follow all journals of this shard instead, in commit order.
    #[arg(long)]
    shard: Option<u16>,
    /// Of a shard: resume after this position.
    #[arg(long, default_value_t = 0, requires = "shard")]
    after: u64,
}

impl FromNode {
    /// Where to read.
    pub(super) async fn source(&self, shared: &Shared) -> anyhow::Result<Source> {
        let Some(address) = &self.from_node else { return Ok(Source::cluster(connect(shared).await?)) };
        let freshness = if self.local { Freshness::Local } else { Freshness::Strong };
        Ok(NodeClient::new(address, shared.deadline)?.source(freshness))
    }
}

/// Runs `cairn journal read`.
///
/// # Errors
/// Why the journal cannot be read.
pub async fn read(arguments: &ReadArguments, shared: &Shared) -> anyhow::Result<()> {
    let persistence_id = PersistenceId::new(arguments.persistence_id.clone())?;
    let source = arguments.node.source(shared).await?;
    let range = Range {
        from: number("--from", arguments.from)?,
        to: arguments.to.map_or(Ok(SequenceNumber::MAX), |to| number("--to", to))?,
        include_deleted: arguments.deleted,
    };
    let mut events = source.replay(&persistence_id, range).take(arguments.max.unwrap_or(usize::MAX));
    while let Some(event) = events.try_next().await? {
        shared.output().item(&EventView::of(&persistence_id, event))?;
    }
    Ok(())
}

/// Runs `cairn journal tail`.
///
/// # Errors
/// Why the journal cannot be followed; that it was stopped is the end and no error.
pub async fn tail(arguments: &TailArguments, shared: &Shared) -> anyhow::Result<()> {
    let output = shared.output();
    let cairn = connect(shared).await?;
    let following = async {
        match (&arguments.persistence_id, arguments.shard) {
            (Some(persistence_id), _) => {
                let journal = cairn.journal(persistence_id.as_str())?;
                let mut events = journal.follow(arguments.from);
                while let Some(event) = events.next().await? {
                    output.item(&EventView::of(journal.persistence_id(), event))?;
                }
            }
            (None, Some(shard)) => {
                let mut events = cairn.follow_shard(ShardId(shard), Position(arguments.after)).start();
                while let Some(event) = events.next().await? {
                    output.item(&EventView::of(&event.persistence_id, event.stored))?;
                }
            }
            (None, None) => {}
        }
        Ok(())
    };
    tokio::select! {
        biased;
        result = signals::stop() => result.and(Err(anyhow!(Stop::new(Exit::Interrupted, "stopped")))),
        result = following => result,
    }
}

fn number(name: &str, number: u64) -> anyhow::Result<SequenceNumber> {
    if number > SequenceNumber::MAX.0 {
        return Err(anyhow!(Stop::input(format!("{name}: {number} is above {}", SequenceNumber::MAX))));
    }
    Ok(SequenceNumber(number))
}
