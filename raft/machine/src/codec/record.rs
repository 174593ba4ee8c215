//! The records that tables and checkpoints keep: heads, atomic writes, snapshots and the shard's state.
//!
//! Each opens with [`FORMAT_VERSION`] and ends where its last field ends, so that records can be laid one after the other.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};

use super::batch::{save_id, span};
use super::wire::{Reader, Sink, bytes_field, option, signed, varint};
use super::{DecodeError, FORMAT_VERSION};
use crate::change::{FormerWriter, Head, LastWrite, RecentSave, ShardState, SnapshotRecord, StoredWrite, Upload};
use crate::event::Payload;
use crate::ids::{JournalId, Position, SaveId, SaveNumber, Timestamp, WriterEpoch};

impl Head {
    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        varint(out, self.journal.0);
        varint(out, self.highest.0);
        varint(out, self.deleted_to.0);
        varint(out, self.removed_to.0);
        varint(out, self.epoch.0);
        bytes_field(out, self.writer.as_bytes());
        signed(out, self.timestamp.0);
        varint(out, self.saves.0);
        varint(out, u64::from(self.snapshots));
        option(out, self.last_write.as_ref(), put_last_write);
        varint(out, self.former_writers.len() as u64);
        for former in &self.former_writers {
            bytes_field(out, former.writer.as_bytes());
            varint(out, former.epoch.0);
        }
        varint(out, self.recent_saves.len() as u64);
        for save in &self.recent_saves {
            out.put(save.save_id.0.as_bytes());
            varint(out, save.number.0);
            signed(out, save.timestamp);
            out.put(&save.digest.to_le_bytes());
        }
    }

    /// Decodes a record; texts share the memory of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError::UnknownFormat`] or [`DecodeError::Malformed`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        whole(bytes, "journal head", |reader| {
            let mut head = Self {
                journal: JournalId(reader.varint()?),
                highest: reader.sequence_number()?,
                deleted_to: reader.sequence_number()?,
                removed_to: reader.sequence_number()?,
                epoch: WriterEpoch(reader.varint()?),
                writer: reader.writer()?,
                timestamp: Timestamp(reader.signed()?),
                saves: SaveNumber(reader.varint()?),
                snapshots: reader.varint_u32()?,
                last_write: reader.option(last_write)?,
                former_writers: Vec::new(),
                recent_saves: Vec::new(),
            };
            if head.removed_to > head.deleted_to || head.deleted_to > head.highest {
                return Err(reader.malformed());
            }
            for _ in 0..reader.count()? {
                let writer = reader.writer()?;
                head.former_writers.push(FormerWriter { writer, epoch: WriterEpoch(reader.varint()?) });
            }
            for _ in 0..reader.count()? {
                head.recent_saves.push(RecentSave {
                    save_id: save_id(reader)?,
                    number: SaveNumber(reader.varint()?),
                    timestamp: reader.signed()?,
                    digest: u64::from_le_bytes(reader.fixed()?),
                });
            }
            Ok(head)
        })
    }
}

impl StoredWrite {
    /// Appends the record to `out`. It knows its own end.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        varint(out, self.journal.0);
        varint(out, self.previous.0);
        varint(out, self.first.0);
        varint(out, self.last.0 - self.first.0);
        varint(out, u64::from(self.count));
        varint(out, self.position.0);
        signed(out, self.timestamp.0);
        bytes_field(out, self.writer.as_bytes());
        bytes_field(out, &self.body);
    }

    /// Decodes a record that fills `bytes`; writer and body share their memory.
    ///
    /// # Errors
    /// [`DecodeError::UnknownFormat`] or [`DecodeError::Malformed`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        whole(bytes, "stored write", Self::read)
    }

    /// Decodes the record at the front of `bytes` and moves `bytes` behind it; writer and body share their memory.
    ///
    /// # Errors
    /// [`DecodeError::UnknownFormat`] or [`DecodeError::Malformed`]; then `bytes` is as it was.
    pub fn decode_from(bytes: &mut Bytes) -> Result<Self, DecodeError> {
        let (write, length) = front(bytes, "stored write", Self::read)?;
        bytes.advance(length);
        Ok(write)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let journal = JournalId(reader.varint()?);
        let previous = reader.sequence_number()?;
        let first = reader.sequence_number()?;
        let last = span(reader, first)?;
        let write = Self {
            journal,
            previous,
            first,
            last,
            count: reader.varint_u32()?,
            position: Position(reader.varint()?),
            timestamp: Timestamp(reader.signed()?),
            writer: reader.writer()?,
            body: reader.bytes()?,
        };
        let positions_end = write.position.0.checked_add(u64::from(write.count));
        if previous >= first || positions_end.is_none() || !write.atomic_write().holds_together() {
            return Err(reader.malformed());
        }
        Ok(write)
    }
}

impl SnapshotRecord {
    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        varint(out, self.journal.0);
        varint(out, self.sequence_number.0);
        signed(out, self.timestamp);
        out.put(self.save_id.0.as_bytes());
        varint(out, self.save_number.0);
        bytes_field(out, self.writer.as_bytes());
        put_payload(out, &self.payload);
        option(out, self.metadata.as_ref(), put_payload);
        varint(out, u64::from(self.chunks));
        varint(out, self.bytes_total);
    }

    /// Decodes a record; bytes share its memory.
    ///
    /// # Errors
    /// [`DecodeError::UnknownFormat`] or [`DecodeError::Malformed`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        whole(bytes, "snapshot record", |reader| {
            Ok(Self {
                journal: JournalId(reader.varint()?),
                sequence_number: reader.sequence_number()?,
                timestamp: reader.signed()?,
                save_id: save_id(reader)?,
                save_number: SaveNumber(reader.varint()?),
                writer: reader.writer()?,
                payload: payload(reader)?,
                metadata: reader.option(payload)?,
                chunks: reader.varint_u32()?,
                bytes_total: reader.varint()?,
            })
        })
    }
}

impl Upload {
    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        put_upload(out, self);
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// [`DecodeError::UnknownFormat`] or [`DecodeError::Malformed`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        whole(bytes, "upload", upload)
    }
}

impl ShardState {
    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        varint(out, self.next_journal.0);
        varint(out, self.next_position.0);
        out.extend_from_slice(&self.chain.to_le_bytes());
        varint(out, self.uploads.len() as u64);
        for (save_id, upload) in &self.uploads {
            out.put(save_id.0.as_bytes());
            put_upload(out, upload);
        }
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// [`DecodeError::UnknownFormat`] or [`DecodeError::Malformed`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        whole(bytes, "shard state", |reader| {
            let next_journal = JournalId(reader.varint()?);
            let next_position = Position(reader.varint()?);
            let chain = u128::from_le_bytes(reader.fixed()?);
            let mut uploads = BTreeMap::new();
            let mut previous: Option<SaveId> = None;
            for _ in 0..reader.count()? {
                let save_id = save_id(reader)?;
                if previous.is_some_and(|previous| previous >= save_id) {
                    return Err(reader.malformed());
                }
                previous = Some(save_id);
                uploads.insert(save_id, upload(reader)?);
            }
            Ok(Self { next_journal, next_position, uploads, chain })
        })
    }
}

fn put_last_write(out: &mut Vec<u8>, last: &LastWrite) {
    varint(out, last.first.0);
    varint(out, last.last.0 - last.first.0);
    varint(out, last.previous.0);
    varint(out, last.position.0);
    signed(out, last.timestamp.0);
    out.extend_from_slice(&last.digest.to_le_bytes());
}

fn last_write(reader: &mut Reader<'_>) -> Result<LastWrite, DecodeError> {
    let first = reader.sequence_number()?;
    let last = span(reader, first)?;
    Ok(LastWrite {
        first,
        last,
        previous: reader.sequence_number()?,
        position: Position(reader.varint()?),
        timestamp: Timestamp(reader.signed()?),
        digest: u128::from_le_bytes(reader.fixed()?),
    })
}

fn put_upload(out: &mut Vec<u8>, upload: &Upload) {
    varint(out, upload.journal.0);
    varint(out, u64::from(upload.chunks));
    varint(out, upload.bytes_total);
    signed(out, upload.timestamp.0);
}

fn upload(reader: &mut Reader<'_>) -> Result<Upload, DecodeError> {
    Ok(Upload {
        journal: JournalId(reader.varint()?),
        chunks: reader.varint_u32()?,
        bytes_total: reader.varint()?,
        timestamp: Timestamp(reader.signed()?),
    })
}

pub(crate) fn put_payload<S: Sink>(sink: &mut S, payload: &Payload) {
    signed(sink, i64::from(payload.serializer_id));
    bytes_field(sink, payload.manifest.as_bytes());
    bytes_field(sink, &payload.bytes);
}

pub(super) fn payload(reader: &mut Reader<'_>) -> Result<Payload, DecodeError> {
    Ok(Payload { serializer_id: reader.signed_i32()?, manifest: reader.text()?, bytes: reader.bytes()? })
}

/// Reads a record that fills `bytes`.
fn whole<T>(
    bytes: &Bytes,
    what: &'static str,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let (value, length) = front(bytes, what, read)?;
    if length == bytes.len() { Ok(value) } else { Err(DecodeError::Malformed { what }) }
}

/// Reads a record at the front of `bytes`, and tells how long it is.
fn front<T>(
    bytes: &Bytes,
    what: &'static str,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<(T, usize), DecodeError> {
    let mut reader = Reader::new(bytes, what);
    let found = reader.byte()?;
    if found != FORMAT_VERSION {
        return Err(DecodeError::UnknownFormat { what, found, known: FORMAT_VERSION });
    }
    let value = read(&mut reader)?;
    Ok((value, reader.position()))
}
