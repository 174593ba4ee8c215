//! Heads: persistence id -> `Head`. Sorted bytewise by persistence id, so that journals are listed by prefix.

use bytes::Bytes;
use cairn_machine::{DecodeError, Head, PersistenceId};

use super::{Family, KeyReader, malformed};

/// The key of a journal's head.
#[must_use]
pub fn key(persistence_id: &PersistenceId) -> Bytes {
    super::key(Family::Head, &[persistence_id.as_bytes()])
}

/// The start of all keys whose persistence id begins with `prefix`.
#[must_use]
pub fn prefix(prefix: &[u8]) -> Bytes {
    super::key(Family::Head, &[prefix])
}

/// The persistence id in a key.
///
/// # Errors
/// Malformed.
pub fn decode_key(key: &Bytes) -> Result<PersistenceId, DecodeError> {
    let length = KeyReader::new(key, Family::Head, "head key")?.rest().len();
    PersistenceId::new(key.slice(key.len() - length..)).map_err(|_| malformed("persistence id in a head key"))
}

/// The value for a head.
#[must_use]
pub fn encode(head: &Head) -> Bytes {
    let mut out = Vec::with_capacity(128);
    head.encode(&mut out);
    out.into()
}

/// The head in a value.
///
/// # Errors
/// Malformed.
pub fn decode(value: &Bytes) -> Result<Head, DecodeError> {
    Head::decode(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_round_trip_and_sort_as_ids_do(one in "\\PC{1,12}|[a\u{0}\u{ff}]{1,8}", other in "\\PC{1,12}|[a\u{0}]{1,8}") {
            prop_assume!(!one.trim().is_empty() && !other.trim().is_empty());
            let one = PersistenceId::new(one).expect("not blank");
            let other = PersistenceId::new(other).expect("not blank");
            prop_assert_eq!(&decode_key(&key(&one)).expect("was encoded"), &one);
            prop_assert_eq!(key(&one).cmp(&key(&other)), one.cmp(&other));
        }
    }
}
