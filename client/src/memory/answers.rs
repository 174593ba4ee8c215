//! Answers of the services in memory, and how they fail where they shall.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tonic::{Response, Status};

use super::world::{Trouble, World};

/// Bytes of a snapshot in one message.
const MESSAGE_BYTES: usize = 256 * 1024;

pub(super) type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// A stream that breaks where it shall.
pub(super) fn until_broken<M: Send + 'static>(
    world: &World,
    messages: impl Stream<Item = Result<M, Status>> + Send + 'static,
) -> Messages<M> {
    let whole = world.stream_messages_max();
    let mut count = 0;
    let messages = messages.map(move |message| {
        count += 1;
        if count > whole { Err(broken()) } else { message }
    });
    messages.boxed()
}

/// What the caller of a broken connection sees: a status that no node has written.
pub(super) fn broken() -> Status {
    Status::unknown("the connection broke")
}

/// The answer to a unary call.
pub(super) async fn answered<T>(answer: Result<T, Trouble>) -> Result<Response<T>, Status> {
    match answer {
        Ok(answer) => Ok(Response::new(answer)),
        Err(Trouble::Failure(failure)) => Err((*failure).into()),
        Err(Trouble::Break) => Err(broken()),
        Err(Trouble::Silence) => std::future::pending().await,
    }
}

/// A snapshot's bytes in pieces for messages.
pub(super) fn data_messages(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!bytes.is_empty()).then(|| bytes.split_to(bytes.len().min(MESSAGE_BYTES))))
}
