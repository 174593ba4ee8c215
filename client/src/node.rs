//! One node as the client sees it: its address, its connections and its pipeline.
//!
//! Three connections, made when first needed: one for requests and answers, one for streams that end, one for follows, which may stand
//! still for long. So a reader who stands still never holds up an acknowledgement, nor a follow a recovery; and follows have so little
//! room each that all of them that a node takes fit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_api::MESSAGE_BYTES_MAX;
use cairn_api::v1::cluster_client::ClusterClient;
use cairn_api::v1::journal_client::JournalClient;
use cairn_api::v1::snapshots_client::SnapshotsClient;
use tonic::transport::{Channel, Endpoint};

use crate::connector::{Connector, connect};
use crate::error::Error;
use crate::limits::{
    CONNECT_TIMEOUT, CONNECTION_WINDOW_BYTES, FOLLOW_WINDOW_BYTES, FRAME_BYTES, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT,
    STREAM_WINDOW_BYTES,
};
use crate::pipeline::{IsDeposed, Pipeline};

/// A node's connections.
pub(crate) struct Node {
    address: String,
    calls: Channel,
    streams: Channel,
    follows: Channel,
    pipeline: Mutex<Option<Pipeline>>,
    attempt_timeout: Duration,
    is_deposed: IsDeposed,
}

impl Node {
    pub(crate) fn new(
        address: &str,
        connector: &Arc<dyn Connector>,
        attempt_timeout: Duration,
        is_deposed: IsDeposed,
    ) -> Result<Arc<Self>, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Error::Invalid { message: format!("address {address:?}: {error}") })?
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        let channel = |stream_window_bytes: u32| {
            let (connector, address) = (connector.clone(), address.to_owned());
            let endpoint = endpoint.clone().initial_stream_window_size(stream_window_bytes);
            endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
                connect(connector.clone(), address.clone(), CONNECT_TIMEOUT)
            }))
        };
        Ok(Arc::new(Self {
            address: address.to_owned(),
            calls: channel(STREAM_WINDOW_BYTES),
            streams: channel(STREAM_WINDOW_BYTES),
            follows: channel(FOLLOW_WINDOW_BYTES),
            pipeline: Mutex::new(None),
            attempt_timeout,
            is_deposed,
        }))
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The pipeline of this node; a new one if there is none or it broke.
    pub(crate) fn pipeline(&self) -> Pipeline {
        let mut pipeline = self.pipeline.lock().unwrap_or_else(PoisonError::into_inner);
        match &*pipeline {
            Some(open) if !open.is_closed() => open.clone(),
            _ => pipeline.insert(Pipeline::open(self.calls.clone(), self.attempt_timeout, self.is_deposed.clone())).clone(),
        }
    }

    /// A request that tells the server how long this try is waited for.
    pub(crate) fn request<M>(&self, message: M) -> tonic::Request<M> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.attempt_timeout);
        request
    }

    pub(crate) fn journal(&self) -> JournalClient<Channel> {
        JournalClient::new(self.calls.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn journal_streams(&self) -> JournalClient<Channel> {
        JournalClient::new(self.streams.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn follows(&self) -> JournalClient<Channel> {
        JournalClient::new(self.follows.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.calls.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn snapshot_streams(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.streams.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.calls.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.address)
    }
}
