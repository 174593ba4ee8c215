//! PostgreSQL: a primary and two standbys, of which any one must have synced a commit.
//!
//! Each event is a row; the primary key (persistence id, number) refuses the stale writer. A batch is one statement, so it is stored
//! whole. Statements are prepared, connections are kept, and there are not more of them than a pool has: beyond that writers share.
//! There is no automatic failover: that is the work of other programs.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio_postgres::{Client, Config, NoTls, Statement};

use crate::contender::{Contender, NOT_RESTARTED, Skipped, System, Writer};
use crate::plan::Point;
use crate::process::{Server, find_program, free_ports, run, stop_all, until_ready, version_of};

/// Where distributions keep it, with the major version in between.
const PLACES: &[(&str, &str)] = &[("/usr/lib/postgresql", "bin"), ("/usr/local/pgsql", "bin")];
/// Whose processes they are when we are root: PostgreSQL refuses to run as root.
const USER: &str = "postgres";
/// Connections of a pool.
const CONNECTIONS: usize = 128;
/// Connections that the server takes.
const CONNECTIONS_MAX: usize = 200;

const SCHEMA: &str = "CREATE TABLE event (
    persistence_id text NOT NULL, number bigint NOT NULL, payload bytea NOT NULL, PRIMARY KEY (persistence_id, number)
)";
const INSERT: &str = "INSERT INTO event (persistence_id, number, payload) VALUES ($1, $2, $3)";
const INSERT_MANY: &str = "INSERT INTO event (persistence_id, number, payload)
    SELECT $1, $2 + place - 1, payload FROM unnest($3::bytea[]) WITH ORDINALITY AS new (payload, place)";
const REPLAY: &str = "SELECT number, payload FROM event WHERE persistence_id = $1 ORDER BY number";
const HIGHEST: &str = "SELECT coalesce(max(number), 0) FROM event WHERE persistence_id = $1";

/// PostgreSQL's programs.
pub struct Postgresql {
    programs: Option<PathBuf>,
}

impl Postgresql {
    /// Where it is installed: the newest of several.
    pub fn find() -> Self {
        let mut found = BTreeMap::new();
        for (place, programs) in PLACES {
            for entry in std::fs::read_dir(place).into_iter().flatten().filter_map(Result::ok) {
                let (dir, version) = (entry.path().join(programs), entry.file_name().to_string_lossy().parse::<u32>());
                if let (true, Ok(version)) = (dir.join("postgres").is_file(), version) {
                    found.insert(version, dir);
                }
            }
        }
        let newest = found.pop_last().map(|(_, dir)| dir);
        Self { programs: newest.or_else(|| Some(find_program("postgres", &[])?.parent()?.to_owned())) }
    }
}

#[async_trait(?Send)]
impl Contender for Postgresql {
    fn name(&self) -> &'static str {
        "postgresql"
    }

    fn title(&self) -> &'static str {
        "PostgreSQL"
    }

    fn version(&self) -> Result<String, Skipped> {
        let version = self.programs.as_deref().and_then(|programs| version_of(&programs.join("postgres"), "--version"));
        let version = version.ok_or_else(|| Skipped("PostgreSQL is not installed (Debian: postgresql)".to_owned()))?;
        Owner::find().map_err(|error| Skipped(format!("{error:#}")))?;
        Ok(version.trim_start_matches("postgres (PostgreSQL) ").to_owned())
    }

    fn lacks(&self, point: Point) -> Option<&'static str> {
        match point {
            Point::Failover => Some("no automatic failover"),
            Point::Restart => Some(NOT_RESTARTED),
            _ => None,
        }
    }

    async fn start(&self, dir: &Path) -> Result<Arc<dyn System>> {
        let programs = self.programs.as_ref().context("not installed")?;
        let owner = Owner::find()?;
        owner.give(dir)?;
        let ports = free_ports::<3>()?;
        let data_dirs: Vec<_> = (0..3).map(|index| dir.join(format!("data-{index}"))).collect();
        let mut initdb = owner.command(&programs.join("initdb"));
        initdb
            .args(["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--username", USER, "--pgdata"])
            .arg(&data_dirs[0]);
        run(initdb).await?;
        let server = |index: usize, settings: &[String]| {
            let mut command = owner.command(&programs.join("postgres"));
            command.arg("-D").arg(&data_dirs[index]);
            let common = [
                format!("port={}", ports[index]),
                format!("max_connections={CONNECTIONS_MAX}"),
                "listen_addresses=127.0.0.1".to_owned(),
                "unix_socket_directories=".to_owned(),
            ];
            for setting in common.iter().chain(settings) {
                command.args(["-c", setting]);
            }
            let log = dir.join(format!("log-{index}"));
            // Fast shutdown: connections are not waited for.
            Ok::<_, anyhow::Error>(Server::start(format!("PostgreSQL {index}"), command, log)?.stopped_with(Signal::INT))
        };
        let mut servers = vec![server(0, &["synchronous_standby_names=ANY 1 (standby1, standby2)".to_owned()])?];
        let client = until_ready("the primary serves", &[&servers[0]], async || Ok(connect(ports[0]).await?)).await?;
        for (index, data_dir) in data_dirs.iter().enumerate().skip(1) {
            let mut backup = owner.command(&programs.join("pg_basebackup"));
            backup.args([
                "--host=127.0.0.1",
                "--checkpoint=fast",
                "--no-sync",
                "--username",
                USER,
                "--port",
                &ports[0].to_string(),
            ]);
            backup.arg("--pgdata").arg(data_dir);
            run(backup).await?;
            let mark = data_dir.join("standby.signal");
            std::fs::write(&mark, "").with_context(|| format!("write {}", mark.display()))?;
            owner.give(&mark)?;
            let primary =
                format!("primary_conninfo=host=127.0.0.1 port={} user={USER} application_name=standby{index}", ports[0]);
            servers.push(server(index, &[primary])?);
        }
        let all: Vec<_> = servers.iter().collect();
        until_ready("two standbys follow", &all, async || {
            let count = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'quorum'";
            let count: i64 = client.query_one(count, &[]).await?.get(0);
            ensure!(count == 2, "{count} standbys follow");
            Ok(())
        })
        .await?;
        client.batch_execute(SCHEMA).await.context("make the table")?;
        let sessions = (0..CONNECTIONS).map(|_| Mutex::new(None)).collect();
        Ok(Arc::new(Cluster { servers, data_dirs, ports, sessions, next: AtomicUsize::new(0) }))
    }
}

/// Who owns the servers and their files.
struct Owner(Option<(u32, u32)>);

impl Owner {
    /// The user for it if we are root, else ourselves.
    fn find() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self(None));
        }
        let users = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == USER);
        let fields = fields.with_context(|| format!("PostgreSQL does not run as root, and there is no user {USER}"))?;
        let [_, _, user, group, ..] = fields[..] else { bail!("/etc/passwd: the line of {USER} is short") };
        Ok(Self(Some((user.parse()?, group.parse()?))))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Self(Some((user, group))) = *self {
            command.uid(user).gid(group);
        }
        // It must not be looked up where its owner may not go.
        command.current_dir("/").env("TZ", "UTC");
        command
    }

    /// Makes it theirs, in a folder that they may enter.
    fn give(&self, path: &Path) -> Result<()> {
        if let Self(Some((user, group))) = *self {
            chown(path, Some(user), Some(group)).with_context(|| format!("give {} to {USER}", path.display()))?;
            if path.is_dir()
                && let Some(parent) = path.parent()
            {
                let mode = std::fs::metadata(parent)?.permissions().mode();
                ensure!(mode & 0o001 != 0, "{USER} may not enter {}", parent.display());
            }
        }
        Ok(())
    }
}

async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = Config::new().host("127.0.0.1").port(port).user(USER).dbname(USER).connect(NoTls).await?;
    tokio::spawn(async move {
        // Its error is every caller's too.
        let _ = connection.await;
    });
    Ok(client)
}

/// A connection with its statements.
struct Session {
    client: Client,
    insert: Statement,
    insert_many: Statement,
    replay: Statement,
    highest: Statement,
}

impl Session {
    async fn open(port: u16) -> Result<Self> {
        let client = connect(port).await.context("connect")?;
        let [insert, insert_many, replay, highest] = [
            client.prepare(INSERT).await?,
            client.prepare(INSERT_MANY).await?,
            client.prepare(REPLAY).await?,
            client.prepare(HIGHEST).await?,
        ];
        Ok(Self { client, insert, insert_many, replay, highest })
    }

    async fn highest(&self, journal: &str) -> Result<u64> {
        let highest: i64 = self.client.query_one(&self.highest, &[&journal]).await?.get(0);
        Ok(u64::try_from(highest)?)
    }
}

struct Cluster {
    servers: Vec<Server>,
    data_dirs: Vec<PathBuf>,
    ports: [u16; 3],
    /// The pool: opened when first used.
    sessions: Vec<Mutex<Option<Arc<Session>>>>,
    next: AtomicUsize,
}

impl Cluster {
    async fn session(&self) -> Result<Arc<Session>> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS;
        let mut session = self.sessions[next].lock().await;
        if let Some(session) = &*session {
            return Ok(session.clone());
        }
        Ok(session.insert(Arc::new(Session::open(self.ports[0]).await?)).clone())
    }
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
        Ok(Box::new(Appender { journal: journal.to_owned(), session: self.session().await?, highest: 0, patience }))
    }

    async fn replay(&self, journal: &str) -> Result<u64> {
        let session = self.session().await?;
        let rows = session.client.query_raw(&session.replay, [journal]).await?;
        let mut rows = std::pin::pin!(rows);
        let mut count = 0;
        while let Some(row) = rows.try_next().await? {
            let (_, _): (i64, &[u8]) = (row.get(0), row.get(1));
            count += 1;
        }
        Ok(count)
    }

    async fn highest(&self, journal: &str) -> Result<u64> {
        self.session().await?.highest(journal).await
    }

    async fn settle(&self) -> Result<()> {
        for port in self.ports {
            connect(port).await?.batch_execute("CHECKPOINT").await?;
        }
        Ok(())
    }

    async fn kill_leader(&self) -> Result<()> {
        bail!("there is no automatic failover")
    }

    async fn stop(&self) {
        stop_all(&self.servers).await;
    }
}

struct Appender {
    journal: String,
    session: Arc<Session>,
    highest: u64,
    patience: Duration,
}

#[async_trait]
impl Writer for Appender {
    async fn append(&mut self, payload: &Bytes, events: usize) -> Result<()> {
        let first = i64::try_from(self.highest + 1)?;
        let Session { client, insert, insert_many, .. } = &*self.session;
        let inserted = async {
            if events == 1 {
                client.execute(insert, &[&self.journal, &first, &&payload[..]]).await
            } else {
                client.execute(insert_many, &[&self.journal, &first, &vec![&payload[..]; events]]).await
            }
        };
        let rows = tokio::time::timeout(self.patience, inserted).await.context("no answer")??;
        ensure!(rows == events as u64, "{rows} of {events} events were stored");
        self.highest += events as u64;
        Ok(())
    }

    async fn resume(&mut self) -> Result<u64> {
        self.highest = tokio::time::timeout(self.patience, self.session.highest(&self.journal)).await.context("no answer")??;
        Ok(self.highest)
    }
}
