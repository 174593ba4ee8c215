//! Codecs: CBOR, JSON and protobuf, bare or with a name and a version.
//!
//! [`Cbor`] is the choice if there is no reason for another: every serde type round-trips, also bytes, maps with any keys and
//! numbers that are none. [`Json`] can be read by people and by other languages, [`Prost`] has a schema that others share.
//! Wrap it in [`Versioned`] from the first day: then the stored bytes say what they are, and old ones can be read for ever.
//!
//! Invariants
//! - Bytes are read by the codec that wrote them: another serializer id, or a manifest that is not known, is an error and never a try.
//! - What is left over after a value is an error: it is no such value.

mod versioned;

use bytes::Bytes;
use cairn_client::Payload;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use versioned::Versioned;

use crate::format::{Codec, FormatError, Refusal};

/// Room for a value that is being written, in bytes: most events fit, and need no other allocation.
const WRITTEN_BYTES: usize = 512;

/// Values of a type as plain bytes: what a [`Codec`] is made of.
///
/// Those that are here are codecs by themselves, with an empty manifest; [`Versioned`] makes one of any, with name and version.
pub trait Encoding<T>: Send + Sync + 'static {
    /// Says in the payload which encoding it is; above 1000, as actor systems keep low numbers to themselves.
    ///
    /// Akka: `Serializer.identifier`.
    fn serializer_id(&self) -> i32;

    /// # Errors
    /// If the value cannot be expressed.
    fn write(&self, value: &T) -> Result<Bytes, Refusal>;

    /// # Errors
    /// If these are not the bytes of such a value.
    fn read(&self, bytes: &[u8]) -> Result<T, Refusal>;
}

/// CBOR by serde (RFC 8949): the default. Fields are kept by name, so that one with `#[serde(default)]` can be added.
///
/// Akka: `akka-serialization-jackson`, binding `jackson-cbor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cbor;

/// JSON by serde. It has no bytes, no map with keys other than texts, and neither infinity nor a number that is none: these become
/// `null`.
///
/// Akka: `akka-serialization-jackson`, binding `jackson-json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json;

/// Protobuf messages by prost. A message of any other type may well read as one of this: wrap it in [`Versioned`].
///
/// Akka: `akka.remote.serialization.ProtobufSerializer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prost;

impl Cbor {
    /// Persisted: never reuse.
    pub const SERIALIZER_ID: i32 = 4201;
}

impl Json {
    /// Persisted: never reuse.
    pub const SERIALIZER_ID: i32 = 4202;
}

impl Prost {
    /// Persisted: never reuse.
    pub const SERIALIZER_ID: i32 = 4203;
}

impl<T: Serialize + DeserializeOwned> Encoding<T> for Cbor {
    fn serializer_id(&self) -> i32 {
        Self::SERIALIZER_ID
    }

    fn write(&self, value: &T) -> Result<Bytes, Refusal> {
        let mut bytes = Vec::with_capacity(WRITTEN_BYTES);
        ciborium::into_writer(value, &mut bytes)?;
        Ok(bytes.into())
    }

    fn read(&self, mut bytes: &[u8]) -> Result<T, Refusal> {
        let value = ciborium::from_reader(&mut bytes)?;
        if bytes.is_empty() { Ok(value) } else { Err(format!("{} bytes are left over", bytes.len()).into()) }
    }
}

impl<T: Serialize + DeserializeOwned> Encoding<T> for Json {
    fn serializer_id(&self) -> i32 {
        Self::SERIALIZER_ID
    }

    fn write(&self, value: &T) -> Result<Bytes, Refusal> {
        Ok(serde_json::to_vec(value)?.into())
    }

    fn read(&self, bytes: &[u8]) -> Result<T, Refusal> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl<T: prost::Message + Default> Encoding<T> for Prost {
    fn serializer_id(&self) -> i32 {
        Self::SERIALIZER_ID
    }

    fn write(&self, value: &T) -> Result<Bytes, Refusal> {
        Ok(value.encode_to_vec().into())
    }

    fn read(&self, bytes: &[u8]) -> Result<T, Refusal> {
        Ok(T::decode(bytes)?)
    }
}

impl Cbor {
    /// Values as CBOR under a name, in their first version, where none was given one before: what is stored without a name is read, too.
    pub(crate) fn named<T: Serialize + DeserializeOwned + 'static>(name: &str) -> Versioned<T, Self> {
        Versioned::new(name, Self).also_reads("", Self, Ok)
    }
}

/// A blanket implementation for all encodings would leave [`Versioned`] none of its own.
macro_rules! bare_codec {
    ($($encoding:ty),*) => {$(
        impl<T> Codec<T> for $encoding
        where
            $encoding: Encoding<T>,
        {
            fn encode(&self, value: &T) -> Result<Payload, FormatError> {
                encode_as(self, String::new(), value)
            }

            fn decode(&self, payload: &Payload) -> Result<T, FormatError> {
                if !payload.manifest.is_empty() {
                    return Err(FormatError::about(payload, "a manifest, where none is known"));
                }
                decode_as(self, payload)
            }
        }
    )*};
}

bare_codec!(Cbor, Json, Prost);

/// The value as a payload with this manifest.
fn encode_as<T>(encoding: &impl Encoding<T>, manifest: String, value: &T) -> Result<Payload, FormatError> {
    let serializer_id = encoding.serializer_id();
    match encoding.write(value) {
        Ok(bytes) => Ok(Payload { serializer_id, manifest, bytes }),
        Err(refusal) => Err(FormatError { message: refusal.to_string(), serializer_id, manifest }),
    }
}

/// The value of a payload whose manifest has been looked at.
fn decode_as<T>(encoding: &impl Encoding<T>, payload: &Payload) -> Result<T, FormatError> {
    let known = encoding.serializer_id();
    if payload.serializer_id != known {
        return Err(FormatError::about(payload, format!("another serializer wrote this; it is read by {known}")));
    }
    encoding.read(&payload.bytes).map_err(|refusal| FormatError::about(payload, refusal.to_string()))
}

#[cfg(test)]
mod tests;
