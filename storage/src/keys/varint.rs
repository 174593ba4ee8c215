//! Variable-length numbers: seven bits a byte, least significant first, the high bit says that more follow.

use bytes::{Buf, Bytes};
use cairn_machine::DecodeError;

use super::malformed;

/// Appends a number.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number from the front.
pub(crate) fn take(bytes: &mut Bytes, what: &'static str) -> Result<u64, DecodeError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        if !bytes.has_remaining() {
            return Err(malformed(what));
        }
        let byte = bytes.get_u8();
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return Err(malformed(what));
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(malformed(what))
}

/// Appends a number that may be negative; small ones of either sign are short.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// Takes a number that may be negative.
pub(crate) fn take_signed(bytes: &mut Bytes, what: &'static str) -> Result<i64, DecodeError> {
    let number = take(bytes, what)?;
    Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
}

/// Takes a run of bytes with its length before it.
pub(crate) fn take_bytes(bytes: &mut Bytes, what: &'static str) -> Result<Bytes, DecodeError> {
    let length = take(bytes, what)?;
    match usize::try_from(length) {
        Ok(length) if length <= bytes.len() => Ok(bytes.split_to(length)),
        _ => Err(malformed(what)),
    }
}

/// Appends a run of bytes with its length before it.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(number: u64, rest: Vec<u8>) {
            let mut out = Vec::new();
            put(&mut out, number);
            out.extend_from_slice(&rest);
            let mut bytes = Bytes::from(out);
            prop_assert_eq!(take(&mut bytes, "number").expect("was put"), number);
            prop_assert_eq!(bytes.as_ref(), rest.as_slice());
        }

        #[test]
        fn signed_numbers_round_trip(number: i64) {
            let mut out = Vec::new();
            put_signed(&mut out, number);
            prop_assert_eq!(take_signed(&mut Bytes::from(out), "number").expect("was put"), number);
        }

        #[test]
        fn any_bytes_are_a_number_or_malformed(bytes: Vec<u8>) {
            let _ = take(&mut Bytes::from(bytes.clone()), "number");
            let _ = take_bytes(&mut Bytes::from(bytes), "bytes");
        }
    }
}
