//! Who leads which shard, as far as the client knows.
//!
//! Learnt from `Cluster.Status` of any node and from the hints of those who do not lead. What is known may be old: a wrong guess
//! costs one more try and never a wrong answer.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_api::v1::StatusResponse;
use cairn_machine::{ShardId, Slice};
use tokio::time::Instant;

/// How long a leader that could not be reached is not tried again at the same term: the others need about that long to elect one.
const SUSPICION: Duration = Duration::from_millis(300);
/// Most addresses that are asked in one refresh.
const ADDRESSES_MAX: usize = 32;

/// The map.
#[derive(Debug)]
pub(crate) struct ShardMap {
    /// Where the user said that the cluster is.
    endpoints: Vec<String>,
    /// Client addresses, by node id.
    members: BTreeMap<u64, String>,
    cluster_id: String,
    /// One place for each shard; none before the first status came.
    shards: Vec<Option<Leader>>,
    /// Which address is asked for what any node can answer.
    any: usize,
}

#[derive(Clone, Debug)]
struct Leader {
    address: String,
    term: u64,
    suspected_until: Option<Instant>,
}

impl ShardMap {
    pub(crate) fn new(endpoints: Vec<String>) -> Self {
        Self { endpoints, members: BTreeMap::new(), cluster_id: String::new(), shards: Vec::new(), any: 0 }
    }

    /// How many shards the cluster has; none before the first status came.
    pub(crate) fn shards(&self) -> Option<u16> {
        u16::try_from(self.shards.len()).ok().filter(|shards| *shards > 0)
    }

    /// The shard of a slice; none before the first status came.
    pub(crate) fn shard_of(&self, slice: Slice) -> Option<ShardId> {
        self.shards().map(|shards| slice.shard(shards))
    }

    /// The address of a shard's leader, unless it is unknown or under suspicion.
    pub(crate) fn leader(&self, shard: ShardId, now: Instant) -> Option<&str> {
        let leader = self.shards.get(usize::from(shard.0))?.as_ref()?;
        let is_suspected = leader.suspected_until.is_some_and(|until| now < until);
        (!is_suspected).then_some(leader.address.as_str())
    }

    /// Whether the leaders of all shards are other nodes than the one at this address.
    pub(crate) fn is_deposed(&self, address: &str) -> bool {
        !self.shards.is_empty() && self.shards.iter().all(|shard| shard.as_ref().is_some_and(|leader| leader.address != address))
    }

    /// Whether the leader of a shard is another node than the one at this address.
    pub(crate) fn is_led_elsewhere(&self, shard: ShardId, address: &str) -> bool {
        let leader = self.shards.get(usize::from(shard.0)).and_then(Option::as_ref);
        leader.is_some_and(|leader| leader.address != address)
    }

    /// Some address for what any node can answer.
    pub(crate) fn any(&self) -> Option<String> {
        let addresses = self.addresses();
        (!addresses.is_empty()).then(|| addresses[self.any % addresses.len()].clone())
    }

    /// Every address at which the cluster may be reached.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<String> = self.endpoints.clone();
        for address in self.members.values() {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    /// Takes over what a node knows. A node of another cluster is not believed.
    pub(crate) fn learn(&mut self, status: &StatusResponse) -> Result<(), String> {
        if self.cluster_id.is_empty() {
            self.cluster_id.clone_from(&status.cluster_id);
        } else if self.cluster_id != status.cluster_id {
            return Err(format!("a node of another cluster answered: {} instead of {}", status.cluster_id, self.cluster_id));
        }
        let is_possible = u16::try_from(status.shards).is_ok_and(|shards| shards.is_power_of_two() && shards <= 1024);
        if !is_possible {
            return Err(format!(
                "the node is not part of a cluster yet, or has an impossible number of shards: {}",
                status.shards
            ));
        }
        self.shards.resize(status.shards as usize, None);
        let members = status.nodes.iter().filter(|node| !node.client_address.is_empty());
        let members: BTreeMap<u64, String> = members.map(|node| (node.node_id, node.client_address.clone())).collect();
        if !members.is_empty() {
            self.members = members;
        }
        for shard in &status.shard_states {
            let address = self.members.get(&shard.leader).cloned();
            let (Some(place), Some(address)) = (self.shards.get_mut(shard.shard as usize), address) else { continue };
            match place {
                Some(known) if known.term > shard.term => {}
                // What others say of a leader that could not be reached is old; what it says itself shows that it is there.
                Some(known) if known.term == shard.term && known.address == address && shard.leader != status.node_id => {}
                _ => *place = Some(Leader { address, term: shard.term, suspected_until: None }),
            }
        }
        Ok(())
    }

    /// Follows a hint.
    pub(crate) fn hint(&mut self, shard: ShardId, address: &str) {
        let Some(place) = self.shards.get_mut(usize::from(shard.0)) else { return };
        // A hint has no term; a status of the same term must not overrule it, a later one must.
        let term = place.as_ref().map_or(0, |known| known.term);
        *place = Some(Leader { address: address.to_owned(), term, suspected_until: None });
    }

    /// A node could not serve a shard as its leader: others are asked first for a while.
    pub(crate) fn suspect(&mut self, shard: ShardId, address: &str, now: Instant) {
        match self.shards.get_mut(usize::from(shard.0)) {
            Some(Some(leader)) if leader.address == address => leader.suspected_until = Some(now + SUSPICION),
            _ => {}
        }
    }

    /// An address could not answer what any node can: the next one is asked.
    pub(crate) fn pass_over(&mut self, address: &str) {
        if self.any().as_deref() == Some(address) {
            self.any = self.any.wrapping_add(1);
        }
    }

    /// Whether every shard's leader is known and trusted.
    pub(crate) fn is_complete(&self, now: Instant) -> bool {
        let shards = self.shards.len();
        shards > 0 && (0..shards).all(|shard| self.leader(ShardId(u16::try_from(shard).unwrap_or(u16::MAX)), now).is_some())
    }
}

#[cfg(test)]
mod tests {
    use cairn_api::v1::{Node, Shard};

    use super::*;

    fn status(node_id: u64, leader: u64, term: u64) -> StatusResponse {
        let nodes = (1..=3).map(|node_id| Node { node_id, client_address: format!("node-{node_id}:1"), ..Node::default() });
        StatusResponse {
            cluster_id: "cluster".to_owned(),
            node_id,
            shards: 1,
            nodes: nodes.collect(),
            shard_states: vec![Shard { shard: 0, leader, term, ..Shard::default() }],
            ..StatusResponse::default()
        }
    }

    fn leader(map: &ShardMap) -> Option<&str> {
        map.leader(ShardId(0), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_of_the_highest_term_is_believed() {
        let mut map = ShardMap::new(vec!["node-1:1".to_owned()]);
        map.learn(&status(1, 1, 7)).unwrap();
        map.learn(&status(2, 2, 9)).unwrap();
        map.learn(&status(3, 3, 8)).unwrap();
        assert_eq!(leader(&map), Some("node-2:1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_cannot_be_reached_is_left_alone_until_it_speaks_or_time_passes() {
        let mut map = ShardMap::new(vec!["node-1:1".to_owned()]);
        map.learn(&status(1, 1, 7)).unwrap();
        map.suspect(ShardId(0), "node-1:1", Instant::now());
        assert_eq!(leader(&map), None);
        map.learn(&status(2, 1, 7)).unwrap();
        assert_eq!(leader(&map), None, "what another one says of it may be old");
        map.learn(&status(1, 1, 7)).unwrap();
        assert_eq!(leader(&map), Some("node-1:1"), "it speaks itself");
        map.suspect(ShardId(0), "node-1:1", Instant::now());
        tokio::time::advance(SUSPICION).await;
        assert_eq!(leader(&map), Some("node-1:1"), "time has passed");
        map.suspect(ShardId(0), "node-1:1", Instant::now());
        map.learn(&status(2, 2, 8)).unwrap();
        assert_eq!(leader(&map), Some("node-2:1"), "another one leads by now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_is_followed_at_once_and_a_later_term_overrules_it() {
        let mut map = ShardMap::new(vec!["node-1:1".to_owned()]);
        map.learn(&status(1, 1, 7)).unwrap();
        map.hint(ShardId(0), "node-3:1");
        assert_eq!(leader(&map), Some("node-3:1"));
        map.learn(&status(2, 2, 9)).unwrap();
        assert_eq!(leader(&map), Some("node-2:1"));
    }

    #[test]
    fn a_node_is_deposed_once_others_lead_all_that_is_led() {
        let of_two = |node_id, leaders: [u64; 2], term| {
            let state = |shard, leader| Shard { shard, leader, term, ..Shard::default() };
            let shard_states = vec![state(0, leaders[0]), state(1, leaders[1])];
            StatusResponse { shards: 2, shard_states, ..status(node_id, 0, 0) }
        };
        let mut map = ShardMap::new(vec!["node-1:1".to_owned()]);
        assert!(!map.is_deposed("node-1:1"), "nothing is known");
        map.learn(&of_two(1, [1, 1], 7)).unwrap();
        assert!(!map.is_deposed("node-1:1"));
        map.learn(&of_two(2, [2, 1], 8)).unwrap();
        assert!(!map.is_deposed("node-1:1"), "it leads the other shard");
        assert!(map.is_led_elsewhere(ShardId(0), "node-1:1") && !map.is_led_elsewhere(ShardId(1), "node-1:1"));
        map.learn(&of_two(3, [2, 3], 9)).unwrap();
        assert!(map.is_deposed("node-1:1") && !map.is_deposed("node-3:1"));
    }

    #[test]
    fn a_node_of_another_cluster_or_of_none_is_not_believed() {
        let mut map = ShardMap::new(vec!["node-1:1".to_owned()]);
        map.learn(&StatusResponse { cluster_id: "cluster".to_owned(), ..StatusResponse::default() }).unwrap_err();
        map.learn(&status(1, 1, 7)).unwrap();
        map.learn(&StatusResponse { cluster_id: "foreign".to_owned(), ..status(2, 2, 9) }).unwrap_err();
        assert_eq!(leader(&map), Some("node-1:1"));
    }

    #[test]
    fn members_are_learnt_and_an_address_that_does_not_answer_is_passed_over() {
        let mut map = ShardMap::new(vec!["balancer:1".to_owned()]);
        map.learn(&status(1, 1, 7)).unwrap();
        assert_eq!(map.addresses(), ["balancer:1", "node-1:1", "node-2:1", "node-3:1"]);
        let first = map.any().unwrap();
        map.pass_over(&first);
        assert_ne!(map.any().unwrap(), first);
    }
}
