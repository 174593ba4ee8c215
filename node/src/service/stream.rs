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
    produced(Duration::from_millis(core.settings.limits.stalled_reader_ms), producer)
}

/// As [`produce`], for a reader that may take nothing for so long.
fn produced<T, F, Fut>(stalled: Duration, producer: F) -> Answers<T>
where
    T: Send + 'static,
    F: FnOnce(Sink<T>) -> Fut,
    Fut: Future<Output = Result<(), End>> + Send + 'static,
{
    let (messages, ready) = mpsc::channel(READY_MAX);
    let sink = Sink { messages: messages.clone(), stalled };
    let work = producer(sink);
    let (end, ended) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let outcome = tokio::select! {
            biased;
            () = messages.closed() => Err(End::Gone),
            outcome = work => outcome,
        };
        // The end has a way of its own, so that it reaches also a reader whose messages had no room.
        let _ = end.send(match outcome {
            Err(End::Failed(failure)) => Err(Status::from(failure)),
            Ok(()) | Err(End::Gone) => Ok(()),
        });
    });
    let messages = tokio_stream::wrappers::ReceiverStream::new(ready);
    // Without a word it has panicked: a reader must not take that for the end of what there is.
    let end = futures::stream::once(ended)
        .filter_map(async |end| end.unwrap_or_else(|_| Err(Status::internal("the answer broke off"))).err().map(Err));
    Box::pin(messages.chain(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_breaks_off_does_not_look_whole() {
        let answers = produced(Duration::from_secs(1), |sink: Sink<u8>| async move {
            sink.send(1).await?;
            panic!("in the middle")
        });
        let answers: Vec<_> = answers.collect().await;
        assert!(matches!(&answers[..], [Ok(1), Err(status)] if status.code() == tonic::Code::Internal), "{answers:?}");
    }
}
