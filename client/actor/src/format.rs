//! How values become bytes, and bytes values again.
//!
//! Invariants
//! - What is stored says by itself how to read it: serializer id and manifest travel with the bytes.
//! - Nothing is given a number before it is bytes: an event that cannot be serialised leaves no gap.

use cairn_client::{NewEvent, Payload, StoredEvent};

/// Why a value did not become bytes, or bytes no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (serializer {serializer_id}, manifest {manifest:?})")]
pub struct FormatError {
    /// What went wrong.
    pub message: String,
    /// The serializer that the payload names, or would have named.
    pub serializer_id: i32,
    /// The manifest of the payload.
    pub manifest: String,
}

/// What a user's own function says if it cannot do its work: any error, or a text by `"why".into()`.
pub type Refusal = Box<dyn std::error::Error + Send + Sync>;

impl FormatError {
    /// An error about a payload that is there.
    #[must_use]
    pub fn about(payload: &Payload, message: impl Into<String>) -> Self {
        Self { message: message.into(), serializer_id: payload.serializer_id, manifest: payload.manifest.clone() }
    }
}

/// One kind of value as bytes: the state of an actor, say.
pub trait Codec<T>: Send + Sync + 'static {
    /// # Errors
    /// [`FormatError`] if the value cannot be expressed.
    fn encode(&self, value: &T) -> Result<Payload, FormatError>;

    /// # Errors
    /// [`FormatError`] if these are no bytes of such a value, or of a version that is not known.
    fn decode(&self, payload: &Payload) -> Result<T, FormatError>;
}

/// The events of an actor as the journal holds them: codec, adapters and tags in one.
pub trait EventFormat<E>: Send + Sync + 'static {
    /// What is stored for an event: none stores nothing and takes no number; several take consecutive numbers, all or none.
    ///
    /// # Errors
    /// [`FormatError`]: the event is rejected, and takes no number.
    fn to_journal(&self, event: &E) -> Result<Vec<NewEvent>, FormatError>;

    /// The events that a stored one stands for, in order.
    ///
    /// # Errors
    /// [`FormatError`]: the replay fails.
    #[expect(clippy::wrong_self_convention, reason = "it is called so wherever there are event adapters")]
    fn from_journal(&self, stored: &StoredEvent) -> Result<Vec<E>, FormatError>;
}
