//! The frame: one batch, one write, one sync.
//!
//! Checksums are 64-bit xxh3: a restart looks for headers at every eighth byte of what may be somebody's payload, where 32 bits
//! would meet by chance; and it costs less than the copy of the same bytes.
//!
//! A header says where it stands (segment, offset) and for which use of the file it was written (generation), so that neither
//! what a recycled file held before nor a payload that looks like a frame is ever taken for one.

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The format's version; each file carries it. Persisted.
pub(super) const VERSION: u8 = 1;
/// Frames begin at multiples of this.
pub(super) const FRAME_ALIGNMENT: usize = 8;
/// The length of a frame's header. As many zeros follow the last frame where there is room.
pub(super) const HEADER_BYTES: usize = 64;

/// Persisted.
const MAGIC: [u8; 4] = *b"CRNL";

/// What a frame is for. Persisted: never reuse a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// The first frame of a segment: the state of every shard.
    Opening = 1,
    /// A batch of records.
    Data = 2,
    /// Written when nothing waits: proves that the batch before it was synced.
    Closing = 3,
}

/// A frame's header, without the constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub kind: FrameKind,
    /// The segment's number.
    pub segment: u32,
    /// Where in the segment the header begins.
    pub offset: u32,
    /// The segment's generation: differs for every use of a file.
    pub generation: u64,
    /// Dense over the whole log, from 1.
    pub batch: u64,
    /// A multiple of the alignment.
    pub body_bytes: u32,
    pub records: u32,
    pub body_checksum: u64,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAHeader {
    /// All zeros: nothing was ever written here.
    Blank,
    /// Something else.
    Garbage,
    /// A header of another version.
    Version(u8),
}

impl FrameHeader {
    /// Header and body.
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }

    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.kind as u8;
        bytes[8..12].copy_from_slice(&self.segment.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.batch.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.records.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.body_checksum.to_le_bytes());
        let checksum = xxh3_64(&bytes[..56]);
        bytes[56..64].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, NotAHeader> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(if bytes.iter().all(|byte| *byte == 0) { NotAHeader::Blank } else { NotAHeader::Garbage });
        };
        if bytes[0..4] != MAGIC || u64_at(bytes, 56) != xxh3_64(&bytes[..56]) {
            return Err(if bytes.iter().all(|byte| *byte == 0) { NotAHeader::Blank } else { NotAHeader::Garbage });
        }
        if bytes[4] != VERSION {
            return Err(NotAHeader::Version(bytes[4]));
        }
        let kind = match bytes[5] {
            1 => FrameKind::Opening,
            2 => FrameKind::Data,
            3 => FrameKind::Closing,
            _ => return Err(NotAHeader::Garbage),
        };
        Ok(Self {
            kind,
            segment: u32_at(bytes, 8),
            offset: u32_at(bytes, 12),
            generation: u64_at(bytes, 16),
            batch: u64_at(bytes, 24),
            body_bytes: u32_at(bytes, 32),
            records: u32_at(bytes, 36),
            body_checksum: u64_at(bytes, 40),
        })
    }

    /// Whether this header was written for the place where it was found.
    pub fn stands_at(&self, segment: u32, offset: usize) -> bool {
        self.segment == segment && self.offset as usize == offset
    }
}

/// What stands where a frame is looked for.
pub(super) enum Found {
    Frame(FrameHeader, Bytes),
    /// A header that was written for this place, whose body is not whole.
    Torn(FrameHeader),
    Nothing(NotAHeader),
    /// A frame of an earlier use of the file.
    Stale,
}

/// What stands at `offset` of a segment; `generation` if it is known.
pub(super) fn look(bytes: &Bytes, number: u32, generation: Option<u64>, offset: usize) -> Found {
    let header = match FrameHeader::decode(&bytes[offset..(offset + HEADER_BYTES).min(bytes.len())]) {
        Ok(header) => header,
        Err(not) => return Found::Nothing(not),
    };
    if !header.stands_at(number, offset) || generation.is_some_and(|generation| generation != header.generation) {
        return Found::Stale;
    }
    let end = offset + header.frame_bytes();
    if end > bytes.len() || !(header.body_bytes as usize).is_multiple_of(FRAME_ALIGNMENT) {
        return Found::Torn(header);
    }
    let body = bytes.slice(offset + HEADER_BYTES..end);
    if body_checksum(&body) == header.body_checksum { Found::Frame(header, body) } else { Found::Torn(header) }
}

/// Whether the magic begins `bytes`: a cheap first look.
pub(super) fn may_be_header(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The checksum of a frame's body.
pub(super) fn body_checksum(body: &[u8]) -> u64 {
    xxh3_64(body)
}

/// The generation of the segment that follows: a chain over what was written, so nobody outside can foresee it and a segment
/// put back from another time does not fit.
pub(super) fn next_generation(generation: u64, last_body_checksum: u64, segment: u32) -> u64 {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&last_body_checksum.to_le_bytes());
    bytes[8..].copy_from_slice(&segment.to_le_bytes());
    xxh3_64_with_seed(&bytes, generation)
}

/// The next multiple of the alignment.
pub(super) fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(FRAME_ALIGNMENT)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
