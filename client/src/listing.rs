//! Listing journals, page by page.

use std::sync::Arc;

use cairn_api::{Freshness, Listing, v1};

use crate::attempt::Failed;
use crate::cairn::Cairn;
use crate::error::Error;
use crate::limits::LIST_PAGE_JOURNALS;
use crate::node::Node;
use crate::router::{Effect, Target};

/// The journals whose persistence id begins with a prefix, in bytewise order. Pages are read as they are needed; each page is as
/// fresh as asked for when it is read.
#[derive(Clone, Debug)]
pub struct Journals {
    client: Cairn,
    prefix: String,
    after: String,
    freshness: Freshness,
    target: Target,
    page: std::vec::IntoIter<Listing>,
    is_more: bool,
}

impl Journals {
    pub(crate) fn new(client: Cairn, prefix: String) -> Self {
        Self {
            client,
            prefix,
            after: String::new(),
            freshness: Freshness::Strong,
            target: Target::Any,
            page: Vec::new().into_iter(),
            is_more: true,
        }
    }

    /// Begins after this persistence id.
    #[must_use]
    pub fn after(mut self, persistence_id: impl Into<String>) -> Self {
        self.after = persistence_id.into();
        self
    }

    /// How fresh the listing must be; linearizable by default.
    #[must_use]
    pub fn with_freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }

    /// Reads from this node alone: `host:port`.
    #[must_use]
    pub fn read_at(mut self, address: impl Into<String>) -> Self {
        self.target = Target::Address(address.into());
        self
    }

    /// The next journal; none after the last.
    ///
    /// # Errors
    /// See [`Error`]; calling again tries the same page again.
    pub async fn next(&mut self) -> Result<Option<Listing>, Error> {
        loop {
            if let Some(listing) = self.page.next() {
                return Ok(Some(listing));
            }
            if !self.is_more {
                return Ok(None);
            }
            self.fetch().await?;
        }
    }

    /// All that are left, in memory.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn collect_all(mut self) -> Result<Vec<Listing>, Error> {
        let mut listings = Vec::new();
        while let Some(listing) = self.next().await? {
            listings.push(listing);
        }
        Ok(listings)
    }

    async fn fetch(&mut self) -> Result<(), Error> {
        let request = v1::ListRequest {
            prefix: self.prefix.clone(),
            after: self.after.clone(),
            limit: LIST_PAGE_JOURNALS,
            freshness: Some(self.freshness.into()),
        };
        let attempt = |node: Arc<Node>| {
            let request = request.clone();
            async move {
                let listed = node.journal().list(node.request(request)).await;
                Ok(listed.map_err(|status| Failed::from_status(&status))?.into_inner())
            }
        };
        let page = self.client.router().call(&self.target, Effect::Read, self.client.deadline(), attempt).await?;
        let listings: Result<Vec<_>, _> = page.journals.into_iter().map(Listing::try_from).collect();
        let listings = listings.map_err(|invalid| Error::protocol(invalid.to_string()))?;
        match listings.last() {
            Some(last) => last.persistence_id.as_str().clone_into(&mut self.after),
            None if page.more => return Err(Error::protocol("an empty page that is not the last")),
            None => {}
        }
        self.is_more = page.more;
        self.page = listings.into_iter();
        Ok(())
    }
}
