//! Looking into a segment without opening the log: what stands in its bytes, frame by frame.
//!
//! For tools, and for disks that want to know which entries and votes they hold. It reads what is there and judges nothing: whether
//! a log is whole, torn or damaged only [`super::Log::open`] says, which sees all segments.

use bytes::Bytes;
use cairn_machine::ShardId;

use super::frame::{self, Found, FrameHeader, HEADER_BYTES, NotAHeader};
use super::opening::{Opening, WrittenShard};
use super::record::{self, RecordKind, Records};
use crate::EntryId;

pub use super::frame::FrameKind;

/// The frames of one segment file, from its first on; ends at the first place where no whole frame of the same use of the file stands.
#[must_use]
pub fn frames(segment: Bytes) -> Frames {
    Frames { segment, offset: 0, of: None, end: None }
}

/// The frame that bytes begin with, wherever in its segment it stands: what one write of the log's writer carries. None if they begin
/// with no whole frame.
#[must_use]
pub fn frame(bytes: &Bytes) -> Option<Frame> {
    let header = FrameHeader::decode(&bytes[..HEADER_BYTES.min(bytes.len())]).ok()?;
    if header.frame_bytes() > bytes.len() {
        return None;
    }
    let body = bytes.slice(HEADER_BYTES..header.frame_bytes());
    if frame::body_checksum(&body) == header.body_checksum { take(header, &body).ok() } else { None }
}

/// See [`frames`]. It never panics, whatever the bytes.
#[derive(Clone, Debug)]
pub struct Frames {
    segment: Bytes,
    offset: usize,
    /// Number and generation, once the first frame is known.
    of: Option<(u32, u64)>,
    end: Option<FramesEnd>,
}

/// Why there are no more frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FramesEnd {
    /// Nothing was written behind.
    Blank,
    /// A whole header for this place, whose body is not whole.
    Torn {
        /// The batch that was to stand here.
        batch: u64,
    },
    /// What an earlier use of the file left.
    Stale,
    /// Bytes that are no header.
    Garbage,
    /// A frame of a format that is not known here.
    UnsupportedVersion(u8),
    /// A frame with a good checksum that does not hold what it should.
    Malformed(String),
}

/// One frame: a batch that was written and synced as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is for.
    pub kind: FrameKind,
    /// The number of its segment.
    pub segment: u32,
    /// Where in the segment it begins.
    pub offset: usize,
    /// Its length, header included.
    pub bytes: usize,
    /// Differs for every use of a file.
    pub generation: u64,
    /// Dense over the whole log, from 1.
    pub batch: u64,
    /// What each shard's log had come to, in an opening frame; else empty.
    pub opening: Vec<ShardOpening>,
    /// The records, in the other frames.
    pub records: Vec<Record>,
}

/// What a shard's log had come to when a segment began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardOpening {
    /// Which shard.
    pub shard: ShardId,
    /// Its vote, as consensus encoded it.
    pub vote: Option<Bytes>,
    /// The last entry known to be committed.
    pub committed: Option<EntryId>,
    /// The last entry that has left the log.
    pub purged: Option<EntryId>,
    /// The last entry.
    pub last: Option<EntryId>,
    /// The first live index, if entries are live: they stand in this segment or in older ones.
    pub first: Option<u64>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub shard: ShardId,
    /// What it says.
    pub content: Content,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An entry is appended to its shard's log.
    Entry {
        /// Which.
        id: EntryId,
        /// Its bytes, as consensus encoded them.
        payload: Bytes,
    },
    /// An entry that stands in an older segment too, written again so that that one can go.
    Copied {
        /// Which.
        id: EntryId,
        /// Its bytes.
        payload: Bytes,
    },
    /// Everything behind an entry leaves the log; none: everything.
    Truncated {
        /// The last that stays.
        last_kept: Option<EntryId>,
    },
    /// Everything up to an entry leaves the log.
    Purged {
        /// The last that leaves.
        up_to: EntryId,
    },
    /// The shard's vote is now this.
    Vote {
        /// As consensus encoded it.
        bytes: Bytes,
    },
    /// Entries up to this one are known to be committed.
    Committed {
        /// The last.
        id: EntryId,
    },
}

impl Frames {
    /// Why there are no more; none while there may be.
    #[must_use]
    pub fn end(&self) -> Option<&FramesEnd> {
        self.end.as_ref()
    }

    /// Where the next frame is looked for; at the end, where the frames end.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn look(&self) -> Result<Frame, FramesEnd> {
        let (number, generation) = match self.of {
            Some((number, generation)) => (number, Some(generation)),
            None => (first_number(&self.segment)?, None),
        };
        match frame::look(&self.segment, number, generation, self.offset) {
            Found::Frame(header, body) => take(header, &body).map_err(FramesEnd::Malformed),
            Found::Torn(header) => Err(FramesEnd::Torn { batch: header.batch }),
            Found::Stale => Err(FramesEnd::Stale),
            Found::Nothing(not) => Err(not.into()),
        }
    }
}

impl Iterator for Frames {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        if self.end.is_some() {
            return None;
        }
        match self.look() {
            Ok(frame) => {
                self.offset += frame.bytes;
                self.of = Some((frame.segment, frame.generation));
                Some(frame)
            }
            Err(end) => {
                self.end = Some(end);
                None
            }
        }
    }
}

impl From<NotAHeader> for FramesEnd {
    fn from(not: NotAHeader) -> Self {
        match not {
            NotAHeader::Blank => Self::Blank,
            NotAHeader::Garbage => Self::Garbage,
            NotAHeader::Version(version) => Self::UnsupportedVersion(version),
        }
    }
}

/// Which segment the bytes say they are.
fn first_number(segment: &[u8]) -> Result<u32, FramesEnd> {
    Ok(FrameHeader::decode(&segment[..HEADER_BYTES.min(segment.len())])?.segment)
}

fn take(header: FrameHeader, body: &Bytes) -> Result<Frame, String> {
    let (mut opening, mut records) = (Vec::new(), Vec::new());
    if header.kind == FrameKind::Opening {
        let decoded = Opening::decode(body.clone()).ok_or("the opening is malformed")?;
        opening.extend(decoded.shards.into_iter().map(ShardOpening::from));
    } else {
        for record in Records::of(body, header.records) {
            let (_, record) = record?;
            records.push(Record::of(record).ok_or("a record without its entry's id")?);
        }
    }
    Ok(Frame {
        kind: header.kind,
        segment: header.segment,
        offset: header.offset as usize,
        bytes: header.frame_bytes(),
        generation: header.generation,
        batch: header.batch,
        opening,
        records,
    })
}

impl From<(ShardId, WrittenShard)> for ShardOpening {
    fn from((shard, written): (ShardId, WrittenShard)) -> Self {
        let WrittenShard { vote, committed, purged, last, first } = written;
        Self { shard, vote, committed, purged, last, first }
    }
}

impl Record {
    fn of(record: record::Record) -> Option<Self> {
        let record::Record { kind, shard, id, payload } = record;
        let content = match kind {
            RecordKind::Entry => Content::Entry { id: id?, payload },
            RecordKind::Copied => Content::Copied { id: id?, payload },
            RecordKind::Truncate => Content::Truncated { last_kept: id },
            RecordKind::Purge => Content::Purged { up_to: id? },
            RecordKind::Vote => Content::Vote { bytes: payload },
            RecordKind::Committed => Content::Committed { id: id? },
        };
        Some(Self { shard, content })
    }
}
