//! A checkpoint that is switched in while somebody reads.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cairn_machine::Position;

use super::world::{Place, World, event, small};
use crate::engine::{Compaction, EngineError, Row, RunRow, Scan, Table, TableView};
use crate::tables::{PositionsPage, PositionsRead, read_meta};

type Act = Box<dyn FnOnce() + Send>;

/// A table that lets something happen before it is read the next time.
struct Interrupted {
    real: Arc<dyn Table>,
    act: Mutex<Option<Act>>,
}

impl Interrupted {
    fn real(&self) -> &dyn Table {
        let act = self.act.lock().expect("unpoisoned").take();
        if let Some(act) = act {
            act();
        }
        &*self.real
    }
}

impl TableView for Interrupted {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.real().get(key)
    }

    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, EngineError> {
        self.real().scan(scan)
    }

    fn scan_keys(&self, scan: Scan<'_>) -> Result<Vec<Bytes>, EngineError> {
        self.real().scan_keys(scan)
    }
}

impl Table for Interrupted {
    fn ingest(&self, run: &mut dyn Iterator<Item = RunRow>) -> Result<(), EngineError> {
        self.real.ingest(run)
    }

    fn view(&self) -> Box<dyn TableView> {
        self.real.view()
    }

    fn compact(&self) -> Result<Compaction, EngineError> {
        self.real.compact()
    }

    fn rows_estimate(&self) -> u64 {
        self.real.rows_estimate()
    }

    fn disk_bytes(&self) -> u64 {
        self.real.disk_bytes()
    }

    fn runs(&self) -> usize {
        self.real.runs()
    }
}

/// A shard of which the newest events are in memory alone.
async fn world() -> World {
    let mut world = World::new(Place::memory(), small(1_000_000)).await;
    for (name, is_flushed) in [("a", true), ("b", false)] {
        for number in 1..=5 {
            world.write(name, &[event(number, &["red"])]).await;
        }
        if is_flushed {
            world.flush().await;
        }
    }
    world
}

/// Reads a page, while a checkpoint of all that is there becomes the next generation.
async fn read_beside_a_switch(tag: Option<&str>) -> PositionsPage {
    let (here, there) = (world().await, world().await);
    there.flush().await;
    let inner = Arc::clone(&here.tables().inner);
    let (old, new) = (inner.table(), there.tables().inner.table());
    let meta = read_meta(&*new).expect("reads").expect("was flushed");
    let generation = inner.state().generation + 1;
    let act: Act = Box::new({
        let inner = Arc::clone(&inner);
        move || inner.replace(new, generation, meta).expect("replaces")
    });
    inner.state_mut().table = Arc::new(Interrupted { real: old, act: Mutex::new(Some(act)) });
    let read = PositionsRead { from: Position(1), events_max: 100, bytes_max: usize::MAX, include_deleted: true };
    let page = match tag {
        None => here.tables().read_positions(read).await,
        Some(tag) => here.tables().read_tag(tag, read).await,
    };
    assert_eq!(inner.state().generation, generation, "it was switched meanwhile");
    assert_eq!(here.tables().statistics().await.damages, 0);
    page.expect("nothing is damaged")
}

#[tokio::test]
async fn a_read_by_position_survives_a_checkpoint_that_takes_its_memory() {
    let page = read_beside_a_switch(None).await;
    assert_eq!((page.events.len(), page.is_at_end), (10, true));
}

#[tokio::test]
async fn a_read_by_tag_survives_a_checkpoint_that_takes_its_memory() {
    let page = read_beside_a_switch(Some("red")).await;
    assert_eq!((page.events.len(), page.is_at_end), (10, true));
}
