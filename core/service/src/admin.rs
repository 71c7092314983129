//! The admin listener: health, readiness and metrics, on an address of its own (loopback or a private
//! network), in plain HTTP.
//!
//! Invariant: it goes on answering while the process leaves, so that leaving can be watched.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::header;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::health::Readiness;
use crate::listener::{ListenError, Listener, ListenerLimits};
use crate::{problem, tasks};

/// How often the metrics' histograms are folded together.
const METRICS_UPKEEP_MS: u64 = 5_000;
/// Most connections of scrapers and probes at once.
const ADMIN_MAX_CONNECTIONS: usize = 64;

/// Binds and serves `/healthz`, `/readyz` and `/metrics` until the process ends; returns the address.
/// `extra` adds routes of the service's own, such as `/topology`.
pub async fn start(
    addr: SocketAddr,
    readiness: &Readiness,
    metrics: PrometheusHandle,
    extra: Router,
) -> Result<SocketAddr, ListenError> {
    let limits = ListenerLimits { max_connections: ADMIN_MAX_CONNECTIONS, ..Default::default() };
    let listener = Listener::bind(addr, None, limits).await?;
    let bound = listener.local_addr();
    let upkeep = metrics.clone();
    tasks::spawn("metrics-upkeep", async move {
        loop {
            tokio::time::sleep(Duration::from_millis(METRICS_UPKEEP_MS)).await;
            upkeep.run_upkeep();
        }
    });
    let app = routes(readiness, metrics).merge(extra).fallback(problem::not_found);
    tasks::spawn("admin", async move {
        listener.serve_until(std::future::pending(), Duration::ZERO, app).await;
    });
    Ok(bound)
}

fn routes(readiness: &Readiness, metrics: PrometheusHandle) -> Router {
    let scrape = move || {
        let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
        std::future::ready((text, metrics.render()))
    };
    Router::new()
        .route("/healthz", get(|| std::future::ready("ok\n")))
        .route("/metrics", get(scrape))
        .merge(readiness.routes())
}
