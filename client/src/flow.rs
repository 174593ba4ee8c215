//! Streams of events that go on by themselves after a broken connection.
//!
//! Invariants
//! - What was delivered is never delivered again, and nothing is left out: the cursor moves with what is handed out.
//! - A mark never runs ahead of what was handed out.
//! - An outage longer than the client's deadline ends the stream with an error, and never silently.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

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
    /// Where it stands behind all that it has read.
    fn mark(&self) -> Self::Mark;
    /// Where it stands behind an item that others follow; none: where it stood before.
    fn mark_behind(item: &Self::Item) -> Option<Self::Mark>;
    /// How long a node may say nothing before it is taken for one that does not answer.
    fn silence_max(&self) -> Duration;
    /// The stream has broken: it will be opened anew where the cursor stands.
    fn broken(&mut self) {}
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
    /// The next items, perhaps no more than how far it is; none at the proper end.
    async fn fetch(&mut self) -> Result<Option<Vec<C::Item>>, Error> {
        while !self.cursor.is_done() {
            let silence_max = self.cursor.silence_max();
            let (messages, address) = self.opened().await?;
            let failed = match tokio::time::timeout(silence_max, messages.next()).await {
                Ok(Some(Ok(message))) => {
                    self.retry = None;
                    self.outage_end = None;
                    return self.cursor.take(message).map(Some);
                }
                Ok(Some(Err(status))) => Failed::from_status(&status),
                Ok(None) => Failed::Lost("the node ended the stream".to_owned()),
                Err(_) => Failed::Lost(format!("{address} has said nothing for {silence_max:?}")),
            };
            let address = address.clone();
            self.open = None;
            self.cursor.broken();
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
    /// Behind what was handed out.
    mark: C::Mark,
    /// Behind what was read: where it stands once the buffer is empty.
    read_to: C::Mark,
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
        Self { idle, fetching: None, buffer: Vec::new().into_iter(), read_to: mark.clone(), mark }
    }

    /// As of what was handed out last.
    pub(crate) fn mark(&self) -> &C::Mark {
        &self.mark
    }

    pub(crate) fn poll_next_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<C::Item, Error>>> {
        loop {
            if let Some(item) = self.buffer.next() {
                if self.buffer.len() == 0 {
                    self.mark = self.read_to.clone();
                } else if let Some(mark) = C::mark_behind(&item) {
                    self.mark = mark;
                }
                return Poll::Ready(Some(Ok(item)));
            }
            if let Some(fetching) = &mut self.fetching {
                let (running, fetched) = std::task::ready!(fetching.as_mut().poll(context));
                self.fetching = None;
                self.read_to = running.cursor.mark();
                match fetched {
                    Ok(Some(items)) => {
                        if items.is_empty() {
                            self.mark = self.read_to.clone();
                        }
                        self.buffer = items.into_iter();
                        self.idle = Some(running);
                    }
                    Ok(None) => {
                        self.mark = self.read_to.clone();
                        return Poll::Ready(None);
                    }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::memory::MemoryCairn;

    /// Of a node that says nothing the first time.
    struct Hesitant {
        client: Cairn,
        opened: Arc<AtomicUsize>,
    }

    impl Cursor for Hesitant {
        type Message = u64;
        type Item = u64;
        type Mark = ();

        fn client(&self) -> &Cairn {
            &self.client
        }

        fn target(&self) -> Target {
            Target::Any
        }

        fn open(&self, _: Arc<Node>) -> BoxFuture<'static, Result<Messages<u64>, Failed>> {
            let messages = match self.opened.fetch_add(1, Ordering::Relaxed) {
                0 => futures::stream::pending().boxed(),
                _ => futures::stream::iter([Ok(7)]).boxed(),
            };
            Box::pin(async { Ok(messages) })
        }

        fn take(&mut self, message: u64) -> Result<Vec<u64>, Error> {
            Ok(vec![message])
        }

        fn is_done(&self) -> bool {
            false
        }

        fn mark(&self) {}

        fn mark_behind(_: &u64) -> Option<()> {
            None
        }

        fn silence_max(&self) -> Duration {
            Duration::from_secs(3)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_says_nothing_is_not_waited_for_for_ever() {
        let opened = Arc::new(AtomicUsize::new(0));
        let mut flow = Flow::new(Hesitant { client: MemoryCairn::new().client(), opened: opened.clone() });
        let item = std::future::poll_fn(|context| flow.poll_next_item(context)).await;
        assert_eq!(item, Some(Ok(7)));
        assert_eq!(opened.load(Ordering::Relaxed), 2);
    }
}
