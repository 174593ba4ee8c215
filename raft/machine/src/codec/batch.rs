//! Batches and the commands in them.
//!
//! A batch: the rules' version (2 bytes), the leader's time (8 bytes), the number of commands, then each command as its kind
//! (1 byte), its length (4 bytes) and its fields. Fixed numbers are little endian.

use bytes::Bytes;

use super::DecodeError;
use super::record::{payload, put_payload};
use super::wire::{Length, Reader, Sink, bytes_field, option, signed, varint};
use crate::batch::{Batch, RULES_VERSION};
use crate::command::{
    Claim, Command, Criteria, DeleteSnapshot, DeleteSnapshots, DeleteTo, SaveSnapshot, SnapshotChunk, SnapshotData, Write,
};
use crate::event::AtomicWrite;
use crate::ids::{SaveId, SaveNumber, SequenceNumber, Timestamp, WriterEpoch, WriterId};

// Persisted: never reuse a number.
const WRITE: u8 = 1;
const CLAIM: u8 = 2;
const DELETE_TO: u8 = 3;
const SNAPSHOT_CHUNK: u8 = 4;
const SAVE_SNAPSHOT: u8 = 5;
const DELETE_SNAPSHOT: u8 = 6;
const DELETE_SNAPSHOTS: u8 = 7;

const INLINE: u8 = 0;
const UPLOADED: u8 = 1;

/// Version, time and the longest number of commands.
const HEADER_BYTES_MAX: usize = 2 + 8 + 10;
/// Kind and length.
const COMMAND_HEADER_BYTES: usize = 1 + 4;

pub(crate) fn encode_batch(header: &[u8], batch: &Batch) -> Bytes {
    let length: usize = batch.commands.iter().map(command_len).sum();
    let mut bytes = Vec::with_capacity(header.len() + HEADER_BYTES_MAX + length);
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&RULES_VERSION.to_le_bytes());
    bytes.extend_from_slice(&batch.moment.0.to_le_bytes());
    varint(&mut bytes, batch.commands.len() as u64);
    for command in &batch.commands {
        bytes.push(kind(command));
        let at = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        put_command(&mut bytes, command);
        let fields = u32::try_from(bytes.len() - at - 4).expect("admission bounds a command far below 4 GiB");
        bytes[at..at + 4].copy_from_slice(&fields.to_le_bytes());
    }
    Bytes::from(bytes)
}

/// How many bytes a command takes in a batch.
pub(crate) fn command_len(command: &Command) -> usize {
    let mut length = Length(COMMAND_HEADER_BYTES);
    put_command(&mut length, command);
    length.0
}

pub(crate) fn decode_batch(bytes: &Bytes) -> Result<Batch, DecodeError> {
    let mut reader = Reader::new(bytes, "batch");
    let found = u16::from_le_bytes(reader.fixed()?);
    if found == 0 || found > RULES_VERSION {
        return Err(DecodeError::UnknownRules { found, known: RULES_VERSION });
    }
    let moment = Timestamp(i64::from_le_bytes(reader.fixed()?));
    let count = reader.count()?;
    // A command takes at least its header: a wrong count allocates nothing that the input does not justify.
    let mut commands = Vec::with_capacity(count.min(reader.remaining() / COMMAND_HEADER_BYTES));
    for _ in 0..count {
        let kind = reader.byte()?;
        let length = u32::from_le_bytes(reader.fixed()?) as usize;
        let end = reader.position().checked_add(length).ok_or_else(|| reader.malformed())?;
        commands.push(command(&mut reader, kind)?);
        if reader.position() != end {
            return Err(reader.malformed());
        }
    }
    reader.end()?;
    Ok(Batch { moment, commands })
}

fn kind(command: &Command) -> u8 {
    match command {
        Command::Write(_) => WRITE,
        Command::Claim(_) => CLAIM,
        Command::DeleteTo(_) => DELETE_TO,
        Command::SnapshotChunk(_) => SNAPSHOT_CHUNK,
        Command::SaveSnapshot(_) => SAVE_SNAPSHOT,
        Command::DeleteSnapshot(_) => DELETE_SNAPSHOT,
        Command::DeleteSnapshots(_) => DELETE_SNAPSHOTS,
    }
}

fn put_command(sink: &mut impl Sink, command: &Command) {
    match command {
        Command::Write(write) => put_write(sink, write),
        Command::Claim(claim) => {
            bytes_field(sink, claim.persistence_id.as_bytes());
            bytes_field(sink, claim.writer.as_bytes());
            varint(sink, claim.epoch_read.0);
        }
        Command::DeleteTo(delete) => {
            bytes_field(sink, delete.persistence_id.as_bytes());
            put_writer(sink, &delete.writer, delete.epoch);
            varint(sink, delete.to.0);
            sink.put_byte(u8::from(delete.permanent));
        }
        Command::SnapshotChunk(chunk) => {
            bytes_field(sink, chunk.persistence_id.as_bytes());
            sink.put(chunk.save_id.0.as_bytes());
            varint(sink, u64::from(chunk.index));
            bytes_field(sink, &chunk.bytes);
        }
        Command::SaveSnapshot(save) => put_save(sink, save),
        Command::DeleteSnapshot(delete) => {
            bytes_field(sink, delete.persistence_id.as_bytes());
            put_writer(sink, &delete.writer, delete.epoch);
            varint(sink, delete.sequence_number.0);
            option(sink, delete.timestamp, signed);
            option(sink, delete.saves_read, |sink, number| varint(sink, number.0));
        }
        Command::DeleteSnapshots(delete) => {
            bytes_field(sink, delete.persistence_id.as_bytes());
            put_writer(sink, &delete.writer, delete.epoch);
            varint(sink, delete.criteria.sequence_number_min.0);
            varint(sink, delete.criteria.sequence_number_max.0);
            signed(sink, delete.criteria.timestamp_min);
            signed(sink, delete.criteria.timestamp_max);
            option(sink, delete.saves_read, |sink, number| varint(sink, number.0));
        }
    }
}

fn command(reader: &mut Reader<'_>, kind: u8) -> Result<Command, DecodeError> {
    Ok(match kind {
        WRITE => Command::Write(write(reader)?),
        CLAIM => Command::Claim(Claim {
            persistence_id: reader.persistence_id()?,
            writer: reader.writer()?,
            epoch_read: WriterEpoch(reader.varint()?),
        }),
        DELETE_TO => {
            let persistence_id = reader.persistence_id()?;
            let (writer, epoch) = writer(reader)?;
            let to = reader.sequence_number()?;
            let permanent = match reader.byte()? {
                0 => false,
                1 => true,
                _ => return Err(reader.malformed()),
            };
            Command::DeleteTo(DeleteTo { persistence_id, to, permanent, writer, epoch })
        }
        SNAPSHOT_CHUNK => Command::SnapshotChunk(SnapshotChunk {
            persistence_id: reader.persistence_id()?,
            save_id: save_id(reader)?,
            index: reader.varint_u32()?,
            bytes: reader.bytes()?,
        }),
        SAVE_SNAPSHOT => Command::SaveSnapshot(save(reader)?),
        DELETE_SNAPSHOT => {
            let persistence_id = reader.persistence_id()?;
            let (writer, epoch) = writer(reader)?;
            Command::DeleteSnapshot(DeleteSnapshot {
                persistence_id,
                sequence_number: reader.sequence_number()?,
                timestamp: reader.option(Reader::signed)?,
                saves_read: reader.option(save_number)?,
                writer,
                epoch,
            })
        }
        DELETE_SNAPSHOTS => {
            let persistence_id = reader.persistence_id()?;
            let (writer, epoch) = writer(reader)?;
            let criteria = Criteria {
                sequence_number_min: reader.sequence_number()?,
                sequence_number_max: reader.sequence_number()?,
                timestamp_min: reader.signed()?,
                timestamp_max: reader.signed()?,
            };
            let saves_read = reader.option(save_number)?;
            Command::DeleteSnapshots(DeleteSnapshots { persistence_id, criteria, saves_read, writer, epoch })
        }
        _ => return Err(reader.malformed()),
    })
}

fn put_write(sink: &mut impl Sink, write: &Write) {
    bytes_field(sink, write.persistence_id.as_bytes());
    put_writer(sink, &write.writer, write.epoch);
    option(sink, write.after, |sink, number| varint(sink, number.0));
    varint(sink, write.atomic_writes.len() as u64);
    for atomic_write in &write.atomic_writes {
        varint(sink, atomic_write.first.0);
        varint(sink, atomic_write.last.0 - atomic_write.first.0);
        varint(sink, u64::from(atomic_write.count));
        bytes_field(sink, &atomic_write.body);
    }
}

fn write(reader: &mut Reader<'_>) -> Result<Write, DecodeError> {
    let persistence_id = reader.persistence_id()?;
    let (writer, epoch) = writer(reader)?;
    let after = reader.option(Reader::sequence_number)?;
    let count = reader.count()?;
    let mut atomic_writes = Vec::with_capacity(count.min(reader.remaining() / ATOMIC_WRITE_BYTES_MIN));
    for _ in 0..count {
        atomic_writes.push(atomic_write(reader)?);
    }
    Ok(Write { persistence_id, writer, epoch, after, atomic_writes })
}

/// First, last, count, the body's length and a byte of it.
const ATOMIC_WRITE_BYTES_MIN: usize = 5;

fn atomic_write(reader: &mut Reader<'_>) -> Result<AtomicWrite, DecodeError> {
    let first = reader.sequence_number()?;
    let last = span(reader, first)?;
    let count = reader.varint_u32()?;
    let body = reader.bytes()?;
    let atomic_write = AtomicWrite { first, last, count, body };
    if atomic_write.holds_together() { Ok(atomic_write) } else { Err(reader.malformed()) }
}

/// A last number, kept as its distance from the first.
pub(super) fn span(reader: &mut Reader<'_>, first: SequenceNumber) -> Result<SequenceNumber, DecodeError> {
    let distance = reader.varint()?;
    match first.0.checked_add(distance).map(SequenceNumber) {
        Some(last) if last <= SequenceNumber::MAX => Ok(last),
        _ => Err(reader.malformed()),
    }
}

fn put_save(sink: &mut impl Sink, save: &SaveSnapshot) {
    bytes_field(sink, save.persistence_id.as_bytes());
    put_writer(sink, &save.writer, save.epoch);
    varint(sink, save.sequence_number.0);
    option(sink, save.timestamp, signed);
    sink.put(save.save_id.0.as_bytes());
    varint(sink, save.saves_read.0);
    put_payload(sink, &save.payload);
    option(sink, save.metadata.as_ref(), put_payload);
    match &save.data {
        SnapshotData::Inline(bytes) => {
            sink.put_byte(INLINE);
            bytes_field(sink, bytes);
        }
        SnapshotData::Uploaded { chunks, bytes_total } => {
            sink.put_byte(UPLOADED);
            varint(sink, u64::from(*chunks));
            varint(sink, *bytes_total);
        }
    }
}

fn save(reader: &mut Reader<'_>) -> Result<SaveSnapshot, DecodeError> {
    let persistence_id = reader.persistence_id()?;
    let (writer, epoch) = writer(reader)?;
    Ok(SaveSnapshot {
        persistence_id,
        sequence_number: reader.sequence_number()?,
        timestamp: reader.option(Reader::signed)?,
        save_id: save_id(reader)?,
        saves_read: save_number(reader)?,
        payload: payload(reader)?,
        metadata: reader.option(payload)?,
        data: match reader.byte()? {
            INLINE => SnapshotData::Inline(reader.bytes()?),
            UPLOADED => SnapshotData::Uploaded { chunks: reader.varint_u32()?, bytes_total: reader.varint()? },
            _ => return Err(reader.malformed()),
        },
        writer,
        epoch,
    })
}

fn put_writer(sink: &mut impl Sink, writer: &WriterId, epoch: Option<WriterEpoch>) {
    bytes_field(sink, writer.as_bytes());
    option(sink, epoch, |sink, epoch| varint(sink, epoch.0));
}

fn writer(reader: &mut Reader<'_>) -> Result<(WriterId, Option<WriterEpoch>), DecodeError> {
    Ok((reader.writer()?, reader.option(|reader| reader.varint().map(WriterEpoch))?))
}

fn save_number(reader: &mut Reader<'_>) -> Result<SaveNumber, DecodeError> {
    reader.varint().map(SaveNumber)
}

pub(super) fn save_id(reader: &mut Reader<'_>) -> Result<SaveId, DecodeError> {
    Ok(SaveId(uuid::Uuid::from_bytes(reader.fixed()?)))
}
