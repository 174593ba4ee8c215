//! Event adapters: what stands between the events of an actor and those that are stored.
//!
//! They keep the two apart: a stored event of long ago becomes what the actor knows today, one event becomes several, or none, a model
//! for the journal stays free of the domain. Schema changes of one type are done more simply by
//! [`Versioned`](crate::codec::Versioned); adapters are for what changes meaning.
//!
//! Adapters are bound to *kinds*, which are paths: `account/deposited` is a kind of `account`, and every kind is one of the empty path.
//! The most specific binding counts, and only that one. On each side of it all adapters that have that side take part, in the order
//! of their binding, each with results of its own. Where none has, the event stays what it is.
//!
//! Invariants
//! - Whatever an adapter writes is stored all or none.
//! - Every side is a pure function: the same event is the same at every replay.
//!
//! ```
//! use cairn_actor::adapter::{Adapter, EventAdapters, Format, Kind};
//! use cairn_actor::codec::Cbor;
//! use cairn_actor::format::EventFormat;
//! # use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
//! enum Event { Renamed(String), Paid { cents: u64 } }
//!
//! impl Kind for Event {
//!     fn kind(&self) -> &str {
//!         match self { Self::Renamed(_) => "account/renamed", Self::Paid { .. } => "account/paid" }
//!     }
//! }
//!
//! // Names are personal and are not stored; what is paid is stored with a tag.
//! let adapters = EventAdapters::<Event>::identity()
//!     .bind("account/renamed", Adapter::write(|_: &Event| Ok(Vec::new())));
//! let format = Format::with_adapters(Cbor, adapters).tagged_by(|_: &Event| vec!["account".to_owned()]);
//! assert_eq!(format.to_journal(&Event::Renamed("Ada".to_owned()))?, []);
//! assert_eq!(format.to_journal(&Event::Paid { cents: 5 })?[0].tags, ["account"]);
//! # Ok::<(), cairn_actor::format::FormatError>(())
//! ```

mod format;

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_client::{NewEvent, Payload};

pub use format::{Format, Tagger};

use crate::format::{Codec, FormatError, Refusal};

/// Says which kind of event a value is: a path, the general before the specific, such as `account/deposited`.
///
/// Akka: the class of an event, and its supertypes, in `event-adapter-bindings`.
pub trait Kind {
    /// The path, without a slash at its ends.
    fn kind(&self) -> &str;
}

/// An event as it goes to the journal, with tags that its adapter gives it.
///
/// Akka: `Tagged`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged<J> {
    /// What is stored.
    pub event: J,
    /// Tags, besides those of the [`Tagger`].
    pub tags: Vec<String>,
}

impl<J> Tagged<J> {
    /// An event with tags.
    pub fn new(event: J, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { event, tags: tags.into_iter().map(Into::into).collect() }
    }
}

impl<J> From<J> for Tagged<J> {
    fn from(event: J) -> Self {
        Self { event, tags: Vec::new() }
    }
}

/// Makes of an event `E` what is stored of it. Functions from an event to such a list are adapters.
///
/// Akka: `WriteEventAdapter`, `IWriteEventAdapter`.
pub trait WriteEventAdapter<E, J = E>: Send + Sync + 'static {
    /// Kept with what is stored and handed to the reading side; independent of the serializer's. Empty = none.
    ///
    /// Akka: `WriteEventAdapter.manifest`.
    fn manifest(&self, event: &E) -> String {
        let _ = event;
        String::new()
    }

    /// None stores nothing and takes no number, and the event is handled all the same; several take consecutive numbers in one atomic
    /// write.
    ///
    /// Akka: `WriteEventAdapter.toJournal`.
    ///
    /// # Errors
    /// The event is rejected.
    fn to_journal(&self, event: &E) -> Result<Vec<Tagged<J>>, Refusal>;
}

/// Makes of what is stored the events that the actor sees. Functions from a stored event and a manifest to such a list are adapters.
///
/// Akka: `ReadEventAdapter`, `IReadEventAdapter`.
pub trait ReadEventAdapter<E, J = E>: Send + Sync + 'static {
    /// None skips it; several have the same number.
    ///
    /// Akka: `ReadEventAdapter.fromJournal`, `EventSeq`.
    ///
    /// # Errors
    /// The replay fails.
    #[expect(clippy::wrong_self_convention, reason = "it is called so wherever there are event adapters")]
    fn from_journal(&self, stored: &J, manifest: &str) -> Result<Vec<E>, Refusal>;
}

/// Both sides in one.
///
/// Akka: `EventAdapter`, `IEventAdapter`.
pub trait EventAdapter<E, J = E>: WriteEventAdapter<E, J> + ReadEventAdapter<E, J> {}

impl<E, J, A: WriteEventAdapter<E, J> + ReadEventAdapter<E, J>> EventAdapter<E, J> for A {}

impl<E, J, F: Fn(&E) -> Result<Vec<Tagged<J>>, Refusal> + Send + Sync + 'static> WriteEventAdapter<E, J> for F {
    fn to_journal(&self, event: &E) -> Result<Vec<Tagged<J>>, Refusal> {
        self(event)
    }
}

impl<E, J, F: Fn(&J, &str) -> Result<Vec<E>, Refusal> + Send + Sync + 'static> ReadEventAdapter<E, J> for F {
    fn from_journal(&self, stored: &J, manifest: &str) -> Result<Vec<E>, Refusal> {
        self(stored, manifest)
    }
}

/// An adapter with the sides that it has, ready to be bound, to several kinds if it is cloned.
///
/// Akka: an entry of `event-adapters`.
pub struct Adapter<E, J = E> {
    write: Option<Arc<dyn WriteEventAdapter<E, J>>>,
    read: Option<Arc<dyn ReadEventAdapter<E, J>>>,
}

impl<E, J> Clone for Adapter<E, J> {
    fn clone(&self) -> Self {
        Self { write: self.write.clone(), read: self.read.clone() }
    }
}

impl<E, J> Adapter<E, J> {
    /// Only to the journal.
    ///
    /// Akka: `NoopReadEventAdapter`.
    #[must_use]
    pub fn write(adapter: impl WriteEventAdapter<E, J>) -> Self {
        Self { write: Some(Arc::new(adapter)), read: None }
    }

    /// Only from the journal.
    ///
    /// Akka: `NoopWriteEventAdapter`.
    #[must_use]
    pub fn read(adapter: impl ReadEventAdapter<E, J>) -> Self {
        Self { write: None, read: Some(Arc::new(adapter)) }
    }

    /// Both ways.
    #[must_use]
    pub fn both(adapter: impl EventAdapter<E, J>) -> Self {
        let both = Arc::new(adapter);
        Self { write: Some(both.clone()), read: Some(both) }
    }
}

/// How the kinds of both sides are told.
struct Kinds<E, J> {
    event: fn(&E) -> &str,
    stored: fn(&J) -> &str,
}

type Write<E, J> = Box<dyn Fn(&E, &dyn Codec<J>) -> Result<Vec<NewEvent>, FormatError> + Send + Sync>;
type Read<E, J> = Box<dyn Fn(J, &str) -> Result<Vec<E>, Refusal> + Send + Sync>;

/// Which adapters take part for which events.
///
/// Akka: `EventAdapters`; `event-adapter-bindings`.
pub struct EventAdapters<E, J = E> {
    write_unbound: Write<E, J>,
    read_unbound: Read<E, J>,
    /// Set by the first binding, which is where both types are known to have kinds.
    kinds: Option<Kinds<E, J>>,
    bindings: BTreeMap<String, Vec<Adapter<E, J>>>,
}

impl<E: 'static> EventAdapters<E> {
    /// Events are stored as they are, where no adapter is bound.
    ///
    /// Akka: `IdentityEventAdapter`.
    #[must_use]
    pub fn identity() -> Self {
        Self {
            write_unbound: Box::new(|event, codec| Ok(vec![codec.encode(event)?.into()])),
            read_unbound: Box::new(|stored, _| Ok(vec![stored])),
            kinds: None,
            bindings: BTreeMap::new(),
        }
    }
}

impl<E: 'static, J: 'static> EventAdapters<E, J> {
    /// Every event goes through this adapter, where none is bound.
    ///
    /// Akka: `EventSourcedBehavior.eventAdapter`.
    #[must_use]
    pub fn through(adapter: impl EventAdapter<E, J>) -> Self {
        let adapter = Arc::new(adapter);
        let write = adapter.clone();
        Self {
            write_unbound: Box::new(move |event, codec| adapted(&*write, event, codec)),
            read_unbound: Box::new(move |stored, manifest| adapter.from_journal(&stored, manifest)),
            kinds: None,
            bindings: BTreeMap::new(),
        }
    }

    /// Binds an adapter to a kind, and to all kinds of it that have no binding of their own; empty = everything. Another one for
    /// the same kind comes after it.
    ///
    /// Akka: an entry of `event-adapter-bindings`, `CombinedReadEventAdapter`. Adapters are bound as values: no name of one can be wrong.
    #[must_use]
    pub fn bind(mut self, kind: impl Into<String>, adapter: Adapter<E, J>) -> Self
    where
        E: Kind,
        J: Kind,
    {
        self.kinds = Some(Kinds { event: E::kind, stored: J::kind });
        self.bindings.entry(kind.into()).or_default().push(adapter);
        self
    }

    /// The adapters of the most specific binding; none if nothing is bound.
    fn bound(&self, mut kind: &str) -> &[Adapter<E, J>] {
        loop {
            if let Some(adapters) = self.bindings.get(kind) {
                return adapters;
            }
            if kind.is_empty() {
                return &[];
            }
            kind = kind.rsplit_once('/').map_or("", |(general, _)| general);
        }
    }

    fn to_journal(&self, event: &E, codec: &dyn Codec<J>) -> Result<Vec<NewEvent>, FormatError> {
        let kind = self.kinds.as_ref().map_or("", |kinds| (kinds.event)(event));
        let mut writers = self.bound(kind).iter().filter_map(|adapter| adapter.write.as_deref()).peekable();
        if writers.peek().is_none() {
            return (self.write_unbound)(event, codec);
        }
        let mut events = Vec::new();
        for writer in writers {
            events.append(&mut adapted(writer, event, codec)?);
        }
        Ok(events)
    }

    #[expect(clippy::wrong_self_convention, reason = "it is called so wherever there are event adapters")]
    fn from_journal(&self, stored: J, manifest: &str) -> Result<Vec<E>, Refusal> {
        let kind = self.kinds.as_ref().map_or("", |kinds| (kinds.stored)(&stored));
        let mut readers = self.bound(kind).iter().filter_map(|adapter| adapter.read.as_deref()).peekable();
        if readers.peek().is_none() {
            return (self.read_unbound)(stored, manifest);
        }
        let mut events = Vec::new();
        for reader in readers {
            events.append(&mut reader.from_journal(&stored, manifest)?);
        }
        Ok(events)
    }
}

/// What one adapter writes of an event.
fn adapted<E, J: 'static>(
    adapter: &(impl WriteEventAdapter<E, J> + ?Sized),
    event: &E,
    codec: &dyn Codec<J>,
) -> Result<Vec<NewEvent>, FormatError> {
    let outcomes = adapter.to_journal(event).map_err(|refusal| {
        // There is no payload yet that the error could speak of.
        FormatError::about(&Payload::default(), format!("event adapter: {refusal}"))
    })?;
    let adapter_manifest = adapter.manifest(event);
    let new_event = |Tagged { event, tags }| {
        Ok(NewEvent { payload: codec.encode(&event)?, adapter_manifest: adapter_manifest.clone(), metadata: None, tags })
    };
    outcomes.into_iter().map(new_event).collect()
}

#[cfg(test)]
mod tests;
