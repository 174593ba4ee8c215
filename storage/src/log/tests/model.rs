//! A log against a plain map: random calls, restarts, power cuts and failing disks. What was acknowledged is there, what was
//! not is there up to some call, and nothing else is.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tokio::sync::oneshot::Receiver;

use super::*;

/// What one shard's log should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ShardModel {
    vote: Option<Bytes>,
    purged: Option<EntryId>,
    last: Option<EntryId>,
    entries: BTreeMap<u64, LogEntry>,
}

/// One random act. `shard` picks one of two.
#[derive(Clone, Debug)]
enum Step {
    Append {
        shard: bool,
        count: u8,
        bytes: u16,
    },
    Truncate {
        shard: bool,
        back: u8,
    },
    Purge {
        shard: bool,
        forward: u8,
    },
    Vote {
        shard: bool,
        vote: u8,
    },
    Committed {
        shard: bool,
        back: u8,
    },
    CopyForward {
        shard: bool,
    },
    Settle,
    ShutDown,
    Kill,
    /// Lets some calls of the disk succeed and one fail.
    Fault {
        sync: bool,
        after: u8,
    },
    /// Cuts the power; the disk fails once more while the log is opened again, and the power is cut again.
    Crash {
        seed: u64,
        again_after: Option<u8>,
    },
}

/// The state after each call, or each entry of a call, and the calls that are not answered yet.
struct Driver {
    fs: MemoryFs,
    running: Option<Running>,
    states: Vec<[ShardModel; 2]>,
    /// The last state that is known to be durable.
    acknowledged: usize,
    /// Which state a call leads to, and its answer.
    waiting: Vec<(usize, Receiver<Result<(), LogError>>)>,
    committed: [Vec<EntryId>; 2],
    term: u64,
}

fn shard_id(shard: bool) -> ShardId {
    if shard { A } else { B }
}

fn settings() -> LogSettings {
    LogSettings { cache_bytes_max: 600, ..small() }
}

impl Driver {
    async fn new() -> Self {
        let fs = MemoryFs::new();
        let running = Some(start(&fs, settings()).await);
        Self {
            fs,
            running,
            states: vec![Default::default()],
            acknowledged: 0,
            waiting: Vec::new(),
            committed: Default::default(),
            term: 1,
        }
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Append { shard, count, bytes } => self.append(shard, count, bytes),
            Step::Truncate { shard, back } => self.truncate(shard, back),
            Step::Purge { shard, forward } => self.purge(shard, forward),
            Step::Vote { shard, vote } => {
                let vote = Bytes::from(vec![vote; 9]);
                let answer = self.log().shard(shard_id(shard)).save_vote(vote.clone());
                self.change(shard, |model| model.vote = Some(vote));
                self.expect(answer);
            }
            Step::Committed { shard, back } => self.save_committed(shard, back),
            // A log that broke is found out when it settles.
            Step::CopyForward { shard } => drop(self.log().copy_forward(shard_id(shard)).await),
            Step::Settle => self.settle().await,
            Step::ShutDown => {
                self.settle().await;
                let running = self.running.take().expect("it runs");
                if running.log.shutdown().await.is_ok() {
                    running.writer.await.expect("the writer ends");
                    self.repair();
                    self.reopen().await;
                } else {
                    self.running = Some(running);
                    self.crash(1, None).await;
                }
            }
            Step::Kill => {
                self.running.take().expect("it runs").kill().await;
                self.repair();
                self.hear_answers().await;
                self.reopen().await;
            }
            Step::Fault { sync: true, after } => self.fs.fail_sync_after(u64::from(after)),
            Step::Fault { sync: false, after } => self.fs.fail_write_after(u64::from(after)),
            Step::Crash { seed, again_after } => {
                // Some calls are on their way, some are not: as far as one turn of the writer goes.
                tokio::task::yield_now().await;
                self.crash(seed, again_after).await;
            }
        }
    }

    /// The disk works again.
    fn repair(&self) {
        self.fs.fail_sync_after(u64::MAX);
        self.fs.fail_write_after(u64::MAX);
    }

    fn log(&self) -> Log {
        self.running.as_ref().expect("it runs").log.clone()
    }

    fn now(&self, shard: bool) -> &ShardModel {
        &self.states.last().expect("there is a first")[usize::from(shard)]
    }

    fn change(&mut self, shard: bool, change: impl FnOnce(&mut ShardModel)) {
        let mut next = self.states.last().expect("there is a first").clone();
        change(&mut next[usize::from(shard)]);
        self.states.push(next);
    }

    fn expect(&mut self, answer: impl Future<Output = Result<(), LogError>> + Send + 'static) {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tokio::spawn(async move { sender.send(answer.await) });
        self.waiting.push((self.states.len() - 1, receiver));
    }

    fn append(&mut self, shard: bool, count: u8, bytes: u16) {
        let first = self.now(shard).last.map_or(u64::from(count % 3), |last| last.index + 1);
        let new = entries(self.term, first..first + u64::from(count), usize::from(bytes));
        for entry in &new {
            let entry = entry.clone();
            self.change(shard, |model| {
                model.last = Some(entry.id);
                model.entries.insert(entry.id.index, entry);
            });
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let log = self.log().shard(shard_id(shard));
        log.append(new, Box::new(|result| drop(sender.send(result))));
        self.waiting.push((self.states.len() - 1, receiver));
    }

    fn truncate(&mut self, shard: bool, back: u8) {
        let committed = self.committed[usize::from(shard)].last().map(|id| id.index);
        let model = self.now(shard);
        let Some(last) = model.last else { return };
        let kept = last.index.checked_sub(u64::from(back)).filter(|kept| model.entries.contains_key(kept));
        let kept = kept.or(model.purged.map(|purged| purged.index));
        if kept < committed {
            return;
        }
        self.term += 1;
        let answer = self.log().shard(shard_id(shard)).truncate_after(kept);
        self.change(shard, |model| {
            model.entries.retain(|index, _| Some(*index) <= kept);
            model.last = model.entries.values().last().map(|entry| entry.id).or(model.purged);
        });
        self.expect(answer);
    }

    fn purge(&mut self, shard: bool, forward: u8) {
        let model = self.now(shard);
        let first = model.entries.keys().next().copied().unwrap_or(model.last.map_or(0, |last| last.index + 1));
        let index = first + u64::from(forward);
        let up_to = model.entries.get(&index).map_or(id(self.term, index), |entry| entry.id);
        let answer = self.log().shard(shard_id(shard)).purge(up_to);
        self.change(shard, |model| {
            model.entries.retain(|index, _| *index > up_to.index);
            model.purged = Some(up_to);
            if model.last.is_none_or(|last| last.index < up_to.index) {
                model.last = Some(up_to);
            }
        });
        self.expect(answer);
    }

    fn save_committed(&mut self, shard: bool, back: u8) {
        let model = self.now(shard);
        let Some(entry) = model.entries.values().rev().nth(usize::from(back)) else { return };
        let id = entry.id;
        let saved = &mut self.committed[usize::from(shard)];
        if saved.last().is_none_or(|last| last.index < id.index) {
            saved.push(id);
            self.log().shard(shard_id(shard)).save_committed(Some(id));
        }
    }

    /// Hears every answer: those that say yes come before those that say no. Says whether some said no.
    async fn hear_answers(&mut self) -> bool {
        let mut failed = false;
        for (state, answer) in std::mem::take(&mut self.waiting) {
            match tokio::time::timeout(DEADLINE, answer).await.expect("answered in time") {
                Ok(Ok(())) => {
                    assert!(!failed, "answered in order");
                    self.acknowledged = state;
                }
                Ok(Err(LogError::Broken { .. } | LogError::Stopped)) | Err(_) => failed = true,
                Ok(Err(other)) => panic!("refused: {other}"),
            }
        }
        failed
    }

    /// Waits until everything is durable, and compares; a log that broke meanwhile loses its power.
    async fn settle(&mut self) {
        // What breaks the log need not concern any call: it may be the next segment.
        if self.hear_answers().await || self.log().failure().borrow().is_some() {
            return self.crash(7, None).await;
        }
        let now = self.states.pop().expect("there is a first");
        self.states = vec![now];
        self.acknowledged = 0;
        self.compare("settled").await;
    }

    async fn crash(&mut self, seed: u64, again_after: Option<u8>) {
        let mut random = seed | 1;
        let mut keep = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.is_multiple_of(3)
        };
        self.fs.crash(&mut keep);
        self.running.take().expect("it runs").kill().await;
        self.hear_answers().await;
        if let Some(after) = again_after {
            self.fs.fail_sync_after(u64::from(after));
            // Recovery gets as far as it gets.
            drop(open(&self.fs, settings()).await);
            self.fs.crash(&mut keep);
        }
        self.reopen().await;
    }

    /// Opens the log again: it must be in one of the states since the last acknowledged one.
    async fn reopen(&mut self) {
        self.running = Some(start(&self.fs, settings()).await);
        let found = self.found().await;
        let candidates = &self.states[self.acknowledged..];
        let Some(state) = candidates.iter().rev().find(|state| **state == found) else {
            panic!("after a restart: {found:#?}\nis none of {candidates:#?}");
        };
        self.states = vec![state.clone()];
        self.acknowledged = 0;
        let log = self.log();
        for shard in [false, true] {
            let committed = log.shard(shard_id(shard)).state().committed;
            let saved = &mut self.committed[usize::from(shard)];
            assert!(committed.is_none_or(|committed| saved.contains(&committed)), "{committed:?} of {saved:?}");
            saved.retain(|saved| Some(saved.index) <= committed.map(|committed| committed.index));
        }
        self.compare("reopened").await;
    }

    async fn found(&self) -> [ShardModel; 2] {
        let log = self.log();
        let mut models = <[ShardModel; 2]>::default();
        for shard in [false, true] {
            let Content { state, entries } = content(&log, shard_id(shard)).await.expect("read");
            let entries = entries.into_iter().map(|entry| (entry.id.index, entry)).collect();
            models[usize::from(shard)] = ShardModel { vote: state.vote, purged: state.purged, last: state.last, entries };
        }
        models
    }

    async fn compare(&self, when: &str) {
        let expected = self.states.last().expect("there is a first");
        assert_eq!(self.found().await, *expected, "{when}");
        let log = self.log();
        for shard in [false, true] {
            let last = expected[usize::from(shard)].last.map(|last| last.index);
            assert_eq!(log.shard(shard_id(shard)).durable_index(), last, "{when}: everything is durable");
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let shard = any::<bool>();
    let step = prop_oneof![
        12 => (shard, 1..7_u8, 0..700_u16).prop_map(|(shard, count, bytes)| Step::Append { shard, count, bytes }),
        2 => (shard, 0..9_u8).prop_map(|(shard, back)| Step::Truncate { shard, back }),
        4 => (shard, 0..12_u8).prop_map(|(shard, forward)| Step::Purge { shard, forward }),
        2 => (shard, any::<u8>()).prop_map(|(shard, vote)| Step::Vote { shard, vote }),
        3 => (shard, 0..6_u8).prop_map(|(shard, back)| Step::Committed { shard, back }),
        2 => shard.prop_map(|shard| Step::CopyForward { shard }),
        4 => Just(Step::Settle),
        1 => Just(Step::ShutDown),
        1 => Just(Step::Kill),
        3 => (any::<bool>(), 0..8_u8).prop_map(|(sync, after)| Step::Fault { sync, after }),
        2 => (any::<u64>(), proptest::option::of(0..4_u8)).prop_map(|(seed, again_after)| Step::Crash { seed, again_after }),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_calls_restarts_faults_and_power_cuts_agree_with_the_model(steps in steps()) {
        block_on(async {
            let mut driver = Driver::new().await;
            for step in &steps {
                driver.step(step).await;
            }
            driver.settle().await;
        });
    }
}
