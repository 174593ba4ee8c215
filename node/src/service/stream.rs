//! Streams of answers: a task produces, the connection takes; a reader that takes nothing for too long loses its stream.

use std::time::Duration;

use cairn_api::v1::{Failure, Reason};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::Status;

use crate::core::Core;

/// Messages that are ready before the reader takes them: enough to read ahead, little enough to hold for many readers.
const READY_MAX: usize = 2;

/// A stream of answers.
pub(crate) type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Where a producer puts its messages.
pub(crate) struct Sink<T> {
    messages: mpsc::Sender<Result<T, Status>>,
    stalled: Duration,
}

/// Why a producer ends before it is done.
pub(crate) enum End {
    /// The reader is told why.
    Failed(Failure),
    /// The reader is gone.
    Gone,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<T> Sink<T> {
    /// Hands over a message, waiting until there is room for it.
    pub(crate) async fn send(&self, message: T) -> Result<(), End> {
        match tokio::time::timeout(self.stalled, self.messages.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Failed(Failure::new(Reason::Unavailable, "the reader took nothing for too long"))),
        }
    }
}

/// Starts a producer and gives the stream of what it produces. Dropping the stream ends the producer.
pub(crate) fn produce<T, F, Fut>(core: &Core, producer: F) -> Answers<T>
where
    T: Send + 'static,
    F: FnOnce(Sink<T>) -> Fut,
    Fut: Future<Output = Result<(), End>> + Send + 'static,
{
    let (messages, ready) = mpsc::channel(READY_MAX);
    let sink = Sink { messages: messages.clone(), stalled: Duration::from_millis(core.settings.limits.stalled_reader_ms) };
    let work = producer(sink);
    let (end, ended) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let outcome = tokio::select! {
            biased;
            () = messages.closed() => Err(End::Gone),
            outcome = work => outcome,
        };
        // The end has a way of its own, so that it reaches also a reader whose messages had no room.
        if let Err(End::Failed(failure)) = outcome {
            let _ = end.send(Status::from(failure));
        }
    });
    let messages = tokio_stream::wrappers::ReceiverStream::new(ready);
    let end = futures::stream::once(ended).filter_map(async |end| end.ok().map(Err));
    Box::pin(messages.chain(end))
}
