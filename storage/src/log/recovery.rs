//! Opening a log: reading every segment in order, telling a torn tail from damage.
//!
//! Invariants
//! - Nothing on disk changes before every check has passed.
//! - What is told to be in the log is durable when `open` returns: a process that was killed may have left bytes that only the
//!   page cache holds; and after a sync that failed it may hold them as clean, so that no sync would ever write them. Only the last
//!   batch can be such, as the ones before it were synced: it is written again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cairn_machine::ShardId;

use super::error::LogError;
use super::frame::{FRAME_ALIGNMENT, Found, FrameHeader, FrameKind, HEADER_BYTES, NotAHeader, VERSION};
use super::frame::{look, may_be_header, next_generation};
use super::last::{LAST_NAME, LastFile, Reached};
use super::opening::{Opening, WrittenShard};
use super::preparer::{PREPARING_ENDING, open_segment, segment_number, segment_path};
use super::rebuild::Rebuild;
use super::settings::{LogSettings, SEGMENT_ALIGNMENT, SEGMENT_BYTES_MAX};
use super::shared::{Segment, SegmentFiles, ShardState, Spare, State};
use super::writer::{CurrentSegment, Position};
use crate::fs::{Fs, OpenMode, make_dir};

/// What opening found, for the caller to log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// What a crash left behind the end and was cut.
    pub torn_tail: Option<TornTail>,
    /// How many segments were read.
    pub segments: usize,
    /// The last batch in the log; 0: none.
    pub last_batch: u64,
    /// Whether the log was closed, so that no batch can have been torn.
    pub closed: bool,
}

/// A batch that was being written when the node stopped. It was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment's file.
    pub segment: PathBuf,
    /// Where in it the log ends now.
    pub offset: u64,
    /// How many bytes were cut, up to the last that was not zero.
    pub bytes_cut: u64,
    /// The number that the batch had.
    pub batch: u64,
}

/// A log, read and ready to go on.
pub(super) struct Recovered {
    pub state: State,
    pub position: Position,
    pub written: BTreeMap<ShardId, WrittenShard>,
    pub last: LastFile,
    pub report: RecoveryReport,
}

/// See [`super::Log::create`].
pub(super) async fn create(fs: &dyn Fs, dir: &Path) -> Result<(), LogError> {
    make_dir(fs, dir).await.map_err(|error| LogError::io("make folder", dir, error))?;
    let (numbers, _) = segment_names(fs, dir).await?;
    let last_path = dir.join(LAST_NAME);
    match (exists(fs, &last_path).await?, numbers.is_empty()) {
        (false, true) => LastFile::create(fs, dir).await,
        (true, true) => Ok(()),
        (false, false) => Err(damaged(last_path, 0, None, None, "the file is missing".to_owned())),
        (true, false) => {
            let cause = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "one that was written to is there");
            Err(LogError::io("make a log in", dir, cause))
        }
    }
}

/// Opens the log in `dir`.
pub(super) async fn recover(fs: &Arc<dyn Fs>, dir: &Path, settings: &LogSettings) -> Result<Recovered, LogError> {
    if let Some(problem) = settings.problem() {
        return Err(unusable(dir, problem));
    }
    let last_path = dir.join(LAST_NAME);
    if !exists(&**fs, &last_path).await? {
        return Err(damaged(last_path, 0, None, None, "the file is missing".to_owned()));
    }
    let (numbers, unfinished) = segment_names(&**fs, dir).await?;
    let (last, reached) = LastFile::open(&**fs, dir).await?;
    let mut scan =
        Scan { fs, dir, settings, rebuild: Rebuild::default(), segments: BTreeMap::new(), end: None, next_batch: None };
    scan.read_segments(&numbers).await?;
    scan.check(&reached)?;
    if scan.rebuild.shards.len() > usize::from(settings.shards_max) {
        let problem = format!("the log has {} shards, shards_max is {}", scan.rebuild.shards.len(), settings.shards_max);
        return Err(unusable(dir, problem));
    }
    let recovered = scan.finish(last).await?;
    for path in unfinished {
        fs.remove(&path).await.map_err(|error| LogError::io("remove", &path, error))?;
    }
    Ok(recovered)
}

fn unusable(dir: &Path, problem: String) -> LogError {
    LogError::io("open the log in", dir, std::io::Error::new(std::io::ErrorKind::InvalidInput, problem))
}

async fn exists(fs: &dyn Fs, path: &Path) -> Result<bool, LogError> {
    fs.exists(path).await.map_err(|error| LogError::io("look for", path, error))
}

/// The numbers of the segments, which must have no gap, and the files that were not whole yet.
async fn segment_names(fs: &dyn Fs, dir: &Path) -> Result<(Vec<u32>, Vec<PathBuf>), LogError> {
    let names = fs.list(dir).await.map_err(|error| LogError::io("list", dir, error))?;
    let mut numbers = Vec::new();
    let mut unfinished = Vec::new();
    for name in names {
        if name.ends_with(PREPARING_ENDING) {
            unfinished.push(dir.join(name));
        } else {
            numbers.extend(segment_number(&name));
        }
    }
    for pair in numbers.windows(2) {
        if pair[0] + 1 != pair[1] {
            return Err(damaged(segment_path(dir, pair[0] + 1), 0, None, None, "the segment is missing".to_owned()));
        }
    }
    Ok((numbers, unfinished))
}

struct Scan<'a> {
    fs: &'a Arc<dyn Fs>,
    dir: &'a Path,
    settings: &'a LogSettings,
    rebuild: Rebuild,
    segments: BTreeMap<u32, Arc<SegmentFiles>>,
    /// The segment that was read last, and where its frames end.
    end: Option<End>,
    /// The batch that comes next, once the first is known.
    next_batch: Option<u64>,
}

struct End {
    number: u32,
    bytes: Bytes,
    /// Where the last frame begins.
    last_frame: usize,
    /// Where it ends.
    offset: usize,
    generation: u64,
    last_checksum: u64,
    recycled: bool,
    closed: bool,
    /// A whole header of the next batch stands at the end, without its body.
    torn: bool,
}

impl Scan<'_> {
    /// Reads the segments up to the log's end, and makes sure that nothing of the log is behind it.
    async fn read_segments(&mut self, numbers: &[u32]) -> Result<(), LogError> {
        for (at, number) in numbers.iter().enumerate() {
            let bytes = self.read_segment(*number).await?;
            match self.begin_segment(*number, bytes.clone())? {
                true => self.read_frames()?,
                false => return self.check_behind(&numbers[at..]).await,
            }
        }
        Ok(())
    }

    async fn read_segment(&mut self, number: u32) -> Result<Bytes, LogError> {
        let path = segment_path(self.dir, number);
        let opened = self.fs.open(&path, OpenMode::Read).await;
        let file = opened.map_err(|error| LogError::io("open", &path, error))?;
        let len = file.len().await.map_err(|error| LogError::io("measure", &path, error))?;
        let whole = u32::try_from(len).ok().filter(|len| (1..=SEGMENT_BYTES_MAX).contains(len) && len % SEGMENT_ALIGNMENT == 0);
        let Some(whole) = whole else {
            return Err(damaged(path, len, self.next_batch, None, format!("{len} bytes are no segment's length")));
        };
        let read = file.read_at(0, whole as usize).await;
        let bytes = read.map_err(|error| LogError::io("read", &path, error))?;
        let files = open_segment(self.fs, path, whole, self.settings).await?;
        self.segments.insert(number, Arc::new(files));
        Ok(bytes)
    }

    /// Reads a segment's opening frame. `false`: the segment has none, so the log ends before it.
    fn begin_segment(&mut self, number: u32, bytes: Bytes) -> Result<bool, LogError> {
        let generation = self.expected_generation(number);
        let (header, body) = match look(&bytes, number, generation, 0) {
            Found::Frame(header, body) => (header, body),
            Found::Nothing(NotAHeader::Version(found)) => return Err(self.unsupported(number, found)),
            Found::Torn(_) | Found::Nothing(_) | Found::Stale => {
                if self.end.is_none() && number > 1 {
                    let what = "the oldest segment has no opening".to_owned();
                    return Err(damaged(segment_path(self.dir, number), 0, None, None, what));
                }
                return Ok(false);
            }
        };
        let at_opening = |what: String| damaged(segment_path(self.dir, number), 0, self.next_batch, Some(header.batch), what);
        if header.kind != FrameKind::Opening {
            return Err(at_opening("the segment does not begin with an opening".to_owned()));
        }
        if self.end.as_ref().is_some_and(|end| end.torn) {
            return Err(self.bad_frame_with_later(header.batch));
        }
        if self.next_batch.is_some_and(|next| next != header.batch) {
            return Err(at_opening("the segment does not follow the one before".to_owned()));
        }
        let opening = Opening::decode(body).ok_or_else(|| at_opening("the opening is malformed".to_owned()))?;
        if opening.segment_bytes as usize != bytes.len() {
            let what = format!("the file has {} bytes, but was made with {}", bytes.len(), opening.segment_bytes);
            return Err(at_opening(what));
        }
        if self.next_batch.is_some() {
            self.rebuild.check_opening(&opening).map_err(at_opening)?;
        }
        let recycled = opening.recycled;
        if self.next_batch.is_none() {
            self.rebuild.begin(opening);
        }
        self.next_batch = Some(header.batch + 1);
        self.end = Some(End {
            number,
            bytes,
            last_frame: 0,
            offset: header.frame_bytes(),
            generation: header.generation,
            last_checksum: header.body_checksum,
            recycled,
            closed: true,
            torn: false,
        });
        Ok(true)
    }

    /// Each segment's generation follows from the one before; the oldest may have any.
    fn expected_generation(&self, number: u32) -> Option<u64> {
        self.end.as_ref().map(|end| next_generation(end.generation, end.last_checksum, number))
    }

    /// Reads a segment's frames up to the first place where the next batch is not.
    fn read_frames(&mut self) -> Result<(), LogError> {
        let end = self.end.as_mut().expect("the segment has been opened");
        let path = segment_path(self.dir, end.number);
        loop {
            let next_batch = self.next_batch.expect("an opening came before");
            let (header, body) = match look(&end.bytes, end.number, Some(end.generation), end.offset) {
                Found::Frame(header, body) => (header, body),
                Found::Nothing(NotAHeader::Version(found)) => {
                    return Err(LogError::UnsupportedVersion { file: path, found, supported: VERSION });
                }
                Found::Torn(header) if header.batch != next_batch => {
                    let what = "another batch stands where this one belongs".to_owned();
                    return Err(damaged(path, end.offset as u64, Some(next_batch), Some(header.batch), what));
                }
                Found::Torn(_) => {
                    end.torn = true;
                    return Ok(());
                }
                Found::Nothing(_) | Found::Stale => return Ok(()),
            };
            let damage = |what| damaged(path.clone(), end.offset as u64, Some(next_batch), Some(header.batch), what);
            if header.batch != next_batch || header.kind == FrameKind::Opening {
                return Err(damage("another batch stands where this one belongs".to_owned()));
            }
            let applied = self.rebuild.apply_body(end.number, end.offset + HEADER_BYTES, &body, header.records);
            applied.map_err(damage)?;
            end.last_frame = end.offset;
            end.offset += header.frame_bytes();
            end.last_checksum = header.body_checksum;
            end.closed = header.kind == FrameKind::Closing;
            self.next_batch = Some(next_batch + 1);
        }
    }

    /// The log ends before the first of these segments: it must be one that was made ready and never begun.
    async fn check_behind(&mut self, numbers: &[u32]) -> Result<(), LogError> {
        for number in numbers {
            let bytes = self.read_segment(*number).await?;
            let torn_opening = match look(&bytes, *number, None, 0) {
                Found::Torn(header) => header.batch == self.next_batch.unwrap_or(1),
                _ => false,
            };
            let start = if torn_opening { FRAME_ALIGNMENT } else { 0 };
            if let Some(found) = find_header(&bytes, *number, None, start) {
                return Err(self.bad_frame_with_later(found.batch));
            }
        }
        match numbers {
            [_] => Ok(()),
            [_, second, ..] => {
                // It is made only after the one before it has been opened durably.
                let what = "a segment follows one that was never begun".to_owned();
                Err(damaged(segment_path(self.dir, *second), 0, self.next_batch, None, what))
            }
            [] => Ok(()),
        }
    }

    /// The checks that need the whole log.
    fn check(&self, reached: &Reached) -> Result<(), LogError> {
        let last_batch = self.next_batch.map_or(0, |next| next - 1);
        if let Some(end) = &self.end
            && let Some(found) = find_header(&end.bytes, end.number, Some(end.generation), end.offset + FRAME_ALIGNMENT)
        {
            return Err(self.bad_frame_with_later(found.batch));
        }
        if last_batch < reached.batch {
            let what = format!("the log ends at batch {last_batch}, but came to {} before", reached.batch);
            return Err(self.damaged_at_end(Some(reached.batch), what));
        }
        self.rebuild.check_complete().map_err(|what| self.damaged_at_end(None, what))?;
        for (shard, committed) in &reached.committed {
            let reaches = self.rebuild.check_reaches(*shard, Some(*committed));
            reaches.map_err(|what| self.damaged_at_end(None, what))?;
        }
        Ok(())
    }

    /// Everything is as it should be: cuts the torn tail, makes the rest durable, and puts together how to go on.
    async fn finish(mut self, last: LastFile) -> Result<Recovered, LogError> {
        let mut torn_tail = None;
        let mut spare = None;
        let current = self.end.as_ref().map_or(0, |end| end.number);
        if let Some(files) = self.segments.remove(&(current + 1)) {
            (spare, torn_tail) = self.adopt_spare(current + 1, files).await?;
        }
        if let Some(end) = &self.end {
            let found = FrameHeader::decode(&end.bytes[end.offset..(end.offset + HEADER_BYTES).min(end.bytes.len())]);
            // Behind the end of a recycled segment is what its earlier use left; zeros stand between.
            let clean = found == Err(NotAHeader::Blank) && end.recycled;
            if !clean && let Some(cut) = self.cut(&self.segments[&end.number], &end.bytes, end.offset).await? {
                torn_tail = Some(cut);
            }
            self.write_last_frame_again(end).await?;
        }
        self.fs.sync_dir(self.dir).await.map_err(|error| LogError::io("sync", self.dir, error))?;

        let report = RecoveryReport {
            torn_tail,
            segments: self.segments.len(),
            last_batch: self.next_batch.map_or(0, |next| next - 1),
            closed: self.end.as_ref().is_none_or(|end| end.closed),
        };
        let position = self.position();
        let written = self.rebuild.shards.iter().map(|(shard, rebuilt)| (*shard, rebuilt.written.clone())).collect();
        let shards = self
            .rebuild
            .shards
            .into_iter()
            .map(|(shard, rebuilt)| (shard, ShardState::new(rebuilt.index, rebuilt.written.vote, rebuilt.written.committed)));
        let segments = self.segments.into_iter().map(|(number, files)| (number, Segment { files, free_at: None }));
        let mut state = State::new(shards.collect(), segments.collect(), current);
        if let Some(spare) = spare {
            state.newest = spare.number;
            state.spare = Some(spare);
        }
        state.free_segments();
        Ok(Recovered { state, position, written, last, report })
    }

    fn position(&self) -> Position {
        let segment = self.end.as_ref().map(|end| CurrentSegment {
            number: end.number,
            files: self.segments[&end.number].clone(),
            offset: u32::try_from(end.offset).expect("segments are far below 4 GiB"),
            generation: end.generation,
            last_checksum: end.last_checksum,
        });
        let closed = self.end.as_ref().is_none_or(|end| end.closed);
        Position { segment, next_batch: self.next_batch.unwrap_or(1), closed }
    }

    /// The segment behind the end holds no frame of this log: it is the spare, or an opening that was torn.
    async fn adopt_spare(&self, number: u32, files: Arc<SegmentFiles>) -> Result<(Option<Spare>, Option<TornTail>), LogError> {
        let read = files.reading.read_at(0, files.bytes as usize).await;
        let bytes = read.map_err(|error| LogError::io("read", &files.path, error))?;
        let stale = matches!(look(&bytes, number, None, 0), Found::Stale);
        let torn = if stale { None } else { self.cut(&files, &bytes, 0).await? };
        if files.bytes != self.settings.segment_bytes {
            self.fs.remove(&files.path).await.map_err(|error| LogError::io("remove", &files.path, error))?;
            return Ok((None, torn));
        }
        self.sync(&files).await?;
        Ok((Some(Spare { number, files, recycled: stale }), torn))
    }

    /// Zeroes everything from `offset` on that is not zero.
    async fn cut(&self, files: &SegmentFiles, bytes: &Bytes, offset: usize) -> Result<Option<TornTail>, LogError> {
        let Some(last) = last_nonzero(&bytes[offset..]) else { return Ok(None) };
        let cut = files.writing.write_at(offset as u64, Bytes::from(vec![0; last + 1])).await;
        cut.map_err(|error| LogError::io("cut", &files.path, error))?;
        self.sync(files).await?;
        Ok(Some(TornTail {
            segment: files.path.clone(),
            offset: offset as u64,
            bytes_cut: last as u64 + 1,
            batch: self.next_batch.unwrap_or(1),
        }))
    }

    /// The last frame, and the zeros behind it, as the writer wrote them.
    async fn write_last_frame_again(&self, end: &End) -> Result<(), LogError> {
        let files = &self.segments[&end.number];
        let mut frame = end.bytes[end.last_frame..end.offset].to_vec();
        frame.resize((frame.len() + HEADER_BYTES).min(end.bytes.len() - end.last_frame), 0);
        let written = files.writing.write_at(end.last_frame as u64, Bytes::from(frame)).await;
        written.map_err(|error| LogError::io("write", &files.path, error))?;
        self.sync(files).await
    }

    async fn sync(&self, files: &SegmentFiles) -> Result<(), LogError> {
        files.writing.sync_data().await.map_err(|error| LogError::io("sync", &files.path, error))
    }

    fn unsupported(&self, number: u32, found: u8) -> LogError {
        LogError::UnsupportedVersion { file: segment_path(self.dir, number), found, supported: VERSION }
    }

    fn bad_frame_with_later(&self, found: u64) -> LogError {
        let mut error = self.damaged_at_end(self.next_batch.or(Some(1)), "the frame is bad, and a later one exists".to_owned());
        if let LogError::Damaged { found_batch, .. } = &mut error {
            *found_batch = Some(found);
        }
        error
    }

    fn damaged_at_end(&self, expected_batch: Option<u64>, what: String) -> LogError {
        let (number, offset) = self.end.as_ref().map_or((1, 0), |end| (end.number, end.offset));
        damaged(segment_path(self.dir, number), offset as u64, expected_batch, None, what)
    }
}

/// Looks from `offset` on for any header that was written for the place where it stands. That its body is whole does not
/// matter: it was written, so the batches before it had been synced.
fn find_header(bytes: &[u8], number: u32, generation: Option<u64>, offset: usize) -> Option<FrameHeader> {
    let starts = (offset..bytes.len().saturating_sub(HEADER_BYTES - 1)).step_by(FRAME_ALIGNMENT);
    starts
        .filter(|start| may_be_header(&bytes[*start..]))
        .filter_map(|start| Some((start, FrameHeader::decode(&bytes[start..start + HEADER_BYTES]).ok()?)))
        .filter(|(start, header)| header.stands_at(number, *start))
        .map(|(_, header)| header)
        .find(|header| generation.is_none_or(|generation| generation == header.generation))
}

/// Where the last byte is that is not zero; most of a segment often is, so whole pages are compared first.
fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; SEGMENT_ALIGNMENT as usize] = [0; SEGMENT_ALIGNMENT as usize];
    let mut end = bytes.len();
    while end > 0 {
        let start = end.saturating_sub(ZEROS.len());
        if bytes[start..end] != ZEROS[..end - start] {
            return bytes[start..end].iter().rposition(|byte| *byte != 0).map(|at| start + at);
        }
        end = start;
    }
    None
}

fn damaged(file: PathBuf, offset: u64, expected_batch: Option<u64>, found_batch: Option<u64>, what: String) -> LogError {
    LogError::Damaged { file, offset, expected_batch, found_batch, what }
}
