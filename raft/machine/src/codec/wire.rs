//! The few shapes that everything else is made of.
//!
//! Numbers are varints of seven bits a byte, least significant first, in their shortest form; signed ones are zigzagged first.
//! Texts and bytes carry their length before them.

use bytes::Bytes;

use super::DecodeError;
use crate::ids::{PersistenceId, SequenceNumber, WriterId};

/// Where encoded bytes go: into a buffer, or nowhere but counted.
pub(crate) trait Sink {
    /// Takes bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Takes one byte.
    fn put_byte(&mut self, byte: u8) {
        self.put(&[byte]);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_byte(&mut self, byte: u8) {
        self.push(byte);
    }
}

/// Counts what it is given.
#[derive(Default)]
pub(super) struct Length(pub(super) usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

pub(crate) fn varint(sink: &mut impl Sink, mut value: u64) {
    while value >= 0x80 {
        sink.put_byte(value as u8 | 0x80);
        value >>= 7;
    }
    sink.put_byte(value as u8);
}

pub(crate) fn signed(sink: &mut impl Sink, value: i64) {
    varint(sink, ((value << 1) ^ (value >> 63)) as u64);
}

pub(crate) fn bytes_field(sink: &mut impl Sink, bytes: &[u8]) {
    varint(sink, bytes.len() as u64);
    sink.put(bytes);
}

/// A byte that says whether there is a value, and the value.
pub(crate) fn option<S: Sink, T>(sink: &mut S, value: Option<T>, put: impl FnOnce(&mut S, T)) {
    match value {
        None => sink.put_byte(0),
        Some(value) => {
            sink.put_byte(1);
            put(sink, value);
        }
    }
}

/// Reads shapes from the front of some bytes.
pub(crate) struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which should be `what`.
    pub(super) fn new(bytes: &'a Bytes, what: &'static str) -> Self {
        Self { bytes, at: 0, what }
    }

    /// Goes on at `at`.
    pub(super) fn at(bytes: &'a Bytes, at: usize, what: &'static str) -> Self {
        Self { bytes, at, what }
    }

    /// How much was read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// How much is left.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[cold]
    pub(super) fn malformed(&self) -> DecodeError {
        DecodeError::Malformed { what: self.what }
    }

    /// Everything must have been read.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.malformed()) }
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.malformed())?;
        self.at += 1;
        Ok(byte)
    }

    /// The next `length` bytes, by their place.
    pub(super) fn take(&mut self, length: usize) -> Result<std::ops::Range<usize>, DecodeError> {
        if length > self.remaining() {
            return Err(self.malformed());
        }
        let start = self.at;
        self.at += length;
        Ok(start..self.at)
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let range = self.take(N)?;
        Ok(self.bytes[range].try_into().expect("as many bytes as were taken"))
    }

    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit, and the last byte of a shortest form is not zero.
            if (shift == 63 && byte > 1) || byte == 0 {
                return Err(self.malformed());
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    pub(super) fn varint_u32(&mut self) -> Result<u32, DecodeError> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.malformed())
    }

    pub(super) fn signed(&mut self) -> Result<i64, DecodeError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(super) fn signed_i32(&mut self) -> Result<i32, DecodeError> {
        let value = self.signed()?;
        i32::try_from(value).map_err(|_| self.malformed())
    }

    /// A length that the rest of the input can hold, given that each item takes at least one byte.
    pub(super) fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.varint()?;
        if count > self.remaining() as u64 {
            return Err(self.malformed());
        }
        Ok(count as usize)
    }

    /// The place of a field of bytes.
    pub(super) fn bytes_range(&mut self) -> Result<std::ops::Range<usize>, DecodeError> {
        let length = self.count()?;
        self.take(length)
    }

    /// A field of bytes, sharing the input's memory.
    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let range = self.bytes_range()?;
        Ok(if range.is_empty() { Bytes::new() } else { self.bytes.slice(range) })
    }

    /// A copied text.
    pub(super) fn text(&mut self) -> Result<String, DecodeError> {
        let range = self.bytes_range()?;
        std::str::from_utf8(&self.bytes[range]).map(str::to_owned).map_err(|_| self.malformed())
    }

    pub(super) fn option<T>(&mut self, take: impl FnOnce(&mut Self) -> Result<T, DecodeError>) -> Result<Option<T>, DecodeError> {
        match self.byte()? {
            0 => Ok(None),
            1 => take(self).map(Some),
            _ => Err(self.malformed()),
        }
    }

    pub(super) fn sequence_number(&mut self) -> Result<SequenceNumber, DecodeError> {
        let number = SequenceNumber(self.varint()?);
        if number > SequenceNumber::MAX { Err(self.malformed()) } else { Ok(number) }
    }

    pub(super) fn persistence_id(&mut self) -> Result<PersistenceId, DecodeError> {
        let bytes = self.bytes()?;
        PersistenceId::new(bytes).map_err(|_| self.malformed())
    }

    pub(super) fn writer(&mut self) -> Result<WriterId, DecodeError> {
        let bytes = self.bytes()?;
        WriterId::new(bytes).map_err(|_| self.malformed())
    }
}
