//! What the tables cost: apply and flush, replay, new journals, permanent deletion, checkpoints.
//!
//! `cargo run --release -p cairn-storage --example tables_cost -- <dir> [events]`; the directory must not be there yet.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_machine::{
    AtomicWrite, Batch, Command, DeleteTo, Event, Payload, PersistenceId, Position, SequenceNumber, ShardId, Timestamp, Write,
    WriterId,
};
use cairn_storage::blocking::ThreadBlocking;
use cairn_storage::tables::{PositionsRead, Replay};
use cairn_storage::{CheckpointCursor, EntryId, FjallEngine, FjallSettings, Tables, TablesSettings};
use tokio::time::{Instant, sleep};

const JOURNALS: u64 = 1024;
const WRITES_PER_ENTRY: u64 = 256;
const PAYLOAD_BYTES: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("the directory is missing")?;
    let events = arguments.next().map_or(Ok(1_000_000), |events| events.parse())?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(Path::new(&dir), events))
}

struct Shard {
    tables: Tables,
    index: u64,
}

impl Shard {
    async fn open(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let engine = Arc::new(FjallEngine::open(dir, FjallSettings::default())?);
        let blocking = Arc::new(ThreadBlocking::start("tables", 2)?);
        let tables = Tables::open(engine, ShardId(0), blocking, None, TablesSettings::default()).await?;
        let index = tables.applied().map_or(0, |entry| entry.index);
        Ok(Self { tables, index })
    }

    async fn apply(&mut self, commands: Vec<Command>) -> Result<(), Box<dyn Error>> {
        self.index += 1;
        let batch = Batch::decode(&Batch { moment: Timestamp(1), commands }.encode())?;
        let entry = EntryId { term: 1, leader: 1, index: self.index };
        self.tables.apply(entry, Some(&batch), None).await?;
        Ok(())
    }
}

fn journal(number: u64) -> PersistenceId {
    PersistenceId::new(format!("Account|{number:012}")).expect("a name")
}

fn write(name: PersistenceId, number: u64) -> Command {
    // Not compressible, as most users' bytes are not.
    let mut state = number ^ 0x9e37_79b9_7f4a_7c15;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let bytes: Bytes = bytes.take(PAYLOAD_BYTES).collect();
    let payload = Payload { serializer_id: 7, manifest: "Deposited".to_owned(), bytes };
    let event = Event { sequence_number: SequenceNumber(number), payload, ..Event::default() };
    Command::Write(Write {
        persistence_id: name,
        writer: WriterId::new("0a7b5c1e-9f57-4a9f-8a53-4f4f4c0a2b11").expect("a name"),
        epoch: None,
        after: Some(SequenceNumber(number - 1)),
        atomic_writes: vec![AtomicWrite::new(&[event]).expect("valid")],
    })
}

/// Processor time of the whole process, all threads.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("has fields").split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

fn report(what: &str, events: u64, elapsed: Duration, cpu: Option<Duration>) {
    let rate = events as f64 / elapsed.as_secs_f64();
    let cpu = cpu.map_or(String::new(), |cpu| format!(", {:.2} us of CPU each", cpu.as_secs_f64() * 1e6 / events as f64));
    println!("{what}: {events} in {:.2} s, {rate:.0}/s{cpu}", elapsed.as_secs_f64());
}

async fn run(dir: &Path, events: u64) -> Result<(), Box<dyn Error>> {
    let mut shard = Shard::open(dir).await?;
    append(&mut shard, events).await?;
    println!("on disk: {} bytes an event", shard.tables.statistics().await.disk_bytes / events);
    replay(&shard, events).await?;
    positions(&shard).await?;
    checkpoint(&shard, events).await?;
    new_journals(&mut shard, 100_000).await?;
    remove(&mut shard, events).await?;
    println!("{:?}", shard.tables.statistics().await);
    Ok(())
}

async fn append(shard: &mut Shard, events: u64) -> Result<(), Box<dyn Error>> {
    // Made before the clock starts: the same entries come from the log.
    let batches: Vec<Bytes> = (0..events / WRITES_PER_ENTRY)
        .map(|entry| {
            let commands = (0..WRITES_PER_ENTRY).map(|at| {
                let event = entry * WRITES_PER_ENTRY + at;
                write(journal(event % JOURNALS), event / JOURNALS + 1)
            });
            Batch { moment: Timestamp(1), commands: commands.collect() }.encode()
        })
        .collect();
    let (began, cpu) = (Instant::now(), processor_time());
    let mut applying = Duration::ZERO;
    let mut worst = Duration::ZERO;
    for bytes in batches {
        let before = Instant::now();
        let batch = Batch::decode(&bytes)?;
        shard.index += 1;
        let entry = EntryId { term: 1, leader: 1, index: shard.index };
        shard.tables.apply(entry, Some(&batch), None).await?;
        applying += before.elapsed();
        worst = worst.max(before.elapsed());
        // What else runs on this runtime gets its turn.
        tokio::task::yield_now().await;
    }
    report("decode and apply, waits included", events, applying, None);
    println!("longest apply of {WRITES_PER_ENTRY} writes: {worst:?}");
    shard.tables.flush().await?;
    report("apply and flush", events, began.elapsed(), Some(processor_time() - cpu));
    Ok(())
}

async fn replay(shard: &Shard, events: u64) -> Result<(), Box<dyn Error>> {
    for (what, journals) in [("replay of one journal after the other", JOURNALS), ("again, warm", JOURNALS)] {
        let began = Instant::now();
        let mut found = 0;
        for number in 0..journals {
            let mut replay = Replay {
                from: SequenceNumber(1),
                to: SequenceNumber::MAX,
                events_max: 1000,
                bytes_max: 1 << 20,
                include_deleted: false,
                captured: None,
            };
            loop {
                let page = shard.tables.read_events(&journal(number), replay).await?;
                found += page.events.len() as u64;
                let Some(next) = page.next else { break };
                replay = Replay { from: next, captured: Some(page.watermarks), ..replay };
            }
        }
        report(what, found, began.elapsed(), None);
        assert_eq!(found, events / WRITES_PER_ENTRY * WRITES_PER_ENTRY);
    }
    Ok(())
}

async fn positions(shard: &Shard) -> Result<(), Box<dyn Error>> {
    let (began, cpu) = (Instant::now(), processor_time());
    let mut read = PositionsRead { from: Position(1), events_max: 1000, bytes_max: 1 << 20, include_deleted: false };
    let mut found = 0;
    loop {
        let page = shard.tables.read_positions(read).await?;
        found += page.events.len() as u64;
        if page.is_at_end || found >= 200_000 {
            break;
        }
        read.from = page.next;
    }
    report("events by position, over all journals", found, began.elapsed(), Some(processor_time() - cpu));
    Ok(())
}

async fn checkpoint(shard: &Shard, events: u64) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let checkpoint = shard.tables.checkpoint().await?;
    let mut cursor = Some(CheckpointCursor::default());
    let mut bytes = 0;
    while let Some(here) = cursor {
        let (frame, next) = checkpoint.read(here).await?;
        bytes += frame.len();
        cursor = next;
    }
    report(&format!("checkpoint of {bytes} bytes"), events, began.elapsed(), None);
    Ok(())
}

async fn new_journals(shard: &mut Shard, journals: u64) -> Result<(), Box<dyn Error>> {
    let (began, cpu) = (Instant::now(), processor_time());
    for entry in 0..journals / WRITES_PER_ENTRY {
        let names = (0..WRITES_PER_ENTRY).map(|at| journal(1_000_000 + entry * WRITES_PER_ENTRY + at));
        shard.apply(names.map(|name| write(name, 1)).collect()).await?;
    }
    shard.tables.flush().await?;
    report("first events of new journals", journals, began.elapsed(), Some(processor_time() - cpu));
    Ok(())
}

async fn remove(shard: &mut Shard, events: u64) -> Result<(), Box<dyn Error>> {
    let full = shard.tables.statistics().await.disk_bytes;
    let began = Instant::now();
    let delete = |number| {
        Command::DeleteTo(DeleteTo {
            persistence_id: journal(number),
            to: SequenceNumber::MAX,
            permanent: true,
            writer: WriterId::default(),
            epoch: None,
        })
    };
    shard.apply((0..JOURNALS).map(delete).collect()).await?;
    shard.tables.flush().await?;
    report("permanent deletion", events, began.elapsed(), None);
    let limit = Duration::from_secs(60);
    while shard.tables.statistics().await.disk_bytes * 4 > full && began.elapsed() < limit {
        sleep(Duration::from_millis(20)).await;
    }
    let left = shard.tables.statistics().await.disk_bytes;
    println!("{full} bytes on disk became {left} within {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
