//! Floor: what gRPC costs. A server that gives back what it gets, asked one call at a time or on one stream for all.
//!
//! Server and clients are in this process, so that the client's processor time is that of both. One connection, as one client of
//! a service has it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::contender::{Contender, Skipped, System, Writer};
use crate::plan::Point;

/// Generated from `proto/echo.proto`.
#[allow(missing_docs, unused_qualifications, clippy::all, reason = "generated")]
mod api {
    tonic::include_proto!("cairn.bench.echo");
}

use api::Ball;
use api::echo_client::EchoClient;
use api::echo_server::EchoServer;

/// Questions on their way at the same time: more than writers.
const IN_FLIGHT_MAX: usize = 4096;

/// How the server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// A call for each question.
    Unary,
    /// One stream for all.
    Stream,
}

#[async_trait(?Send)]
impl Contender for Echo {
    fn name(&self) -> &'static str {
        match self {
            Self::Unary => "echo-unary",
            Self::Stream => "echo-stream",
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::Unary => "floor: gRPC echo, unary",
            Self::Stream => "floor: gRPC echo, one stream",
        }
    }

    fn is_system(&self) -> bool {
        false
    }

    fn version(&self) -> Result<String, Skipped> {
        Ok("tonic".to_owned())
    }

    fn lacks(&self, point: Point) -> Option<&'static str> {
        super::floor_lacks(point)
    }

    async fn start(&self, _: &Path) -> Result<Arc<dyn System>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr()?))?.tcp_nodelay(true);
        let serve = tonic::transport::Server::builder().add_service(EchoServer::new(Wall));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = tokio::spawn(async move { serve.serve_with_incoming(incoming).await });
        let client = EchoClient::new(endpoint.connect().await.context("connect")?);
        let asked = match self {
            Self::Unary => Asked::Unary(client),
            Self::Stream => Asked::Stream(Arc::new(One::open(client).await?)),
        };
        Ok(Arc::new(Running { server, asked }))
    }
}

struct Wall;

#[async_trait]
impl api::echo_server::Echo for Wall {
    async fn once(&self, request: Request<Ball>) -> Result<Response<Ball>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    type ManyStream = Pin<Box<dyn Stream<Item = Result<Ball, Status>> + Send>>;

    async fn many(&self, request: Request<Streaming<Ball>>) -> Result<Response<Self::ManyStream>, Status> {
        Ok(Response::new(Box::pin(request.into_inner())))
    }
}

#[derive(Clone)]
enum Asked {
    Unary(EchoClient<Channel>),
    Stream(Arc<One>),
}

/// The one stream: answers come in the order of the questions.
struct One {
    questions: mpsc::Sender<Ball>,
    waiting: Arc<Mutex<VecDeque<oneshot::Sender<Bytes>>>>,
    answers: JoinHandle<()>,
}

impl One {
    async fn open(mut client: EchoClient<Channel>) -> Result<Self> {
        let (questions, asked) = mpsc::channel(IN_FLIGHT_MAX);
        let mut answered = client.many(ReceiverStream::new(asked)).await.context("open a stream")?.into_inner();
        let waiting = Arc::new(Mutex::new(VecDeque::<oneshot::Sender<Bytes>>::new()));
        let take = waiting.clone();
        let answers = tokio::spawn(async move {
            while let Ok(Some(ball)) = answered.message().await {
                let asker = take.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                // A writer may have given up.
                asker.map(|asker| asker.send(ball.payload));
            }
            take.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
        Ok(Self { questions, waiting, answers })
    }

    async fn ask(&self, payload: Bytes) -> Result<Bytes> {
        let room = self.questions.reserve().await.context("the stream has ended")?;
        let (asker, answer) = oneshot::channel();
        {
            // Both at once, so that the order is the same.
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push_back(asker);
            room.send(Ball { payload });
        }
        answer.await.context("the stream has ended")
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

struct Running {
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    asked: Asked,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[async_trait]
impl System for Running {
    fn servers(&self) -> Vec<u32> {
        Vec::new()
    }

    fn data_dirs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    async fn writer(&self, _: &str, _: Duration) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Player(self.asked.clone())))
    }

    async fn replay(&self, _: &str) -> Result<u64> {
        bail!("a floor reads nothing")
    }

    async fn highest(&self, _: &str) -> Result<u64> {
        bail!("a floor reads nothing")
    }

    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    async fn kill_leader(&self) -> Result<()> {
        bail!("a floor has no leader")
    }

    async fn stop(&self) {
        self.server.abort();
    }
}

struct Player(Asked);

#[async_trait]
impl Writer for Player {
    async fn append(&mut self, payload: &Bytes, events: usize) -> Result<()> {
        ensure!(events == 1, "a floor knows no batches");
        let back = match &mut self.0 {
            Asked::Unary(client) => client.once(Ball { payload: payload.clone() }).await?.into_inner().payload,
            Asked::Stream(one) => one.ask(payload.clone()).await?,
        };
        ensure!(back.len() == payload.len(), "an echo gives back what it gets");
        Ok(())
    }

    async fn resume(&mut self) -> Result<u64> {
        bail!("a floor does not know what it holds")
    }
}
