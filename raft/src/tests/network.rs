//! The network of the nodes of one test: links that can be cut, and held without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::PeerConnector;

/// Links between nodes, by peer address.
#[derive(Clone, Default)]
pub struct Network {
    state: Arc<Mutex<NetworkState>>,
}

#[derive(Default)]
struct NetworkState {
    listeners: BTreeMap<String, mpsc::Sender<std::io::Result<DuplexStream>>>,
    /// Pairs of caller and called that cannot reach each other; neither new nor open connections.
    cut: BTreeSet<(String, String)>,
    /// Pairs of caller and called on whose connections nothing leaves the caller, without a word.
    calls_held: BTreeSet<(String, String)>,
    /// Pairs of caller and called on whose connections nothing reaches the caller, without a word.
    answers_held: BTreeSet<(String, String)>,
    /// Connections that wait for a release.
    waiting: Vec<Waker>,
    connects: BTreeMap<(String, String), u64>,
    cuts: u64,
}

impl Network {
    pub fn listen(&self, address: &str) -> ReceiverStream<std::io::Result<DuplexStream>> {
        let (sender, incoming) = mpsc::channel(64);
        self.state.lock().unwrap().listeners.insert(address.to_owned(), sender);
        ReceiverStream::new(incoming)
    }

    fn connect(&self, from: &str, to: &str) -> std::io::Result<Wire> {
        let mut state = self.state.lock().unwrap();
        let pair = (from.to_owned(), to.to_owned());
        *state.connects.entry(pair.clone()).or_default() += 1;
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        if state.cut.contains(&pair) {
            return Err(refused());
        }
        let (near, far) = tokio::io::duplex(256 * 1024);
        state.listeners.get(to).ok_or_else(refused)?.try_send(Ok(far)).map_err(|_| refused())?;
        Ok(Wire { stream: near, network: self.clone(), pair })
    }

    /// Cuts a node from all others, both ways.
    pub fn isolate(&self, address: &str) {
        let mut state = self.state.lock().unwrap();
        let others: Vec<String> = state.listeners.keys().filter(|other| *other != address).cloned().collect();
        for other in others {
            state.cut.insert((address.to_owned(), other.clone()));
            state.cut.insert((other, address.to_owned()));
        }
        state.cuts += 1;
    }

    /// Lets a node's links bring nothing, without a word: as when its machine stands still.
    pub fn hold(&self, address: &str) {
        let others: Vec<String> =
            self.state.lock().unwrap().listeners.keys().filter(|other| *other != address).cloned().collect();
        for other in others {
            self.hold_calls(address, &other);
            self.hold_calls(&other, address);
        }
    }

    /// Lets what one node calls another one for wait, and the answers; what that one calls for goes on.
    pub fn hold_calls(&self, from: &str, to: &str) {
        let mut state = self.state.lock().unwrap();
        let pair = (from.to_owned(), to.to_owned());
        state.calls_held.insert(pair.clone());
        state.answers_held.insert(pair);
    }

    /// The answers to what one node called another one for come in; what it calls for now waits on.
    pub fn release_answers(&self, from: &str, to: &str) {
        let mut state = self.state.lock().unwrap();
        state.answers_held.remove(&(from.to_owned(), to.to_owned()));
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// What was held travels on.
    pub fn release(&self) {
        let mut state = self.state.lock().unwrap();
        state.calls_held.clear();
        state.answers_held.clear();
        state.waiting.drain(..).for_each(Waker::wake);
    }

    pub fn heal(&self) {
        self.state.lock().unwrap().cut.clear();
    }

    /// How often a node tried to connect to another one.
    pub fn connects(&self, from: &str, to: &str) -> u64 {
        self.state.lock().unwrap().connects.get(&(from.to_owned(), to.to_owned())).copied().unwrap_or(0)
    }
}

/// The caller's end of a connection: it breaks when its link is cut.
struct Wire {
    stream: DuplexStream,
    network: Network,
    pair: (String, String),
}

/// Which way something goes on a connection.
#[derive(Clone, Copy)]
enum Way {
    Call,
    Answer,
}

impl Wire {
    fn poll_open(&self, way: Way, context: &Context<'_>) -> Poll<std::io::Result<()>> {
        let mut state = self.network.state.lock().unwrap();
        if state.cut.contains(&self.pair) {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        let held = match way {
            Way::Call => &state.calls_held,
            Way::Answer => &state.answers_held,
        };
        if !held.contains(&self.pair) {
            return Poll::Ready(Ok(()));
        }
        state.waiting.push(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        std::task::ready!(self.poll_open(Way::Answer, context))?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        std::task::ready!(self.poll_open(Way::Call, context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        std::task::ready!(self.poll_open(Way::Call, context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

pub struct Connector {
    pub network: Network,
    pub from: String,
}

impl PeerConnector for Connector {
    fn channel(&self, address: &str) -> Result<Channel, String> {
        let (network, from, to) = (self.network.clone(), self.from.clone(), address.to_owned());
        let service = tower::service_fn(move |_| {
            let wire = network.connect(&from, &to).map(TokioIo::new);
            async move { wire }
        });
        Ok(Endpoint::from_static("http://peer").connect_with_connector_lazy(service))
    }
}
