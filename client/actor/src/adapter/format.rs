//! A codec, adapters and a tagger as one format.

use std::collections::BTreeSet;

use cairn_client::{NewEvent, StoredEvent};

use super::EventAdapters;
use crate::format::{Codec, EventFormat, FormatError};

/// Gives an event the tags under which it is found by queries. A function from an event to its tags is one.
///
/// Akka: `EventSourcedBehavior.withTagger`, `tagsFor`.
pub trait Tagger<E>: Send + Sync + 'static {
    /// A set; at most 64 tags, each of 1 to 256 bytes.
    fn tags(&self, event: &E) -> Vec<String>;
}

impl<E, F: Fn(&E) -> Vec<String> + Send + Sync + 'static> Tagger<E> for F {
    fn tags(&self, event: &E) -> Vec<String> {
        self(event)
    }
}

/// How the events `E` of an actor are stored: as values `J`, by a codec `C`, through adapters, with tags.
///
/// Akka: the serializer bindings and the event adapters of a journal, and the tagger of a behaviour.
pub struct Format<E, J, C> {
    codec: C,
    adapters: EventAdapters<E, J>,
    tagger: Option<Box<dyn Tagger<E>>>,
}

impl<E: 'static, C: Codec<E>> Format<E, E, C> {
    /// Events are stored as they are.
    #[must_use]
    pub fn new(codec: C) -> Self {
        Self::with_adapters(codec, EventAdapters::identity())
    }
}

impl<E: 'static, J: 'static, C: Codec<J>> Format<E, J, C> {
    /// Events go through adapters.
    #[must_use]
    pub fn with_adapters(codec: C, adapters: EventAdapters<E, J>) -> Self {
        Self { codec, adapters, tagger: None }
    }

    /// Tags events: as the actor persists them, so that whatever an adapter makes of one has its tags.
    #[must_use]
    pub fn tagged_by(mut self, tagger: impl Tagger<E>) -> Self {
        self.tagger = Some(Box::new(tagger));
        self
    }
}

impl<E: 'static, J: 'static, C: Codec<J>> EventFormat<E> for Format<E, J, C> {
    fn to_journal(&self, event: &E) -> Result<Vec<NewEvent>, FormatError> {
        let mut events = self.adapters.to_journal(event, &self.codec)?;
        let of_event = self.tagger.as_ref().map(|tagger| tagger.tags(event)).unwrap_or_default();
        for new_event in &mut events {
            let tags: BTreeSet<String> = new_event.tags.drain(..).chain(of_event.iter().cloned()).collect();
            new_event.tags = tags.into_iter().collect();
        }
        Ok(events)
    }

    fn from_journal(&self, stored: &StoredEvent) -> Result<Vec<E>, FormatError> {
        let payload = &stored.event.payload;
        let value = self.codec.decode(payload)?;
        self.adapters
            .from_journal(value, &stored.event.adapter_manifest)
            .map_err(|refusal| FormatError::about(payload, format!("event adapter: {refusal}")))
    }
}
