//! The operators' port: `/livez`, `/readyz` with its reasons, and `/metrics`.

use std::io;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::network::{Guard, Guarded};
use crate::readiness::Reason;

#[derive(Clone)]
struct Operators {
    metrics: Metrics,
    readiness: watch::Receiver<Vec<Reason>>,
}

/// Serves the operators' port until `stop` is ready.
pub(crate) async fn serve(
    guard: Guard,
    metrics: Metrics,
    readiness: watch::Receiver<Vec<Reason>>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Operators { metrics, readiness });
    axum::serve(guard, routes).with_graceful_shutdown(stop).await
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

impl axum::serve::Listener for Guard {
    type Io = Guarded;
    type Addr = String;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        (Self::accept(self).await, String::new())
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address())
    }
}
