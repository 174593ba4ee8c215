//! The client library, as the commands use it.

use cairn_client::{Cairn, Error, Write};
use cairn_machine::{SequenceNumber, WriteReply, WriterId};

use crate::import::{Group, IMPORT_WRITER, Target};
use crate::shared::Shared;

/// Connects to the cluster.
///
/// # Errors
/// If no endpoint answers.
pub async fn connect(shared: &Shared) -> anyhow::Result<Cairn> {
    Ok(Cairn::builder().endpoints(shared.endpoints.iter().cloned()).deadline(shared.deadline).connect().await?)
}

impl Target for Cairn {
    type Error = Error;

    async fn write(&self, after: Option<SequenceNumber>, groups: &[Group]) -> Result<WriteReply, Error> {
        let write = Write {
            persistence_id: groups[0].persistence_id.clone(),
            writer: WriterId::new(IMPORT_WRITER).expect("short ASCII"),
            epoch: None,
            after,
            atomic_writes: groups.iter().map(|group| group.events.clone()).collect(),
        };
        Self::write(self, &write).await
    }
}
