//! etcd: three members, each event a key, `journal/number`.
//!
//! An append is one transaction that compares the version of the first new key with zero: whoever wrote that number before wins. A
//! journal's highest number is the last key of its range. Values come back in pages, since a message of gRPC has a limit. The leader
//! is asked first, as etcd's own benchmark does; after an error the next member. Its API is spoken directly: the usual client needs
//! protoc to be built.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};

use crate::contender::{Contender, Skipped, System, Writer};
use crate::process::{Server, find_program, free_ports, stop_all, until_ready, version_of};

/// Generated from etcd's schema.
#[allow(missing_docs, unused_qualifications, clippy::all, reason = "generated")]
mod api {
    tonic::include_proto!("etcdserverpb");
}

use api::kv_client::KvClient;
use api::maintenance_client::MaintenanceClient;

/// Connections to each member: etcd's own benchmark wants many, and a few suffice on one machine.
const CONNECTIONS: usize = 16;
/// Keys of one page: a megabyte of small events.
const PAGE_KEYS: i64 = 4_000;
/// What a page may hold, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// How long a connection may take to be made.
const CONNECT_DEADLINE: Duration = Duration::from_millis(500);
/// The largest store that etcd advises, in bytes.
const QUOTA_BYTES: u64 = 8 << 30;

/// etcd's binary.
pub struct Etcd {
    binary: Option<PathBuf>,
}

impl Etcd {
    /// Where it is installed.
    pub fn find() -> Self {
        Self { binary: find_program("etcd", &["/usr/bin", "/usr/local/bin"]) }
    }
}

#[async_trait(?Send)]
impl Contender for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn title(&self) -> &'static str {
        "etcd"
    }

    fn version(&self) -> Result<String, Skipped> {
        let version = self.binary.as_deref().and_then(|binary| version_of(binary, "--version"));
        let version = version.ok_or_else(|| Skipped("etcd is not installed (Debian: etcd-server)".to_owned()))?;
        Ok(version.trim_start_matches("etcd Version: ").to_owned())
    }

    async fn start(&self, dir: &Path) -> Result<Arc<dyn System>> {
        let binary = self.binary.as_ref().context("not installed")?;
        let ports = free_ports::<6>()?;
        let (client_ports, peer_ports) = ports.split_at(3);
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let members: Vec<_> = peer_ports.iter().enumerate().map(|(index, port)| format!("n{index}={}", url(port))).collect();
        let (mut servers, mut data_dirs) = (Vec::new(), Vec::new());
        for index in 0..3 {
            let data_dir = dir.join(format!("n{index}"));
            let mut command = Command::new(binary);
            command.args(["--name", &format!("n{index}"), "--log-level", "error", "--logger", "zap"]);
            command.args(["--quota-backend-bytes", &QUOTA_BYTES.to_string()]).arg("--data-dir").arg(&data_dir);
            for flag in ["--listen-client-urls", "--advertise-client-urls"] {
                command.args([flag, &url(&client_ports[index])]);
            }
            for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
                command.args([flag, &url(&peer_ports[index])]);
            }
            command.args(["--initial-cluster", &members.join(","), "--initial-cluster-state", "new"]);
            servers.push(Server::start(format!("etcd {index}"), command, dir.join(format!("n{index}.log")))?);
            data_dirs.push(data_dir);
        }
        let connections =
            client_ports.iter().map(|port| (0..CONNECTIONS).map(|_| connect(url(port))).collect::<Result<Vec<_>>>());
        let mut members: Vec<_> = connections.collect::<Result<_>>()?;
        let all: Vec<_> = servers.iter().collect();
        let leader = until_ready("etcd serves", &all, async || leader(&members).await).await?;
        members.rotate_left(leader);
        servers.rotate_left(leader);
        data_dirs.rotate_left(leader);
        Ok(Arc::new(Cluster { servers, data_dirs, members, next: AtomicUsize::new(0) }))
    }
}

fn connect(url: String) -> Result<Channel> {
    Ok(Endpoint::from_shared(url)?.connect_timeout(CONNECT_DEADLINE).tcp_nodelay(true).connect_lazy())
}

/// Which member leads, by the word of all of them.
async fn leader(members: &[Vec<Channel>]) -> Result<usize> {
    let mut found = Vec::new();
    for connections in members {
        let status = MaintenanceClient::new(connections[0].clone()).status(api::StatusRequest {}).await?.into_inner();
        found.push((status.header.context("no header")?.member_id, status.leader));
    }
    let leader = found[0].1;
    ensure!(leader != 0 && found.iter().all(|(_, named)| *named == leader), "the members do not agree on a leader");
    found.iter().position(|(member, _)| *member == leader).context("the leader is no member")
}

struct Cluster {
    servers: Vec<Server>,
    data_dirs: Vec<PathBuf>,
    /// Connections to each member: the leader's first.
    members: Vec<Vec<Channel>>,
    next: AtomicUsize,
}

impl Cluster {
    /// The next connection of each member.
    fn connections(&self) -> Vec<Channel> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS;
        self.members.iter().map(|connections| connections[next].clone()).collect()
    }

    fn client(&self) -> KvClient<Channel> {
        client(self.connections().swap_remove(0))
    }
}

fn client(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// A number is as wide as any, so that keys are in order.
fn key(journal: &str, number: u64) -> Bytes {
    format!("{journal}/{number:020}").into()
}

/// The first key behind a journal's: `/` and its successor.
fn end_of(journal: &str) -> Bytes {
    format!("{journal}0").into()
}

async fn highest(client: &mut KvClient<Channel>, journal: &str) -> Result<u64> {
    let last = api::RangeRequest {
        key: key(journal, 0),
        range_end: end_of(journal),
        limit: 1,
        sort_order: api::range_request::SortOrder::Descend.into(),
        keys_only: true,
    };
    let found = client.range(last).await?.into_inner().kvs;
    let Some(last) = found.first() else { return Ok(0) };
    let number = last.key.rsplit(|byte| *byte == b'/').next().context("no number")?;
    Ok(std::str::from_utf8(number)?.parse()?)
}

#[async_trait]
impl System for Cluster {
    fn servers(&self) -> Vec<u32> {
        self.servers.iter().map(Server::id).collect()
    }

    fn data_dirs(&self) -> Vec<PathBuf> {
        self.data_dirs.clone()
    }

    async fn writer(&self, journal: &str, patience: Duration) -> Result<Box<dyn Writer>> {
        let clients = self.connections().into_iter().map(client).collect();
        Ok(Box::new(Appender { journal: journal.to_owned(), clients, member: 0, highest: 0, patience }))
    }

    async fn replay(&self, journal: &str) -> Result<u64> {
        let mut client = self.client();
        let mut count = 0;
        let mut from = key(journal, 0);
        loop {
            let page = api::RangeRequest {
                key: from,
                range_end: end_of(journal),
                limit: PAGE_KEYS,
                sort_order: api::range_request::SortOrder::None.into(),
                keys_only: false,
            };
            let page = client.range(page).await?.into_inner();
            count += page.kvs.len() as u64;
            match page.kvs.last() {
                Some(last) if page.more => from = [&last.key[..], b"\0"].concat().into(),
                _ => return Ok(count),
            }
        }
    }

    async fn highest(&self, journal: &str) -> Result<u64> {
        highest(&mut self.client(), journal).await
    }

    async fn settle(&self) -> Result<()> {
        for connections in &self.members {
            MaintenanceClient::new(connections[0].clone()).defragment(api::DefragmentRequest {}).await?;
        }
        Ok(())
    }

    async fn kill_leader(&self) -> Result<()> {
        self.servers[leader(&self.members).await?].kill()
    }

    async fn stop(&self) {
        stop_all(&self.servers).await;
    }
}

struct Appender {
    journal: String,
    /// One for each member.
    clients: Vec<KvClient<Channel>>,
    /// Which of them is asked.
    member: usize,
    highest: u64,
    patience: Duration,
}

#[async_trait]
impl Writer for Appender {
    async fn append(&mut self, payload: &Bytes, events: usize) -> Result<()> {
        let events = events as u64;
        let put = |number| {
            let put = api::PutRequest { key: key(&self.journal, number), value: payload.clone() };
            api::RequestOp { request: Some(api::request_op::Request::RequestPut(put)) }
        };
        let not_there = api::Compare {
            result: api::compare::CompareResult::Equal.into(),
            target: api::compare::CompareTarget::Version.into(),
            key: key(&self.journal, self.highest + 1),
            target_union: Some(api::compare::TargetUnion::Version(0)),
        };
        let success = (self.highest + 1..=self.highest + events).map(put).collect();
        let transaction = api::TxnRequest { compare: vec![not_there], success };
        let asked = tokio::time::timeout(self.patience, self.clients[self.member].txn(transaction)).await;
        let answer = match asked.context("no answer").and_then(|answer| Ok(answer?)) {
            Ok(answer) => answer.into_inner(),
            Err(error) => {
                self.member = (self.member + 1) % self.clients.len();
                return Err(error);
            }
        };
        if !answer.succeeded {
            bail!("somebody else has written event {} of {}", self.highest + 1, self.journal);
        }
        self.highest += events;
        Ok(())
    }

    async fn resume(&mut self) -> Result<u64> {
        let found = highest(&mut self.clients[self.member], &self.journal);
        self.highest = tokio::time::timeout(self.patience, found).await.context("no answer")??;
        Ok(self.highest)
    }
}
