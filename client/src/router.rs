//! Brings each call to the node that can serve it, and again, until it is answered or its deadline ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_api::v1::{Failure, Reason, StatusRequest, StatusResponse};
use cairn_machine::{ShardId, Slice};
use futures::future::Shared;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::attempt::Failed;
use crate::cairn::deadline_in;
use crate::connector::Connector;
use crate::error::Error;
use crate::limits::{DOUBT_INTERVAL_MIN, REFRESH_INTERVAL_MIN, SILENCE_DOUBTED, STATUS_GRACE, STATUS_TIMEOUT};
use crate::node::Node;
use crate::pipeline::IsDeposed;
use crate::retry::Retry;
use crate::shard_map::ShardMap;

/// Who can serve a call.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// The leader of the shard that owns a slice.
    Slice(Slice),
    /// The leader of a shard.
    Shard(ShardId),
    /// Any node.
    Any,
    /// This node alone.
    Address(String),
}

/// Whether a try without an answer may have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Read,
    Command,
}

/// A round of questions under way; it goes on also if nobody waits for it any more.
type Refreshing = Shared<oneshot::Receiver<()>>;

/// Knows the nodes and who leads.
pub(crate) struct Router {
    connector: Arc<dyn Connector>,
    attempt_timeout: Duration,
    random: Mutex<StdRng>,
    map: Mutex<ShardMap>,
    nodes: Mutex<BTreeMap<String, Arc<Node>>>,
    /// The last round, and when it began.
    refreshing: Mutex<Option<(Refreshing, Instant)>>,
    /// Why the last refresh brought nothing, for messages.
    obstacle: Mutex<String>,
}

/// The error of a call whose last try was answered so, after tries of which one may have taken effect.
pub(crate) fn final_error(failure: &Failure, may_be_applied: bool) -> Error {
    // This try was refused for a reason that says nothing about the ones before.
    let is_of_this_try = matches!(failure.reason(), Reason::ReadOnly | Reason::Unsafe);
    match Error::from_failure(failure.clone()) {
        error if may_be_applied && is_of_this_try => Error::Unknown { message: error.to_string() },
        error => error,
    }
}

/// The shard whose leader is asked, if it is one and known.
fn shard_of(map: &ShardMap, target: &Target) -> Option<ShardId> {
    match target {
        Target::Slice(slice) => map.shard_of(*slice),
        Target::Shard(shard) => Some(*shard),
        Target::Any | Target::Address(_) => None,
    }
}

impl Router {
    pub(crate) fn new(endpoints: Vec<String>, connector: Arc<dyn Connector>, attempt_timeout: Duration, seed: u64) -> Self {
        Self {
            connector,
            attempt_timeout,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            map: Mutex::new(ShardMap::new(endpoints)),
            nodes: Mutex::default(),
            refreshing: Mutex::default(),
            obstacle: Mutex::default(),
        }
    }

    /// Calls until there is an answer or the deadline ends.
    pub(crate) async fn call<T, Attempted>(
        self: &Arc<Self>,
        target: &Target,
        effect: Effect,
        deadline: Instant,
        mut attempt: impl FnMut(Arc<Node>) -> Attempted,
    ) -> Result<T, Error>
    where
        Attempted: Future<Output = Result<T, Failed>>,
    {
        // Most calls are answered at the first try, and need none.
        let mut retry = None;
        let mut may_be_applied = false;
        loop {
            let failed = match self.locate(target, deadline).await {
                Err(failed) => failed,
                Ok(node) => {
                    let attempt_deadline = deadline.min(deadline_in(self.attempt_timeout));
                    let failed = match self.wait_for(target, node.address(), attempt_deadline, attempt(node.clone())).await {
                        Ok(result) => return Ok(result),
                        Err(failed) => failed,
                    };
                    self.note(target, node.address(), &failed);
                    failed
                }
            };
            may_be_applied |= effect == Effect::Command && !failed.is_not_applied();
            if let Some(failure) = failed.final_answer() {
                return Err(final_error(failure, may_be_applied));
            }
            let retry = retry.get_or_insert_with(|| Retry::new(self.random_u64()));
            if !retry.wait(&failed, deadline).await {
                let message = failed.message().to_owned();
                return Err(if may_be_applied { Error::Unknown { message } } else { Error::Unavailable { message } });
            }
        }
    }

    /// Waits for one try of a call, as long as the node that was asked may be the one to answer it.
    async fn wait_for<T>(
        self: &Arc<Self>,
        target: &Target,
        address: &str,
        deadline: Instant,
        attempt: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, Failed> {
        let mut attempt = std::pin::pin!(attempt);
        loop {
            let doubted_at = deadline.min(deadline_in(SILENCE_DOUBTED));
            if let Ok(result) = tokio::time::timeout_at(doubted_at, &mut attempt).await {
                return result;
            }
            let asked = tokio::time::timeout_at(deadline, self.is_led_elsewhere(target, address));
            let is_led_elsewhere = tokio::select! {
                biased;
                result = &mut attempt => return result,
                asked = asked => asked,
            };
            match is_led_elsewhere {
                Ok(false) if Instant::now() < deadline => {}
                Ok(true) => return Err(Failed::Lost(format!("{address} says nothing, and another node leads by now"))),
                Ok(false) | Err(_) => return Err(Failed::Lost(format!("no answer from {address} in time"))),
            }
        }
    }

    /// Asks around whether another node leads the shard that is meant, if a leader is. What any node can answer, or one alone, is
    /// waited for.
    async fn is_led_elsewhere(self: &Arc<Self>, target: &Target, address: &str) -> bool {
        let Some(shard) = shard_of(&self.map(), target) else { return std::future::pending().await };
        self.ask_after_silence().await;
        self.map().is_led_elsewhere(shard, address)
    }

    /// The node that can serve a call, as far as is known; asks around if it is not known.
    pub(crate) async fn locate(self: &Arc<Self>, target: &Target, deadline: Instant) -> Result<Arc<Node>, Failed> {
        if let Some(node) = self.connected(target) {
            return Ok(node);
        }
        if let Some(address) = self.address_of(target) {
            return self.node(&address);
        }
        self.check_exists(target)?;
        if tokio::time::timeout_at(deadline, self.refresh()).await.is_err() {
            return Err(Failed::NotSent(self.obstacle("the cluster does not answer")));
        }
        self.check_exists(target)?;
        match self.address_of(target) {
            Some(address) => self.node(&address),
            None => Err(Failed::NotSent(self.obstacle("the shard has no leader that can be reached"))),
        }
    }

    /// A shard that the cluster does not have is not waited for: their number is fixed for ever.
    fn check_exists(&self, target: &Target) -> Result<(), Failed> {
        match (target, self.shards()) {
            (Target::Shard(shard), Some(shards)) if shard.0 >= shards => {
                let message = format!("there is no shard {shard}: the cluster has {shards}");
                Err(Failed::Answered(Box::new(Failure::new(Reason::NotFound, message))))
            }
            _ => Ok(()),
        }
    }

    /// The shard's leader, if it is known and there are connections to it: what nearly every call finds.
    fn connected(&self, target: &Target) -> Option<Arc<Node>> {
        let map = self.map();
        let address = map.leader(shard_of(&map, target)?, Instant::now())?;
        self.nodes().get(address).cloned()
    }

    fn address_of(&self, target: &Target) -> Option<String> {
        let map = self.map();
        match target {
            Target::Slice(_) | Target::Shard(_) => map.leader(shard_of(&map, target)?, Instant::now()).map(str::to_owned),
            Target::Any => map.any(),
            Target::Address(address) => Some(address.clone()),
        }
    }

    /// Learns from a failure who leads, or who does not.
    pub(crate) fn note(&self, target: &Target, address: &str, failed: &Failed) {
        let mut map = self.map();
        if let Target::Any = target {
            map.pass_over(address);
        }
        let Some(shard) = shard_of(&map, target) else { return };
        match failed {
            Failed::Answered(failure) => match (&failure.leader, failure.reason()) {
                (Some(leader), _) if !leader.client_address.is_empty() && leader.client_address != address => {
                    map.hint(shard, &leader.client_address);
                }
                (_, Reason::NotLeader | Reason::NoLeader | Reason::Unavailable) => map.suspect(shard, address, Instant::now()),
                _ => {}
            },
            Failed::NotSent(_) | Failed::Lost(_) => map.suspect(shard, address, Instant::now()),
        }
    }

    /// Asks every known address who leads; joins the round that is under way, if there is one.
    pub(crate) fn refresh(self: &Arc<Self>) -> Refreshing {
        let mut refreshing = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let begin = match refreshing.as_ref() {
            Some((round, _)) if round.peek().is_none() => return round.clone(),
            // However many callers look for a leader, the nodes are not asked more often than this.
            Some((_, begun)) => now.max(*begun + REFRESH_INTERVAL_MIN),
            None => now,
        };
        let (ended, round) = oneshot::channel();
        let round = round.shared();
        *refreshing = Some((round.clone(), begin));
        let router = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(begin).await;
            router.ask_around().await;
            drop(ended);
        });
        round
    }

    /// Asks who leads, on behalf of those whom a leader does not answer: what the last round has brought does for a while, however many
    /// they are.
    async fn ask_after_silence(self: &Arc<Self>) {
        let has_just_asked = {
            let refreshing = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
            refreshing.as_ref().is_some_and(|(round, begun)| {
                round.peek().is_some() && Instant::now().saturating_duration_since(*begun) < DOUBT_INTERVAL_MIN
            })
        };
        if !has_just_asked {
            drop(self.refresh().await);
        }
    }

    async fn ask_around(self: &Arc<Self>) {
        let addresses = self.map().addresses();
        let mut asked: FuturesUnordered<_> =
            addresses.into_iter().map(|address| async { (self.status_of(&address).await, address) }).collect();
        let (count, mut answered) = (asked.len(), 0);
        let mut enough_at = Instant::now() + STATUS_TIMEOUT;
        while let Ok(Some((status, address))) = tokio::time::timeout_at(enough_at, asked.next()).await {
            let learnt = match status {
                Ok(status) => {
                    // One that does not answer must not hold up what another one knows.
                    enough_at = enough_at.min(Instant::now() + STATUS_GRACE);
                    answered += 1;
                    self.map().learn(&status)
                }
                Err(failed) => Err(failed.message().to_owned()),
            };
            if let Err(obstacle) = learnt {
                tracing::debug!(address, obstacle, "status is of no use");
                *self.obstacle.lock().unwrap_or_else(PoisonError::into_inner) = format!("{address}: {obstacle}");
            }
            // One alone may be cut off from the others, and still believe that it leads.
            if 2 * answered > count && self.map().is_complete(Instant::now()) {
                return;
            }
        }
    }

    /// What one node knows of the cluster.
    pub(crate) async fn status_of(self: &Arc<Self>, address: &str) -> Result<StatusResponse, Failed> {
        let mut cluster = self.node(address)?.cluster();
        match tokio::time::timeout(STATUS_TIMEOUT, cluster.status(StatusRequest {})).await {
            Ok(Ok(status)) => Ok(status.into_inner()),
            Ok(Err(status)) => Err(Failed::from_status(&status)),
            Err(_) => Err(Failed::Lost("no answer to a status request in time".to_owned())),
        }
    }

    /// The shards that the cluster has, once known.
    pub(crate) fn shards(&self) -> Option<u16> {
        self.map().shards()
    }

    /// The connections to an address.
    pub(crate) fn node(self: &Arc<Self>, address: &str) -> Result<Arc<Node>, Failed> {
        if let Some(node) = self.nodes().get(address) {
            return Ok(node.clone());
        }
        let node = Node::new(address, &self.connector, self.attempt_timeout, self.is_deposed(address))
            .map_err(|error| Failed::NotSent(error.to_string()))?;
        let known = self.map().addresses();
        let mut nodes = self.nodes();
        // Connections to nodes that left the cluster go.
        nodes.retain(|kept, _| known.contains(kept) || kept == address);
        // Another caller may have been faster.
        Ok(nodes.entry(address.to_owned()).or_insert(node).clone())
    }

    /// Asks around whether the node at an address leads nothing any more.
    fn is_deposed(self: &Arc<Self>, address: &str) -> IsDeposed {
        // Nodes belong to the router.
        let (router, address) = (Arc::downgrade(self), address.to_owned());
        Arc::new(move || {
            let (router, address) = (router.upgrade(), address.clone());
            let asked = async move {
                let Some(router) = router else { return false };
                router.ask_after_silence().await;
                router.map().is_deposed(&address)
            };
            asked.boxed()
        })
    }

    pub(crate) fn random_u64(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    pub(crate) fn random_uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// Whoever holds both locks took the map's first.
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn map(&self) -> MutexGuard<'_, ShardMap> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands in the way, with what the last round of questions met.
    pub(crate) fn obstacle(&self, what: &str) -> String {
        let obstacle = self.obstacle.lock().unwrap_or_else(PoisonError::into_inner);
        if obstacle.is_empty() { what.to_owned() } else { format!("{what} ({obstacle})") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_about_its_own_try_says_nothing_of_an_earlier_one() {
        for (reason, is_of_this_try) in [(Reason::Unsafe, true), (Reason::ReadOnly, true), (Reason::Invalid, false)] {
            let failure = Failure::new(reason, "test");
            assert!(!matches!(final_error(&failure, false), Error::Unknown { .. }));
            assert_eq!(matches!(final_error(&failure, true), Error::Unknown { .. }), is_of_this_try, "{reason:?}");
        }
    }
}
