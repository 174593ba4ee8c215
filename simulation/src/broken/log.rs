//! Votes taken out of what the log writes, with every checksum as it should be.
//!
//! The layout is that of the log's frames and records, as its format describes it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

const FRAME_HEADER_BYTES: usize = 64;
const RECORD_HEADER_BYTES: usize = 36;
const MAGIC: &[u8] = b"CRNL";
/// A frame that holds records.
const DATA: u8 = 2;
/// A record that holds a vote.
const VOTE: u8 = 4;

/// The first vote of each shard.
#[derive(Debug, Default)]
pub(super) struct Votes(Mutex<BTreeMap<u16, Vec<u8>>>);

impl Votes {
    /// The same frame, but each vote in it is the first that its shard ever gave.
    pub(super) fn without_new_ones(&self, bytes: Bytes) -> Bytes {
        if bytes.len() < FRAME_HEADER_BYTES || !bytes.starts_with(MAGIC) || bytes[5] != DATA {
            return bytes;
        }
        let mut frame = BytesMut::from(&bytes[..]);
        let (body_bytes, records) = (number_at(&frame, 32), number_at(&frame, 36));
        let Some(body) = frame.get_mut(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + body_bytes) else { return bytes };
        let mut rest = &mut body[..];
        for _ in 0..records {
            let length = RECORD_HEADER_BYTES + number_at(rest, 8);
            let (record, behind) = rest.split_at_mut(length);
            self.replace(record);
            rest = behind;
        }
        let body_checksum = xxh3_64(&frame[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + body_bytes]);
        frame[40..48].copy_from_slice(&body_checksum.to_le_bytes());
        let header_checksum = xxh3_64(&frame[..56]);
        frame[56..64].copy_from_slice(&header_checksum.to_le_bytes());
        frame.freeze()
    }

    fn replace(&self, record: &mut [u8]) {
        if record[4] != VOTE {
            return;
        }
        let shard = u16::from_le_bytes([record[6], record[7]]);
        let mut votes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = votes.entry(shard).or_insert_with(|| record[RECORD_HEADER_BYTES..].to_vec());
        if first.len() == record.len() - RECORD_HEADER_BYTES {
            record[RECORD_HEADER_BYTES..].copy_from_slice(first);
        }
        let checksum = crc32fast::hash(&record[4..]);
        record[..4].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn number_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
}
