//! The operators' port: `/livez`, `/readyz` with its reasons, and `/metrics`.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::network::Guard;
use crate::readiness::Reason;

#[derive(Clone)]
struct Operators {
    metrics: Metrics,
    readiness: watch::Receiver<Vec<Reason>>,
}

/// Serves the operators' port until `stop` is ready, and then what was asked before. A connection that has not sent the headers of a
/// request within `headers_deadline` is closed: it holds one of a bounded number of places.
pub(crate) async fn serve(
    mut guard: Guard,
    metrics: Metrics,
    readiness: watch::Receiver<Vec<Reason>>,
    headers_deadline: Duration,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let routes = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Operators { metrics, readiness });
    let routes = TowerToHyperService::new(routes);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(headers_deadline);
    let connections = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let connection = tokio::select! {
            biased;
            () = &mut stop => break,
            connection = guard.accept() => TokioIo::new(connection),
        };
        let serving = connections.watch(http.serve_connection(connection, routes.clone()));
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a connection of the operators' port ended badly");
            }
        });
    }
    connections.shutdown().await;
}

async fn live() -> &'static str {
    "ok\n"
}

async fn ready(State(operators): State<Operators>) -> impl IntoResponse {
    let reasons = operators.readiness.borrow().clone();
    if reasons.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines = reasons.iter().map(|reason| format!("{reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

async fn metrics_text(State(operators): State<Operators>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], operators.metrics.render())
}
