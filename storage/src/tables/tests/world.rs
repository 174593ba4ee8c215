//! A shard's tables next to a model of them: the same entries go to both, and everything that can be read must be equal.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_machine::{
    AtomicWrite, Batch, Command, Criteria, DeleteTo, Event, Head, MemoryStore, Payload, PersistenceId, Position, Reply, SaveId,
    SaveNumber, SaveSnapshot, SequenceNumber, ShardId, SnapshotChunk, SnapshotData, StoredEvent, Timestamp, View, Write,
    WriterId,
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::blocking::{Blocking, Job};
use crate::engine::Engine;
use crate::entry::EntryId;
use crate::fjall_engine::{FjallEngine, FjallSettings};
use crate::memory_engine::{MemoryDisk, MemoryEngine};
use crate::tables::{PositionsRead, Replay, Tables, TablesError, TablesSettings, Watermarks};

pub(crate) const SHARD: ShardId = ShardId(3);

/// Where the tables live between two lives of a node.
pub(crate) enum Place {
    Memory(MemoryDisk),
    Fjall(tempfile::TempDir),
}

impl Place {
    pub(crate) fn memory() -> Self {
        Self::Memory(MemoryDisk::new())
    }

    pub(crate) fn fjall() -> Self {
        Self::Fjall(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        match self {
            Self::Memory(disk) => Arc::new(MemoryEngine::open(disk.clone())),
            Self::Fjall(dir) => Arc::new(FjallEngine::open(dir.path(), FjallSettings::default()).expect("opens")),
        }
    }
}

/// Runs jobs inline, and lets others go first around each, now more and now less.
#[derive(Default)]
pub(crate) struct YieldingBlocking(AtomicUsize);

#[async_trait]
impl Blocking for YieldingBlocking {
    async fn run_boxed(&self, job: Job) {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        for _ in 0..number % 3 {
            tokio::task::yield_now().await;
        }
        job();
        for _ in 0..number % 7 {
            tokio::task::yield_now().await;
        }
    }
}

/// One entry as it was applied first.
pub(crate) struct Applied {
    pub(crate) entry: EntryId,
    pub(crate) batch: Batch,
    pub(crate) replies: Vec<Reply>,
    pub(crate) chain: u128,
}

pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) settings: TablesSettings,
    pub(crate) durable: watch::Sender<Option<u64>>,
    engine: Option<Arc<dyn Engine>>,
    tables: Option<Tables>,
    pub(crate) model: MemoryStore,
    pub(crate) log: Vec<Applied>,
}

/// Settings under which everything happens soon.
pub(crate) fn small(memtable_bytes_max: usize) -> TablesSettings {
    // Tests say themselves when they flush.
    let flush_removals_after = Duration::from_secs(3600);
    TablesSettings {
        memtable_bytes_max,
        cached_heads_max: 2,
        reclaim_rows_max: 3,
        flush_removals_after,
        ..TablesSettings::default()
    }
}

impl World {
    pub(crate) async fn new(place: Place, settings: TablesSettings) -> Self {
        let durable = watch::Sender::new(None);
        let (model, log) = (MemoryStore::new(), Vec::new());
        let mut world = Self { place, settings, durable, engine: None, tables: None, model, log };
        world.start().await;
        world
    }

    pub(crate) fn tables(&self) -> &Tables {
        self.tables.as_ref().expect("the world is started")
    }

    pub(crate) fn applied_index(&self) -> u64 {
        self.log.last().map_or(0, |applied| applied.entry.index)
    }

    async fn start(&mut self) {
        let engine = self.place.engine();
        self.tables = Some(open(&engine, &self.settings, Some(self.durable.subscribe())).await.expect("opens"));
        self.engine = Some(engine);
    }

    /// Ends the node, losing what was only in memory, and starts it again; the log is applied from where the tables are.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
        self.catch_up().await;
    }

    pub(crate) async fn stop(&mut self) {
        self.tables = None;
        let engine = self.engine.take().expect("the world is started");
        // The flusher lets its handle go when it next looks.
        while Arc::strong_count(&engine) > 1 {
            tokio::task::yield_now().await;
        }
    }

    /// Applies the log's entries that the tables do not have.
    pub(crate) async fn catch_up(&self) {
        let from = self.tables().applied().map_or(0, |entry| entry.index);
        for applied in self.log.iter().filter(|applied| applied.entry.index > from) {
            let replies = self.tables().apply(applied.entry, Some(&applied.batch), None).await.expect("applies");
            assert_eq!(replies, applied.replies, "entry {} answers as it did first", applied.entry);
            assert_eq!(self.tables().state_hash(), (Some(applied.entry), applied.chain));
        }
    }

    /// Applies commands as one entry, to the tables and to the model.
    pub(crate) async fn apply(&mut self, commands: Vec<Command>) -> Vec<Reply> {
        let index = self.applied_index() + 1;
        let entry = EntryId { term: 1, leader: 1, index };
        // As it comes from the log: everything is a slice of the entry.
        let moment = Timestamp(i64::try_from(index).expect("small") * 1_000_000);
        let batch = Batch::decode(&Batch { moment, commands }.encode()).expect("was encoded");
        let expected = self.model.apply(&batch);
        let replies = self.tables().apply(entry, Some(&batch), None).await.expect("applies");
        assert_eq!(replies, expected);
        let chain = self.model.shard().chain;
        assert_eq!(self.tables().state_hash(), (Some(entry), chain));
        self.log.push(Applied { entry, batch, replies: expected, chain });
        self.durable.send_replace(Some(index));
        replies_of(self)
    }

    pub(crate) async fn write(&mut self, name: &str, events: &[Event]) -> Vec<Reply> {
        self.apply(vec![write(name, events)]).await
    }

    /// Appends `count` plain events in atomic writes of one.
    pub(crate) async fn append(&mut self, name: &str, count: u64) {
        let highest = self.model.highest(&id(name)).0;
        for number in highest + 1..=highest + count {
            self.write(name, &[event(number, &[])]).await;
        }
    }

    pub(crate) async fn flush(&self) {
        let flushed = self.tables().flush().await.expect("flushes");
        assert_eq!(flushed.map_or(0, |entry| entry.index), self.applied_index());
    }

    /// Waits until the space of what was permanently deleted is given back.
    pub(crate) async fn reclaimed(&self) {
        let done = async {
            while self.tables().statistics().await.journals_to_reclaim > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), done).await.expect("removed in time");
    }

    /// Compares everything that can be read.
    pub(crate) async fn check(&self) {
        check(self.tables(), &self.model).await;
        assert_eq!(self.tables().statistics().await.unplanned_reads, 0);
    }
}

fn replies_of(world: &World) -> Vec<Reply> {
    world.log.last().map(|applied| applied.replies.clone()).unwrap_or_default()
}

pub(crate) async fn open(
    engine: &Arc<dyn Engine>,
    settings: &TablesSettings,
    durable: Option<watch::Receiver<Option<u64>>>,
) -> Result<Tables, TablesError> {
    let blocking: Arc<dyn Blocking> = Arc::new(YieldingBlocking::default());
    Tables::open(Arc::clone(engine), SHARD, blocking, durable, settings.clone()).await
}

/// Compares every row that is read with a model, each once.
pub(crate) async fn check_once(tables: &Tables, model: &MemoryStore) {
    for journal in model.journals("", None, usize::MAX) {
        let persistence_id = &journal.persistence_id;
        assert_eq!(tables.head(persistence_id).await.expect("reads"), Some(journal.head.clone()));
        let replay = Replay { include_deleted: true, ..replay_from(1) };
        let expected = model.replay_with_deleted(persistence_id, SequenceNumber(1), SequenceNumber::MAX, usize::MAX);
        assert_eq!(replay_all(tables, persistence_id, replay).await, expected.expect("decodes"));
        check_snapshots(tables, model, persistence_id).await;
    }
    let read = PositionsRead { from: Position(1), events_max: 1000, bytes_max: usize::MAX, include_deleted: true };
    let all = model.events_from_position(Position(1), usize::MAX).expect("decodes");
    assert_eq!(positions_all(tables, None, read).await, all);
    let red: Vec<_> = all.into_iter().filter(|(_, event)| event.event.tags.iter().any(|tag| tag == "red")).collect();
    assert_eq!(positions_all(tables, Some("red"), read).await, red);
}

/// Compares everything that can be read of tables with a model.
pub(crate) async fn check(tables: &Tables, model: &MemoryStore) {
    let journals = model.journals("", None, usize::MAX);
    check_journals(
        tables,
        &journals.iter().map(|journal| (journal.persistence_id.clone(), journal.head.clone())).collect::<Vec<_>>(),
    )
    .await;
    for journal in &journals {
        let persistence_id = &journal.persistence_id;
        assert_eq!(tables.head(persistence_id).await.expect("reads"), Some(journal.head.clone()));
        check_replay(tables, model, persistence_id).await;
        check_snapshots(tables, model, persistence_id).await;
    }
    check_positions(tables, model).await;
}

async fn check_journals(tables: &Tables, expected: &[(PersistenceId, Head)]) {
    for limit in [1, 2, 100] {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = tables.list_journals("", after.as_ref(), limit).await.expect("lists");
            assert!(page.journals.len() <= limit);
            found.extend(page.journals.into_iter().map(|journal| (journal.persistence_id, journal.head)));
            after = found.last().map(|(persistence_id, _): &(PersistenceId, Head)| persistence_id.clone());
            if !page.has_more {
                break;
            }
        }
        assert_eq!(found, expected);
    }
}

pub(crate) async fn replay_all(tables: &Tables, persistence_id: &PersistenceId, replay: Replay) -> Vec<StoredEvent> {
    let mut replay = replay;
    let mut found = Vec::new();
    loop {
        let page = tables.read_events(persistence_id, replay).await.expect("reads");
        assert!(page.events.len() <= replay.events_max);
        found.extend(page.events);
        let Some(next) = page.next else { return found };
        assert!(next > replay.from || found.is_empty(), "a page moves on");
        replay = Replay { from: next, captured: Some(page.watermarks), ..replay };
    }
}

async fn check_replay(tables: &Tables, model: &MemoryStore, persistence_id: &PersistenceId) {
    let highest = model.highest(persistence_id);
    for include_deleted in [false, true] {
        for (from, to) in
            [(1, u64::MAX >> 1), (highest.0 / 2, highest.0), (2, highest.0.saturating_sub(1)), (highest.0, highest.0 + 9)]
        {
            for (events_max, bytes_max) in [(1, usize::MAX), (3, usize::MAX), (1000, 1), (1000, usize::MAX)] {
                let (from, to) = (SequenceNumber(from), SequenceNumber(to));
                let replay = Replay { from, to, events_max, bytes_max, include_deleted, captured: None };
                let expected = match include_deleted {
                    true => model.replay_with_deleted(persistence_id, from, to, usize::MAX),
                    false => model.replay(persistence_id, from, to, usize::MAX),
                };
                let found = replay_all(tables, persistence_id, replay).await;
                assert_eq!(found, expected.expect("decodes"), "{persistence_id:?} {replay:?}");
            }
        }
    }
}

async fn check_positions(tables: &Tables, model: &MemoryStore) {
    let all = model.events_from_position(Position(1), usize::MAX).expect("decodes");
    let newest = Position(model.shard().next_position.0 - 1);
    assert_eq!(*tables.newest_position().borrow(), newest);
    let mut tags: Vec<String> = all.iter().flat_map(|(_, event)| event.event.tags.clone()).collect();
    tags.sort();
    tags.dedup();
    for include_deleted in [false, true] {
        let shown: Vec<_> = all.iter().filter(|(_, event)| include_deleted || !event.deleted).cloned().collect();
        for from in [Position(0), Position(newest.0 / 2), newest, Position(newest.0 + 1)] {
            for events_max in [1, 7, 1000] {
                let read = PositionsRead { from, events_max, bytes_max: usize::MAX, include_deleted };
                let expected: Vec<_> = shown.iter().filter(|(_, event)| event.position >= from).cloned().collect();
                assert_eq!(positions_all(tables, None, read).await, expected, "{read:?}");
                for tag in &tags {
                    let tagged = expected.iter().filter(|(_, event)| event.event.tags.contains(tag)).cloned();
                    assert_eq!(positions_all(tables, Some(tag), read).await, tagged.collect::<Vec<_>>(), "{tag} {read:?}");
                }
            }
        }
    }
}

async fn positions_all(tables: &Tables, tag: Option<&str>, read: PositionsRead) -> Vec<(PersistenceId, StoredEvent)> {
    let mut read = read;
    let mut found = Vec::new();
    loop {
        let page = match tag {
            Some(tag) => tables.read_tag(tag, read).await.expect("reads"),
            None => tables.read_positions(read).await.expect("reads"),
        };
        assert!(page.events.len() <= read.events_max);
        found.extend(page.events.into_iter().map(|found| (found.persistence_id, found.event)));
        if page.is_at_end {
            return found;
        }
        assert!(page.next > read.from, "a page moves on");
        read.from = page.next;
    }
}

async fn check_snapshots(tables: &Tables, model: &MemoryStore, persistence_id: &PersistenceId) {
    let expected: Vec<_> = model.snapshots_of(persistence_id).cloned().collect();
    for limit in [1, 100] {
        let mut found = Vec::new();
        let mut from = SequenceNumber(0);
        loop {
            let page = tables.list_snapshots(persistence_id, Criteria::LATEST, from, limit).await.expect("lists");
            found.extend(page.snapshots);
            let Some(next) = page.next else { break };
            from = next;
        }
        assert_eq!(found, expected);
    }
    let middle = expected.get(expected.len() / 2).map_or(SequenceNumber(0), |snapshot| snapshot.sequence_number);
    for criteria in [
        Criteria::LATEST,
        Criteria { sequence_number_max: middle, ..Criteria::LATEST },
        Criteria { timestamp_max: 3000, ..Criteria::LATEST },
    ] {
        let found = tables.latest_snapshot(persistence_id, criteria).await.expect("reads");
        assert_eq!(found.as_ref(), model.latest_snapshot(persistence_id, &criteria));
    }
    for snapshot in &expected {
        let mut bytes = Vec::new();
        for index in 0..snapshot.chunks {
            bytes.extend_from_slice(&tables.read_snapshot_chunk(snapshot, index).await.expect("reads"));
        }
        assert_eq!(Some(Bytes::from(bytes)), model.snapshot_bytes(snapshot));
    }
}

/// A shard with something of everything.
pub(crate) async fn furnished(place: Place, settings: TablesSettings) -> World {
    let mut world = World::new(place, settings).await;
    for number in 1..=40 {
        world.write("a", &[event(number, &["red", "green"])]).await;
        world.write("b", &[event(2 * number, &[]), event(2 * number + 1, &["blue"])]).await;
        if number % 10 == 0 {
            let inline = SnapshotData::Inline(Bytes::from(vec![1; 100]));
            world.apply(vec![save("a", number, u128::from(number), number / 10, inline)]).await;
        }
    }
    let chunk = |index, save_id| {
        let (persistence_id, bytes) = (id("b"), Bytes::from(vec![2; 1000]));
        Command::SnapshotChunk(SnapshotChunk { persistence_id, save_id: SaveId(Uuid::from_u128(save_id)), index, bytes })
    };
    world.apply(vec![chunk(0, 77), chunk(1, 77), chunk(0, 78)]).await;
    let uploaded = SnapshotData::Uploaded { chunks: 2, bytes_total: 2000 };
    world.apply(vec![save("b", 5, 77, 0, uploaded), delete("a", 10, true), delete("b", 30, false)]).await;
    world
}

pub(crate) fn id(name: &str) -> PersistenceId {
    PersistenceId::new(name.to_owned()).expect("a name")
}

pub(crate) fn writer(name: &str) -> WriterId {
    WriterId::new(name.to_owned()).expect("a name")
}

pub(crate) fn event(number: u64, tags: &[&str]) -> Event {
    let payload = Payload { serializer_id: 7, manifest: "m".to_owned(), bytes: Bytes::from(format!("event {number}")) };
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    Event { sequence_number: SequenceNumber(number), payload, tags, ..Event::default() }
}

pub(crate) fn write(name: &str, events: &[Event]) -> Command {
    Command::Write(Write {
        persistence_id: id(name),
        writer: writer("w"),
        epoch: None,
        after: None,
        atomic_writes: vec![AtomicWrite::new(events).expect("valid")],
    })
}

pub(crate) fn delete(name: &str, to: u64, permanent: bool) -> Command {
    Command::DeleteTo(DeleteTo {
        persistence_id: id(name),
        to: SequenceNumber(to),
        permanent,
        writer: WriterId::default(),
        epoch: None,
    })
}

pub(crate) fn save(name: &str, number: u64, save: u128, saves_read: u64, data: SnapshotData) -> Command {
    Command::SaveSnapshot(SaveSnapshot {
        persistence_id: id(name),
        sequence_number: SequenceNumber(number),
        timestamp: None,
        save_id: SaveId(Uuid::from_u128(save)),
        saves_read: SaveNumber(saves_read),
        payload: Payload { serializer_id: 1, manifest: "s".to_owned(), bytes: Bytes::new() },
        data,
        metadata: None,
        writer: WriterId::default(),
        epoch: None,
    })
}

pub(crate) fn replay_from(from: u64) -> Replay {
    Replay {
        from: SequenceNumber(from),
        to: SequenceNumber::MAX,
        events_max: 1000,
        bytes_max: usize::MAX,
        include_deleted: false,
        captured: None::<Watermarks>,
    }
}
