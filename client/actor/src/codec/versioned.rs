//! Values whose type changed: each version of it is named in the payload, and read for ever.

use cairn_client::Payload;

use super::{Encoding, decode_as, encode_as};
use crate::format::{Codec, FormatError, Refusal};

/// Stands between name and version in a manifest. Persisted.
const SEPARATOR: char = '#';

type Read<T> = Box<dyn Fn(&Payload) -> Result<T, FormatError> + Send + Sync>;

/// A codec that writes the newest version of a type, and reads every version that there was.
///
/// The manifest is `name#version`. A version that is not known is an error that says so: an old program does not misread what a new
/// one wrote while both run.
///
/// ```
/// use cairn_actor::codec::{Cbor, Versioned};
/// use cairn_actor::format::Codec;
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct DepositedV1 { cents: u64 }
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Deposited { cents: u64, currency: String }
///
/// # fn main() -> Result<(), cairn_actor::format::FormatError> {
/// // A year ago.
/// let stored = Versioned::new("deposited", Cbor).encode(&DepositedV1 { cents: 5 })?;
/// assert_eq!(stored.manifest, "deposited#1");
///
/// // Today.
/// let codec = Versioned::new("deposited", Cbor)
///     .then(|old: DepositedV1| Ok(Deposited { cents: old.cents, currency: "EUR".to_owned() }));
/// assert_eq!(codec.decode(&stored)?, Deposited { cents: 5, currency: "EUR".to_owned() });
/// # Ok(()) }
/// ```
///
/// Akka: `SerializerWithStringManifest`; `JacksonMigration` (`currentVersion`, `transform`).
pub struct Versioned<T, E> {
    name: String,
    version: u32,
    encoding: E,
    /// What can be read, by manifest; the newest last.
    readers: Vec<(String, Read<T>)>,
}

impl<T: 'static, E: Encoding<T> + Clone> Versioned<T, E> {
    /// The first version of a type under a name that is kept for ever.
    #[must_use]
    pub fn new(name: impl Into<String>, encoding: E) -> Self {
        Self::starting_at(1, name, encoding)
    }

    /// A later version, when nothing older is stored any more.
    #[must_use]
    pub fn starting_at(version: u32, name: impl Into<String>, encoding: E) -> Self {
        Self::extended(version, name.into(), encoding, Vec::new())
    }

    /// The next version, in the same encoding: `upcast` makes one of the version before.
    #[must_use]
    pub fn then<New: 'static>(
        self,
        upcast: impl Fn(T) -> Result<New, Refusal> + Clone + Send + Sync + 'static,
    ) -> Versioned<New, E>
    where
        E: Encoding<New>,
    {
        let encoding = self.encoding.clone();
        self.then_in(encoding, upcast)
    }

    /// The next version, in another encoding.
    #[must_use]
    pub fn then_in<New: 'static, F: Encoding<New> + Clone>(
        self,
        encoding: F,
        upcast: impl Fn(T) -> Result<New, Refusal> + Clone + Send + Sync + 'static,
    ) -> Versioned<New, F> {
        let readers = self.readers.into_iter().map(|(manifest, read)| (manifest, converted(read, upcast.clone()))).collect();
        Versioned::extended(self.version + 1, self.name, encoding, readers)
    }

    /// Reads also what is stored under another manifest: before it had a name, under an old name, or by another program.
    ///
    /// # Panics
    /// If this manifest is known already.
    #[must_use]
    pub fn also_reads<Old: 'static>(
        mut self,
        manifest: impl Into<String>,
        codec: impl Codec<Old>,
        convert: impl Fn(Old) -> Result<T, Refusal> + Send + Sync + 'static,
    ) -> Self {
        let manifest = manifest.into();
        assert!(self.reader(&manifest).is_none(), "a manifest is read in one way: {manifest:?}");
        let read: Read<Old> = Box::new(move |payload| codec.decode(payload));
        self.readers.insert(0, (manifest, converted(read, convert)));
        self
    }

    fn extended(version: u32, name: String, encoding: E, mut readers: Vec<(String, Read<T>)>) -> Self {
        let own = encoding.clone();
        readers.push((manifest(&name, version), Box::new(move |payload| decode_as(&own, payload))));
        Self { name, version, encoding, readers }
    }
}

impl<T, E> Versioned<T, E> {
    /// The version that is written.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Most of what is read is new: the newest is looked at first.
    fn reader(&self, manifest: &str) -> Option<&Read<T>> {
        self.readers.iter().rev().find(|(known, _)| known == manifest).map(|(_, read)| read)
    }

    fn unknown(&self, payload: &Payload) -> FormatError {
        let newer = payload
            .manifest
            .rsplit_once(SEPARATOR)
            .filter(|(name, _)| *name == self.name)
            .and_then(|(_, version)| version.parse().ok())
            .filter(|version: &u32| *version > self.version);
        let message = match newer {
            Some(version) => {
                format!("version {version} of {} is newer than {}, the newest that is known here", self.name, self.version)
            }
            None => format!("no version of {}, nor anything else that is known", self.name),
        };
        FormatError::about(payload, message)
    }
}

impl<T: 'static, E: Encoding<T>> Codec<T> for Versioned<T, E> {
    fn encode(&self, value: &T) -> Result<Payload, FormatError> {
        let (manifest, _) = self.readers.last().expect("what is written can be read");
        encode_as(&self.encoding, manifest.clone(), value)
    }

    fn decode(&self, payload: &Payload) -> Result<T, FormatError> {
        match self.reader(&payload.manifest) {
            Some(read) => read(payload),
            None => Err(self.unknown(payload)),
        }
    }
}

fn manifest(name: &str, version: u32) -> String {
    format!("{name}{SEPARATOR}{version}")
}

fn converted<Old: 'static, New>(
    read: Read<Old>,
    convert: impl Fn(Old) -> Result<New, Refusal> + Send + Sync + 'static,
) -> Read<New> {
    Box::new(move |payload| convert(read(payload)?).map_err(|refusal| FormatError::about(payload, format!("upcast: {refusal}"))))
}
