//! Export: stored events into lines.
//!
//! Invariant: the lines of one atomic write follow one another, in either order, so that an export can be imported.

use std::io::Write;

use cairn_machine::{PersistenceId, ShardId, StoredEvent};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use crate::lines::Line;
use crate::source::{Range, Source};

/// Replays opened ahead of the one that is written; each holds no more than its window of flow control.
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
pub async fn export(
    source: &Source,
    prefix: &str,
    order: Order,
    out: &mut impl Write,
    progress: impl Fn(u64),
) -> anyhow::Result<u64> {
    let mut writer = LineWriter { out, buffer: Vec::with_capacity(BUFFER_BYTES), count: 0, progress };
    match order {
        Order::Id => by_id(source, prefix, &mut writer).await?,
        Order::Position => by_position(source, prefix, &mut writer).await?,
    }
    writer.finish()
}

async fn by_id<W: Write, P: Fn(u64)>(source: &Source, prefix: &str, writer: &mut LineWriter<'_, W, P>) -> anyhow::Result<()> {
    type Opened = (PersistenceId, BoxStream<'static, anyhow::Result<StoredEvent>>);
    let open = |persistence_id: PersistenceId| async move {
        let events = source.replay(&persistence_id, Range::ALL).await?;
        Ok::<Opened, anyhow::Error>((persistence_id, events))
    };
    let mut journals = source.journals(prefix).map_ok(open).try_buffered(REPLAYS_AHEAD);
    while let Some((persistence_id, mut events)) = journals.try_next().await? {
        while let Some(event) = events.try_next().await? {
            writer.write(&Line::of(&persistence_id, event))?;
        }
    }
    Ok(())
}

async fn by_position<W: Write, P: Fn(u64)>(
    source: &Source,
    prefix: &str,
    writer: &mut LineWriter<'_, W, P>,
) -> anyhow::Result<()> {
    for shard in 0..source.shards().await? {
        let mut events = source.shard(ShardId(shard)).await?;
        while let Some((persistence_id, event)) = events.next().await.transpose()? {
            if persistence_id.as_str().starts_with(prefix) {
                writer.write(&Line::of(&persistence_id, event))?;
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
    fn write(&mut self, line: &Line) -> anyhow::Result<()> {
        line.render(&mut self.buffer);
        self.count += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        (self.progress)(self.count);
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<u64> {
        self.flush()?;
        self.out.flush()?;
        Ok(self.count)
    }
}
