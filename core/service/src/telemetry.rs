//! Logs, traces and metrics.
//!
//! Invariants: one JSON object per line on stdout; inside a request every line has its `trace_id` and
//! `span_id`; spans leave the process only when a collector is configured; label values are few and never
//! name a player, token or body.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domicile_core::ids::NodeId;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId};
use opentelemetry::trace::{TraceState, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::Deserialize;
use thiserror::Error;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

mod json_log;

use crate::trace::Trace;
use json_log::JsonLog;

/// Bounds of the `*_seconds` histograms: from a cache hit to a switchover.
const SECONDS_BUCKETS: [f64; 16] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
];
/// Bounds of the `*_bytes` histograms.
const BYTES_BUCKETS: [f64; 7] =
    [256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];
/// Bounds of the `*_items` histograms: how much one batch holds.
const ITEMS_BUCKETS: [f64; 11] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];
/// How long one export to the collector may take, and the last one at the end.
const EXPORT_TIMEOUT_MS: u64 = 3_000;

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// What is logged: a level, or directives such as `info,access=off,domicile_writer=debug`.
    pub level: String,
    /// The collector's OTLP/gRPC URL, such as `http://127.0.0.1:4317`.
    pub otlp_endpoint: Option<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), otlp_endpoint: None }
    }
}

/// Why telemetry could not start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// `level` is not understood.
    #[error("telemetry.level is not a list of log directives")]
    Level(#[source] tracing_subscriber::filter::ParseError),
    /// The collector's URL is not usable.
    #[error("telemetry.otlp_endpoint cannot be used")]
    Exporter(#[source] ExporterBuildError),
    /// Metrics could not be installed.
    #[error("metrics cannot be installed")]
    Metrics(#[source] BuildError),
    /// Logging was already installed.
    #[error("telemetry was already started")]
    Started(#[source] TryInitError),
}

/// Running telemetry; dropping it sends what is left to the collector.
#[derive(Debug)]
#[must_use = "dropping it ends the export"]
pub struct Telemetry {
    metrics: PrometheusHandle,
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// What `/metrics` renders.
    pub fn metrics(&self) -> PrometheusHandle {
        self.metrics.clone()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.provider
            && let Err(error) =
                provider.shutdown_with_timeout(Duration::from_millis(EXPORT_TIMEOUT_MS))
        {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// Starts logging, metrics and, when configured, the export of spans. Once per process, in a runtime.
pub fn init(
    config: &TelemetryConfig,
    service: &'static str,
    node: &NodeId,
) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(&config.level).map_err(TelemetryError::Level)?;
    let provider = match &config.otlp_endpoint {
        Some(endpoint) => Some(export_to(endpoint, service, node)?),
        None => None,
    };
    let spans = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(service)));
    let metrics = metrics_builder()?.install_recorder().map_err(TelemetryError::Metrics)?;
    tracing_subscriber::registry()
        .with(filter)
        .with(JsonLog::new(std::io::stdout, service, node))
        .with(spans)
        .try_init()
        .map_err(TelemetryError::Started)?;
    EXPORTING.store(provider.is_some(), Ordering::Relaxed);
    Ok(Telemetry { metrics, provider })
}

static EXPORTING: AtomicBool = AtomicBool::new(false);

fn export_to(
    endpoint: &str,
    service: &'static str,
    node: &NodeId,
) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_millis(EXPORT_TIMEOUT_MS))
        .build()
        .map_err(TelemetryError::Exporter)?;
    let instance = KeyValue::new("service.instance.id", node.as_str().to_owned());
    let resource = Resource::builder_empty().with_service_name(service).with_attribute(instance);
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build())
}

fn metrics_builder() -> Result<PrometheusBuilder, TelemetryError> {
    let suffix = |text: &str| Matcher::Suffix(text.to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("_seconds"), &SECONDS_BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_bytes"), &BYTES_BUCKETS))
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_items"), &ITEMS_BUCKETS))
        .map_err(TelemetryError::Metrics)
}

/// Gives the request's span its place in the caller's trace and tells which that is: the exported span's
/// own when spans are exported, so that logs and traces name the same ids.
pub(crate) fn adopt(span: &Span, caller: Option<Trace>) -> Trace {
    if EXPORTING.load(Ordering::Relaxed) {
        if let Some(caller) = caller {
            // Fails only for a span that is filtered out, which then has no valid context either.
            drop(span.set_parent(remote_context(caller)));
        }
        let context = span.context();
        let own = context.span().span_context().clone();
        if own.is_valid() {
            return Trace {
                trace_id: u128::from_be_bytes(own.trace_id().to_bytes()),
                span_id: u64::from_be_bytes(own.span_id().to_bytes()),
                sampled: own.is_sampled(),
            };
        }
    }
    caller.map_or_else(Trace::start, |caller| caller.child())
}

fn remote_context(caller: Trace) -> Context {
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from_bytes(caller.trace_id.to_be_bytes()),
        SpanId::from_bytes(caller.span_id.to_be_bytes()),
        TraceFlags::default().with_sampled(caller.sampled),
        true,
        TraceState::default(),
    ))
}

/// An error with all its causes, for logs and the command line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}
