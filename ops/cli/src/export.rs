//! Export: stored events into lines.
//!
//! Invariant: the lines of one atomic write follow one another, in either order, so that an export can be imported.

use std::io::Write;

use anyhow::Result;
use cairn_client::Error;
use cairn_machine::{PersistenceId, ShardId};
use futures::TryStreamExt;

use crate::lines::Line;
use crate::source::{Range, Source};

/// Replays opened ahead of the one that is written; each holds one message.
const REPLAYS_AHEAD: usize = 8;
/// Lines are handed on when this many bytes are there.
const BUFFER_BYTES: usize = 256 * 1024;

/// In which order events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// By persistence id (bytewise), then by sequence number.
    #[default]
    Id,
    /// Shard by shard, in commit order.
    Position,
}

/// Writes the events of all journals with a prefix; returns how many.
///
/// # Errors
/// Why they cannot be read, or written.
pub async fn export(source: &Source, prefix: &str, order: Order, out: &mut impl Write, progress: impl Fn(u64)) -> Result<u64> {
    let mut writer = LineWriter { out, buffer: Vec::with_capacity(BUFFER_BYTES), count: 0, progress };
    match order {
        Order::Id => by_id(source, prefix, &mut writer).await?,
        Order::Position => by_position(source, prefix, &mut writer).await?,
    }
    writer.finish()
}

async fn by_id<W: Write, P: Fn(u64)>(source: &Source, prefix: &str, writer: &mut LineWriter<'_, W, P>) -> Result<()> {
    let journals = futures::stream::try_unfold(source.journals(prefix), |mut journals| async move {
        Ok(journals.next().await?.map(|journal| (journal.persistence_id, journals)))
    });
    let begin = |persistence_id: PersistenceId| async move {
        let mut events = source.replay(&persistence_id, Range::ALL);
        // The first message of it is fetched here, before its turn comes.
        let first = events.next().await?;
        Ok::<_, Error>((persistence_id, first, events))
    };
    let mut begun = std::pin::pin!(journals.map_ok(begin).try_buffered(REPLAYS_AHEAD));
    while let Some((persistence_id, mut next, mut events)) = begun.try_next().await? {
        while let Some(event) = next {
            writer.write(&Line::of(&persistence_id, event))?;
            next = events.next().await?;
        }
    }
    Ok(())
}

async fn by_position<W: Write, P: Fn(u64)>(source: &Source, prefix: &str, writer: &mut LineWriter<'_, W, P>) -> Result<()> {
    for shard in 0..source.shards().await? {
        let mut events = source.shard(ShardId(shard));
        while let Some(event) = events.next().await? {
            if event.persistence_id.as_str().starts_with(prefix) {
                writer.write(&Line::of(&event.persistence_id, event.stored))?;
            }
        }
    }
    Ok(())
}

struct LineWriter<'a, W, P> {
    out: &'a mut W,
    buffer: Vec<u8>,
    count: u64,
    progress: P,
}

impl<W: Write, P: Fn(u64)> LineWriter<'_, W, P> {
    fn write(&mut self, line: &Line) -> Result<()> {
        line.render(&mut self.buffer);
        self.count += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        (self.progress)(self.count);
        Ok(())
    }

    fn finish(mut self) -> Result<u64> {
        self.flush()?;
        self.out.flush()?;
        Ok(self.count)
    }
}
