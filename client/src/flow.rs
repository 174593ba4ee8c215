//! Streams of events that go on by themselves after a broken connection.
//!
//! Invariants
//! - What was delivered is never delivered again, and nothing is left out: the cursor moves with what is handed out.
//! - An outage longer than the client's deadline ends the stream with an error, and never silently.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use tokio::time::Instant;
use tonic::Status;

use crate::attempt::Failed;
use crate::cairn::Cairn;
use crate::error::Error;
use crate::node::Node;
use crate::retry::Retry;
use crate::router::{Effect, Target};

/// Messages from a server.
pub(crate) type Messages<M> = BoxStream<'static, Result<M, Status>>;

/// Where a stream stands, and how to open it there.
pub(crate) trait Cursor: Send + Sync + 'static {
    /// A message of the server.
    type Message: Send + 'static;
    /// What is handed out.
    type Item: Send + 'static;
    /// What can be asked about the stream while it runs.
    type Mark: Clone + Send + Unpin;

    fn client(&self) -> &Cairn;
    fn target(&self) -> Target;
    /// Opens the stream at a node, where the cursor stands.
    fn open(&self, node: Arc<Node>) -> BoxFuture<'static, Result<Messages<Self::Message>, Failed>>;
    /// Reads a message and moves behind it.
    fn take(&mut self, message: Self::Message) -> Result<Vec<Self::Item>, Error>;
    /// Whether the stream has come to its proper end.
    fn is_done(&self) -> bool;
    fn mark(&self) -> Self::Mark;
}

/// A cursor with its open stream.
struct Running<C: Cursor> {
    cursor: C,
    open: Option<(Messages<C::Message>, String)>,
    retry: Option<Retry>,
    /// When the outage, if there is one, has lasted too long.
    outage_end: Option<Instant>,
}

impl<C: Cursor> Running<C> {
    /// The next items; none at the proper end.
    async fn fetch(&mut self) -> Result<Option<Vec<C::Item>>, Error> {
        while !self.cursor.is_done() {
            let (messages, address) = self.opened().await?;
            let failed = match messages.next().await {
                Some(Ok(message)) => {
                    self.retry = None;
                    self.outage_end = None;
                    let items = self.cursor.take(message)?;
                    if items.is_empty() {
                        continue;
                    }
                    return Ok(Some(items));
                }
                Some(Err(status)) => Failed::from_status(&status),
                None => Failed::Lost("the node ended the stream".to_owned()),
            };
            let address = address.clone();
            self.open = None;
            self.wait(&address, failed).await?;
        }
        Ok(None)
    }

    async fn opened(&mut self) -> Result<&mut (Messages<C::Message>, String), Error> {
        if self.open.is_none() {
            let client = self.cursor.client().clone();
            let deadline = *self.outage_end.get_or_insert_with(|| client.deadline());
            let attempt = |node: Arc<Node>| {
                let address = node.address().to_owned();
                let opening = self.cursor.open(node);
                async move { Ok((opening.await?, address)) }
            };
            self.open = Some(client.router().call(&self.cursor.target(), Effect::Read, deadline, attempt).await?);
        }
        Ok(self.open.as_mut().expect("opened just now"))
    }

    /// Waits before the stream is opened again.
    async fn wait(&mut self, address: &str, failed: Failed) -> Result<(), Error> {
        let client = self.cursor.client().clone();
        if let Some(failure) = failed.final_answer() {
            return Err(Error::from_failure(failure.clone()));
        }
        client.router().note(&self.cursor.target(), address, &failed);
        let deadline = *self.outage_end.get_or_insert_with(|| client.deadline());
        let retry = self.retry.get_or_insert_with(|| Retry::new(client.router().random_u64()));
        if retry.wait(&failed, deadline).await {
            return Ok(());
        }
        Err(Error::Unavailable { message: failed.message().to_owned() })
    }
}

type Fetched<C> = (Box<Running<C>>, Result<Option<Vec<<C as Cursor>::Item>>, Error>);

/// A running stream of items.
pub(crate) struct Flow<C: Cursor> {
    /// None while a fetch is under way, and after the end.
    idle: Option<Box<Running<C>>>,
    fetching: Option<BoxFuture<'static, Fetched<C>>>,
    buffer: std::vec::IntoIter<C::Item>,
    mark: C::Mark,
}

impl<C: Cursor> Flow<C> {
    pub(crate) fn new(cursor: C) -> Self {
        Self::running(cursor, None)
    }

    /// A flow whose stream is open already.
    pub(crate) fn opened(cursor: C, messages: Messages<C::Message>, address: String) -> Self {
        Self::running(cursor, Some((messages, address)))
    }

    fn running(cursor: C, open: Option<(Messages<C::Message>, String)>) -> Self {
        let mark = cursor.mark();
        let idle = Some(Box::new(Running { cursor, open, retry: None, outage_end: None }));
        Self { idle, fetching: None, buffer: Vec::new().into_iter(), mark }
    }

    /// As of what was fetched last.
    pub(crate) fn mark(&self) -> &C::Mark {
        &self.mark
    }

    pub(crate) fn poll_next_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<C::Item, Error>>> {
        loop {
            if let Some(item) = self.buffer.next() {
                return Poll::Ready(Some(Ok(item)));
            }
            if let Some(fetching) = &mut self.fetching {
                let (running, fetched) = std::task::ready!(fetching.as_mut().poll(context));
                self.fetching = None;
                self.mark = running.cursor.mark();
                match fetched {
                    Ok(Some(items)) => {
                        self.buffer = items.into_iter();
                        self.idle = Some(running);
                    }
                    Ok(None) => return Poll::Ready(None),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
                continue;
            }
            let Some(mut running) = self.idle.take() else { return Poll::Ready(None) };
            self.fetching = Some(Box::pin(async move {
                let fetched = running.fetch().await;
                (running, fetched)
            }));
        }
    }
}

/// Makes a public type with a `Flow` in its field `flow` a stream.
macro_rules! stream_of {
    ($stream:ident, $item:ty) => {
        impl futures::Stream for $stream {
            type Item = Result<$item, $crate::error::Error>;

            fn poll_next(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Self::Item>> {
                self.get_mut().flow.poll_next_item(context)
            }
        }

        impl $stream {
            /// The next one; none at the end.
            ///
            /// # Errors
            /// [`Error`](crate::Error): the stream is over then.
            pub async fn next(&mut self) -> Result<Option<$item>, $crate::error::Error> {
                std::future::poll_fn(|context| self.flow.poll_next_item(context)).await.transpose()
            }
        }
    };
}

pub(crate) use stream_of;

impl<C: Cursor> Unpin for Flow<C> {}
