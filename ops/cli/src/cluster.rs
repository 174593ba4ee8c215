//! `cairn cluster`: who is in the cluster, who leads, and changing that. Every safety check is in the server.

mod status;

pub use status::any_status;

use cairn_client::Cairn;
use cairn_machine::{NodeId, ShardId};
use clap::Subcommand;

use crate::connect::connect;
use crate::output::Output;
use crate::shared::Shared;
use serde::Serialize;

/// `cairn cluster ..`
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show every node and every shard, each node asked itself, for a second and a half at most.
    Status,
    /// Take a waiting node in (started with `--join`): it comes as a learner, catches up, and is promoted.
    Add {
        /// The waiting node's peer address.
        #[arg(value_name = "PEER HOST:PORT")]
        peer_address: String,
    },
    /// Take a node out. Refused if the rest could not go on.
    Remove {
        /// Its node id.
        node_id: u64,
    },
    /// Put a waiting node with a new identity in the place of a lost or wiped one.
    Replace {
        /// The node id of the lost one.
        node_id: u64,
        /// The waiting node's peer address.
        #[arg(value_name = "PEER HOST:PORT")]
        peer_address: String,
    },
    /// Hand leadership over.
    TransferLeader {
        /// To whom [default: any other voter].
        #[arg(long, value_name = "NODE ID")]
        to: Option<u64>,
        /// Of which shard [default: every shard that the target does not lead].
        #[arg(long)]
        shard: Option<u16>,
    },
}

/// What a change of the cluster did.
#[derive(Serialize)]
struct Changed {
    steps: Vec<String>,
}

/// Runs `cairn cluster ..`
///
/// # Errors
/// The server's refusal, or that no node can be reached.
pub async fn run(command: &ClusterCommand, shared: &Shared) -> anyhow::Result<()> {
    if let ClusterCommand::Status = command {
        return status::run(shared).await;
    }
    let cairn = connect(shared).await?;
    let steps = change(command, &cairn).await?;
    show(shared.output(), steps)
}

async fn change(command: &ClusterCommand, cairn: &Cairn) -> anyhow::Result<Vec<String>> {
    let cluster = cairn.cluster();
    Ok(match command {
        ClusterCommand::Status => Vec::new(),
        ClusterCommand::Add { peer_address } => cluster.add(peer_address.as_str()).await?,
        ClusterCommand::Remove { node_id } => cluster.remove(NodeId(*node_id)).await?,
        ClusterCommand::Replace { node_id, peer_address } => cluster.replace(NodeId(*node_id), peer_address.as_str()).await?,
        ClusterCommand::TransferLeader { to, shard } => cluster.transfer_leader(shard.map(ShardId), to.map(NodeId)).await?,
    })
}

fn show(output: Output, steps: Vec<String>) -> anyhow::Result<()> {
    output.record_or_lines(&Changed { steps: steps.clone() }, &steps)
}
