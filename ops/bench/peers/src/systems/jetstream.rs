//! NATS JetStream: three servers, one stream with three replicas on files, each journal a subject.
//!
//! An append expects the subject's last sequence, so that a stale writer is refused. A batch is sent at once and its messages are
//! stored one by one: this is no atomic write, which JetStream had not before 2.12. A replay is an ordered push consumer and may be
//! served by a replica that lags; a highest number is asked of the stream's leader. As shipped it syncs every two minutes and not
//! before it answers. Synchronous writes are its own `sync_interval: always` where the server knows that, and else the attribute of
//! its folder that makes the file system sync every write, which new files inherit.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::consumer::push::OrderedConfig;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind, StorageType, Stream};
use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{Client, ConnectOptions};
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::contender::{Contender, NOT_RESTARTED, Skipped, System, Writer};
use crate::plan::Point;
use crate::process::{Server, find_program, free_ports, stop_all, until_ready, version_of};

const STREAM: &str = "events";
/// Connections: one is what most users have; a few let more than one reader of a socket work on each server.
const CONNECTIONS: usize = 3;
/// How long the client itself waits for an answer: longer than the patience of any writer, which is what counts.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// How long the client waits before it connects to another server, beside what the driver waits.
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);
/// The event's number stands in front of its payload.
const NUMBER_BYTES: usize = 8;

/// When it syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// As shipped.
    NowAndThen,
    /// Every write.
    BeforeTheAnswer,
}

/// How synchronous writes are forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forced {
    BySetting,
    ByFolder,
}

/// The server's binary.
pub struct Jetstream {
    binary: Option<PathBuf>,
    sync: Sync,
}

impl Jetstream {
    /// Where it is installed.
    pub fn find(sync: Sync) -> Self {
        Self { binary: find_program("nats-server", &["/usr/sbin", "/usr/local/bin"]), sync }
    }

    /// Whether the server knows the setting; it tests a file by itself.
    fn forced(&self) -> Result<Forced> {
        let binary = self.binary.as_ref().context("not installed")?;
        let dir = tempfile::tempdir().context("make a temporary folder")?;
        let file = dir.path().join("settings");
        fs::write(&file, "jetstream { sync_interval: always }\n").context("write settings")?;
        let tested = Command::new(binary).arg("-t").arg("-c").arg(&file).output().context("ask the server")?;
        Ok(if tested.status.success() { Forced::BySetting } else { Forced::ByFolder })
    }
}

#[async_trait(?Send)]
impl Contender for Jetstream {
    fn name(&self) -> &'static str {
        match self.sync {
            Sync::NowAndThen => "jetstream",
            Sync::BeforeTheAnswer => "jetstream-synced",
        }
    }

    fn title(&self) -> &'static str {
        match self.sync {
            Sync::NowAndThen => "JetStream, unsynced",
            Sync::BeforeTheAnswer => "JetStream, synced",
        }
    }

    fn version(&self) -> Result<String, Skipped> {
        let version = self.binary.as_deref().and_then(|binary| version_of(binary, "--version"));
        let version = version.ok_or_else(|| Skipped("NATS is not installed (Debian: nats-server)".to_owned()))?;
        let version = version.trim_start_matches("nats-server: v");
        if self.sync == Sync::NowAndThen {
            return Ok(version.to_owned());
        }
        Ok(match self.forced().map_err(|error| Skipped(format!("{error:#}")))? {
            Forced::BySetting => format!("{version}, sync_interval: always"),
            Forced::ByFolder => format!("{version}, folder with synchronous writes"),
        })
    }

    fn lacks(&self, point: Point) -> Option<&'static str> {
        if point == Point::Restart {
            return Some(NOT_RESTARTED);
        }
        // It reads as the other one does, and to fill its journals would take minutes.
        (self.sync == Sync::BeforeTheAnswer && point.append().is_none()).then_some("as unsynced")
    }

    async fn start(&self, dir: &Path) -> Result<Arc<dyn System>> {
        let binary = self.binary.as_ref().context("not installed")?;
        let ports = free_ports::<6>()?;
        let (client_ports, route_ports) = ports.split_at(3);
        let routes: Vec<_> = route_ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let forced = match self.sync {
            Sync::NowAndThen => None,
            Sync::BeforeTheAnswer => Some(self.forced()?),
        };
        let (mut servers, mut data_dirs) = (Vec::new(), Vec::new());
        for index in 0..3 {
            let data_dir = dir.join(format!("n{index}"));
            fs::create_dir(&data_dir).context("make a folder")?;
            if forced == Some(Forced::ByFolder) {
                sync_every_write(&data_dir)?;
            }
            let sync = if forced == Some(Forced::BySetting) { "sync_interval: always" } else { "" };
            let settings = format!(
                "server_name: n{index}\nlisten: 127.0.0.1:{}\njetstream {{\n store_dir: {data_dir:?}\n {sync}\n}}\n\
                 cluster {{\n name: peers\n listen: 127.0.0.1:{}\n routes: [{}]\n}}\n",
                client_ports[index],
                route_ports[index],
                routes.join(", "),
            );
            let file = dir.join(format!("n{index}.conf"));
            fs::write(&file, settings).context("write settings")?;
            let mut command = Command::new(binary);
            command.arg("-c").arg(&file);
            servers.push(Server::start(format!("nats-server {index}"), command, dir.join(format!("n{index}.log")))?);
            data_dirs.push(data_dir);
        }
        let addresses: Vec<_> = client_ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let all: Vec<_> = servers.iter().collect();
        let mut contexts = Vec::new();
        for connection in 0..CONNECTIONS {
            // Each begins with another server, and goes on with the others when that is lost.
            let mut addresses = addresses.clone();
            addresses.rotate_left(connection % 3);
            let client = until_ready("NATS serves", &all, async || connect(&addresses).await).await?;
            contexts.push(ContextBuilder::new().timeout(ANSWER_DEADLINE).ack_timeout(ANSWER_DEADLINE).build(client));
        }
        let config = || Config {
            name: STREAM.to_owned(),
            subjects: vec![format!("{STREAM}.>")],
            num_replicas: 3,
            storage: StorageType::File,
            ..Config::default()
        };
        let stream = until_ready("JetStream serves", &all, async || {
            // Before there is a leader nobody answers at all.
            let asked = tokio::time::timeout(Duration::from_secs(2), contexts[0].get_or_create_stream(config()));
            let stream = asked.await.context("no answer")??;
            let cluster = stream.get_info().await?.cluster.context("no cluster")?;
            ensure!(cluster.replicas.len() == 2 && cluster.replicas.iter().all(|replica| replica.current), "replicas lag");
            Ok(stream)
        });
        let stream = stream.await?;
        Ok(Arc::new(Cluster { servers, data_dirs, contexts, stream, next: AtomicUsize::new(0) }))
    }
}

async fn connect(addresses: &[String]) -> Result<Client> {
    let options = ConnectOptions::new().retain_servers_order().reconnect_delay_callback(|_| RECONNECT_PAUSE);
    // Errors of a connection reach those who wait for answers.
    Ok(options
        .event_callback(|_| async {})
        .connect(addresses.iter().map(|address| address.parse()).collect::<Result<Vec<async_nats::ServerAddr>, _>>()?)
        .await?)
}

/// Sets the attribute that makes the file system sync every write to the folder's files, also to those to come.
fn sync_every_write(dir: &Path) -> Result<()> {
    let folder = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
    let set = ioctl_getflags(&folder).and_then(|flags| ioctl_setflags(&folder, flags | IFlags::SYNC));
    set.context("the file system has no attribute for synchronous writes")
}

struct Cluster {
    servers: Vec<Server>,
    data_dirs: Vec<PathBuf>,
    contexts: Vec<Context>,
    stream: Stream,
    next: AtomicUsize,
}

impl Cluster {
    fn context(&self) -> Context {
        self.contexts[self.next.fetch_add(1, Ordering::Relaxed) % self.contexts.len()].clone()
    }
}

/// The place in the stream and the number of a journal's last event; zeros if there is none.
async fn last(stream: &Stream<()>, subject: &str) -> Result<(u64, u64)> {
    match stream.get_last_raw_message_by_subject(subject).await {
        Ok(message) => {
            let number = message.payload.first_chunk::<NUMBER_BYTES>().context("a message without a number")?;
            Ok((message.sequence, u64::from_le_bytes(*number)))
        }
        Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok((0, 0)),
        Err(error) => Err(error.into()),
    }
}

fn subject(journal: &str) -> String {
    format!("{STREAM}.{journal}")
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
        let context = self.context();
        let stream = context.get_stream_no_info(STREAM).await?;
        Ok(Box::new(Publisher { subject: subject(journal), context, stream, sequence: 0, highest: 0, patience }))
    }

    async fn replay(&self, journal: &str) -> Result<u64> {
        let context = self.context();
        let stream = context.get_stream_no_info(STREAM).await?;
        let config = OrderedConfig {
            deliver_subject: context.client().new_inbox(),
            filter_subject: subject(journal),
            ..OrderedConfig::default()
        };
        let mut messages = stream.create_consumer(config).await?.messages().await?;
        let mut count = 0;
        while let Some(message) = messages.try_next().await? {
            count += 1;
            if message.info().map_err(|error| anyhow::anyhow!(error))?.pending == 0 {
                break;
            }
        }
        Ok(count)
    }

    async fn highest(&self, journal: &str) -> Result<u64> {
        let stream = self.context().get_stream_no_info(STREAM).await?;
        Ok(last(&stream, &subject(journal)).await?.1)
    }

    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    async fn kill_leader(&self) -> Result<()> {
        let leader = self.stream.get_info().await?.cluster.and_then(|cluster| cluster.leader).context("no leader")?;
        let index: usize = leader.trim_start_matches('n').parse().with_context(|| format!("{leader} is none of ours"))?;
        self.servers.get(index).context("no such server")?.kill()
    }

    async fn stop(&self) {
        stop_all(&self.servers).await;
    }
}

struct Publisher {
    subject: String,
    context: Context,
    stream: Stream<()>,
    /// The last event's place in the stream: what the next one expects.
    sequence: u64,
    highest: u64,
    patience: Duration,
}

#[async_trait]
impl Writer for Publisher {
    async fn append(&mut self, payload: &Bytes, events: usize) -> Result<()> {
        let message = |number: u64| {
            let mut numbered = BytesMut::with_capacity(NUMBER_BYTES + payload.len());
            numbered.put_u64_le(number);
            numbered.extend_from_slice(payload);
            PublishMessage::build().payload(numbered.freeze())
        };
        let expecting = message(self.highest + 1).expected_last_subject_sequence(self.sequence);
        let published = async {
            let mut stored = vec![self.context.send_publish(self.subject.clone(), expecting).await?];
            for number in self.highest + 2..=self.highest + events as u64 {
                stored.push(self.context.send_publish(self.subject.clone(), message(number)).await?);
            }
            let stored = futures::stream::iter(stored).then(IntoFuture::into_future).try_collect::<Vec<_>>().await?;
            Ok::<_, anyhow::Error>(stored.last().context("no events")?.sequence)
        };
        self.sequence = tokio::time::timeout(self.patience, published).await.context("no answer")??;
        self.highest += events as u64;
        Ok(())
    }

    async fn resume(&mut self) -> Result<u64> {
        let found = tokio::time::timeout(self.patience, last(&self.stream, &self.subject)).await.context("no answer")?;
        (self.sequence, self.highest) = found?;
        Ok(self.highest)
    }
}
