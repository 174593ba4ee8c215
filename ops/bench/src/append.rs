//! Writers that append and wait.

use bytes::Bytes;
use cairn_client::{Cairn, Error, JournalWriter, NewEvent};
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Run;
use crate::measure::{Measured, Meter, finish, measure};

/// Journals claimed at the same time.
const CLAIMS_IN_FLIGHT: usize = 128;

/// Measures closed-loop writers.
pub(crate) async fn measure_append(
    run: &Run<'_>,
    prefix: &str,
    writers: usize,
    payload_bytes: usize,
    batch: usize,
) -> Result<Measured, Error> {
    let writers = claim(run.cairn, prefix, writers).await?;
    let meter = Meter::start(run.warm_up, run.duration);
    let payload = payload(payload_bytes);
    let load = async {
        let mut tasks = JoinSet::new();
        for writer in writers {
            tasks.spawn(write(writer, payload.clone(), batch, meter.clone()));
        }
        finish(tasks).await
    };
    measure(run, &meter, load).await
}

async fn write(mut writer: JournalWriter, payload: Bytes, batch: usize, meter: Meter) -> Result<(), Error> {
    while !meter.is_over() {
        let begun = Instant::now();
        if batch == 1 {
            writer.append(event(&payload)).await?;
        } else {
            writer.append_all((0..batch).map(|_| event(&payload))).await?;
        }
        meter.done(begun, batch as u64);
    }
    Ok(())
}

/// Claims so many new journals.
pub(crate) async fn claim(cairn: &Cairn, prefix: &str, journals: usize) -> Result<Vec<JournalWriter>, Error> {
    futures::stream::iter(0..journals)
        .map(|ordinal| async move { cairn.journal(journal_name(prefix, ordinal))?.claim().await })
        .buffer_unordered(CLAIMS_IN_FLIGHT)
        .try_collect()
        .await
}

/// The name of a point's journal.
pub(crate) fn journal_name(prefix: &str, ordinal: usize) -> String {
    format!("{prefix}-{ordinal}")
}

/// An event of this payload.
pub(crate) fn event(payload: &Bytes) -> NewEvent {
    NewEvent::from(payload.clone())
}

/// Bytes that do not compress to nothing: a storage engine must not look better than it is.
#[must_use]
pub fn payload(bytes: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let random = std::iter::repeat_with(|| {
        // xorshift64: reproducible, and all that is needed here.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    random.flatten().take(bytes).collect()
}
