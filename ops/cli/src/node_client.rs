//! One given node, asked directly: its status, and what it has stored itself.
//!
//! The client library goes to whoever leads. Operators, and whoever wants proof that every replica holds the same, need an answer
//! from this node and no other.

use std::time::Duration;

use cairn_api::Freshness;
use cairn_api::v1::StatusResponse;
use cairn_client::{Cairn, Error};

use crate::source::Source;

/// A node by its client address.
#[derive(Clone, Debug)]
pub struct NodeClient {
    address: String,
    cairn: Cairn,
}

impl NodeClient {
    /// Names a node; the connection is made when it is needed, and again when it broke. `deadline` bounds each question.
    ///
    /// # Errors
    /// If the address cannot be one.
    pub fn new(address: &str, deadline: Duration) -> Result<Self, Error> {
        let cairn = Cairn::builder().endpoints([address]).deadline(deadline).build()?;
        Ok(Self { address: address.to_owned(), cairn })
    }

    /// Its client address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What the node knows of itself and of the cluster.
    ///
    /// # Errors
    /// The node's failure, or that it cannot be reached.
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        self.cairn.cluster().at(self.address.as_str()).status().await
    }

    /// What it has stored.
    pub fn source(&self, freshness: Freshness) -> Source {
        Source::node(self.cairn.clone(), self.address.clone(), freshness)
    }
}
