//! Frames: the envelope of a checkpoint's records.
//!
//! magic (4) | version (1) | kind (1) | index (8) | length of the body (4) | body | checksum (8). Numbers are big-endian. The
//! checksum covers everything before it and, through its seed, all frames before this one.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const MAGIC: [u8; 4] = *b"CKPT";
const HEADER_BYTES: usize = 18;
const CHECKSUM_BYTES: usize = 8;

/// The version of the format of checkpoints. Persisted nowhere, but spoken between nodes of different versions.
pub(super) const VERSION: u8 = 1;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// Records.
    Records = 1,
    /// The number of records before it: nothing follows.
    End = 2,
}

/// How the next frame is linked to the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    index: u64,
    chain: u64,
}

impl Link {
    pub(super) fn is_first(self) -> bool {
        self.index == 0
    }

    /// Makes the next frame.
    pub(super) fn seal(&mut self, kind: FrameKind, body: &[u8]) -> Bytes {
        let mut frame = Vec::with_capacity(HEADER_BYTES + body.len() + CHECKSUM_BYTES);
        frame.extend_from_slice(&MAGIC);
        frame.push(VERSION);
        frame.push(kind as u8);
        frame.extend_from_slice(&self.index.to_be_bytes());
        let length = u32::try_from(body.len()).expect("a frame holds little more than one atomic write");
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(body);
        let checksum = xxh3_64_with_seed(&frame, self.chain);
        frame.extend_from_slice(&checksum.to_be_bytes());
        *self = Self { index: self.index + 1, chain: checksum };
        frame.into()
    }

    /// Opens the next frame; the error says what is wrong with it.
    pub(super) fn open(&mut self, frame: &Bytes) -> Result<(FrameKind, Bytes), &'static str> {
        let (content, checksum) = frame.split_last_chunk::<CHECKSUM_BYTES>().ok_or("too short")?;
        let (header, body) = content.split_first_chunk::<HEADER_BYTES>().ok_or("too short")?;
        if header[..4] != MAGIC {
            return Err("not a frame");
        }
        if header[4] != VERSION {
            return Err("of a version that this build does not know");
        }
        let kind = match header[5] {
            1 => FrameKind::Records,
            2 => FrameKind::End,
            _ => return Err("of an unknown kind"),
        };
        if header[6..14] != self.index.to_be_bytes() {
            return Err("out of order");
        }
        if header[14..18] != u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes() {
            return Err("of the wrong length");
        }
        let expected = xxh3_64_with_seed(content, self.chain);
        if *checksum != expected.to_be_bytes() {
            return Err("damaged, or of another checkpoint");
        }
        *self = Self { index: self.index + 1, chain: expected };
        Ok((kind, frame.slice(HEADER_BYTES..HEADER_BYTES + body.len())))
    }
}
