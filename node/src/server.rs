//! The client port: the public services behind their limits, and gRPC health.

use std::sync::Arc;
use std::time::Duration;

use cairn_api::MESSAGE_BYTES_MAX;
use cairn_api::v1::cluster_server::ClusterServer;
use cairn_api::v1::journal_server::JournalServer;
use cairn_api::v1::snapshots_server::SnapshotsServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::core::Core;
use crate::failed::Failed;
use crate::network::{Guard, GuardSettings};
use crate::readiness::Reason;
use crate::service::{ClusterService, JournalService, SnapshotsService};
use crate::settings::LimitSettings;

/// Bytes that a client may have on their way in one stream, and in one connection.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Largest frame that a client may send, in bytes: fewer system calls for a large request, and not so large that the memory which one is
/// read into is new each time.
const FRAME_BYTES: u32 = 64 * 1024;
/// Streams that a client has reset and that are not cleared away yet; beyond it the connection is closed (rapid reset).
const RESET_STREAMS_MAX: usize = 64;

/// How a port of this node is guarded.
pub(crate) fn guard_settings(limits: &LimitSettings, cut: &CancellationToken) -> GuardSettings {
    GuardSettings {
        connections_max: limits.connections_max,
        handshake_deadline: Duration::from_millis(limits.handshake_deadline_ms),
        cut: cut.clone(),
    }
}

/// Serves the client port until the node's streams have ended.
pub(crate) fn spawn(
    port: Guard,
    core: Arc<Core>,
    readiness: watch::Receiver<Vec<Reason>>,
    tasks: &TaskTracker,
    failed: &watch::Sender<Option<Failed>>,
) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let stopping = core.stopping.clone();
    tasks.spawn(report_health(reporter, readiness, core.stopping.clone()));
    let limits = &core.settings.limits;
    let mut server = Server::builder()
        .max_concurrent_streams(Some(limits.streams_per_connection_max))
        .http2_max_header_list_size(Some(limits.header_bytes_max))
        .http2_keepalive_interval(Some(Duration::from_millis(limits.keepalive_interval_ms)))
        .http2_keepalive_timeout(Some(Duration::from_millis(limits.keepalive_timeout_ms)))
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS_MAX))
        .http2_max_local_error_reset_streams(Some(RESET_STREAMS_MAX))
        .initial_stream_window_size(Some(STREAM_WINDOW_BYTES))
        .initial_connection_window_size(Some(CONNECTION_WINDOW_BYTES))
        .max_frame_size(Some(FRAME_BYTES));
    let router = server
        .add_service(health)
        .add_service(
            JournalServer::new(JournalService { core: Arc::clone(&core) })
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            SnapshotsServer::new(SnapshotsService { core: Arc::clone(&core) })
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(ClusterServer::new(ClusterService::new(core)).max_decoding_message_size(MESSAGE_BYTES_MAX));
    let failed = failed.clone();
    tasks.spawn(async move {
        let served = router.serve_with_incoming_shutdown(port.into_stream(), stopping.clone().cancelled_owned()).await;
        if !stopping.is_cancelled() {
            let reason = served.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
            failed.send_replace(Some(Failed::Port { port: "client", reason }));
        }
    });
}

/// Keeps gRPC health as the node's readiness is: of the node as a whole, under the empty name.
async fn report_health(reporter: HealthReporter, mut readiness: watch::Receiver<Vec<Reason>>, stopping: CancellationToken) {
    loop {
        let status = if readiness.borrow_and_update().is_empty() { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        tokio::select! {
            biased;
            () = stopping.cancelled() => {
                reporter.set_service_status("", ServingStatus::NotServing).await;
                return;
            }
            changed = readiness.changed() => if changed.is_err() { return },
        }
    }
}
