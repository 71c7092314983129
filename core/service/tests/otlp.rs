//! Spans reach a collector, under the ids that logs and problems name.
#![cfg(test)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use domicile_core::error::Code;
use domicile_core::ids::NodeId;
use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::drain::{Drain, DrainLimits};
use domicile_service::listener::{Listener, ListenerLimits};
use domicile_service::peer::Role;
use domicile_service::problem::Problem;
use domicile_service::telemetry::{self, TelemetryConfig};
use domicile_service::testing::TestCa;
use domicile_service::trace::{self, Trace};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A collector that keeps the bytes of every export.
async fn collector() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let socket = TcpListener::bind(LOCAL).await.unwrap();
    let (addr, seen) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let kept = seen.clone();
    tokio::spawn(async move {
        let (stream, _) = socket.accept().await.unwrap();
        let take = service_fn(move |request: Request<Incoming>| {
            let kept = kept.clone();
            async move {
                assert!(request.uri().path().ends_with("TraceService/Export"));
                let body = request.into_body().collect().await.unwrap().to_bytes();
                kept.lock().unwrap().extend_from_slice(&body);
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let body = Full::new(Bytes::from_static(&[0; 5]));
                let mut answer =
                    Response::new(body.with_trailers(std::future::ready(Some(Ok(trailers)))));
                let grpc = HeaderValue::from_static("application/grpc");
                answer.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
                Ok::<_, Infallible>(answer)
            }
        });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        drop(builder.serve_connection(TokioIo::new(stream), take).await);
    });
    (addr, seen)
}

fn contains(seen: &[u8], wanted: &[u8]) -> bool {
    seen.windows(wanted.len()).any(|window| window == wanted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_are_exported_under_the_ids_that_callers_see() {
    let (collector, seen) = collector().await;
    let config = TelemetryConfig {
        otlp_endpoint: Some(format!("http://{collector}")),
        ..TelemetryConfig::default()
    };
    let node = NodeId::parse("writer-a").unwrap();
    let telemetry = telemetry::init(&config, "domicile-writer", &node).unwrap();
    assert!(telemetry::init(&config, "domicile-writer", &node).is_err(), "once per process");

    let own = get(async || {
        let span_id = trace::current().unwrap().span_id_hex();
        Problem::new(Code::RoundState).detail(span_id)
    });
    let app = domicile_service::request::app(Router::new().route("/v1/rounds/{id}", own));
    let listener = Listener::bind(LOCAL, None, ListenerLimits::default()).await.unwrap();
    let url = format!("http://{}/v1/rounds/7", listener.local_addr());
    let drain = Drain::new(DrainLimits::default());
    tokio::spawn(async move { listener.serve_app(app, &drain).await });

    let tls = TestCa::new().client(Role::Test, "test-a");
    let http = HttpClient::new(&tls, ClientLimits::default());
    let caller = Trace::start();
    let error = trace::scope(caller, http.get_json::<()>(&url)).await.unwrap_err();
    let problem = error.problem().unwrap();
    assert_eq!(problem.trace_id, Some(caller.trace_id_hex()));
    let span_id = u64::from_str_radix(problem.detail.as_deref().unwrap(), 16).unwrap();

    let scraped = telemetry.metrics().render();
    let series = "domicile_http_request_seconds_bucket{route=\"/v1/rounds/{id}\"";
    assert!(scraped.contains(series), "{scraped}");
    assert!(scraped.contains("domicile_http_problems_total{code=\"round-state\"} 1"), "{scraped}");

    tokio::task::spawn_blocking(move || drop(telemetry)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let seen = seen.lock().unwrap().clone();
    assert!(contains(&seen, &caller.trace_id.to_be_bytes()), "the caller's trace");
    assert!(contains(&seen, &caller.span_id.to_be_bytes()), "with the caller as parent");
    assert!(contains(&seen, &span_id.to_be_bytes()), "under the id the handler sees");
    assert!(contains(&seen, b"domicile-writer") && contains(&seen, b"writer-a"));
}
