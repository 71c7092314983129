//! What surrounds a request, and how calls to others fail.

use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use domicile_core::error::Code;
use domicile_service::client::{ClientLimits, Failure, HttpClient};
use domicile_service::listener::ListenerLimits;
use domicile_service::peer::Role;
use domicile_service::problem::Problem;
use domicile_service::request::Deadline;
use domicile_service::testing::TestCa;
use domicile_service::tls::ClientTls;
use domicile_service::trace::{self, Trace};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::support::{Server, client};

fn tls() -> Arc<ClientTls> {
    TestCa::new().client(Role::Test, "test-a")
}

async fn serve(routes: Router) -> (Server, String) {
    let server = Server::plain(ListenerLimits::default(), routes).await;
    let base = format!("http://{}", server.addr);
    (server, base)
}

#[tokio::test]
async fn a_trace_goes_from_service_to_service_and_into_the_problem() {
    let inner = async || Problem::new(Code::RoundState).detail("The round is settled.");
    let (_inner, inner_base) = serve(Router::new().route("/round", get(inner))).await;
    let http = client(&tls());
    let outer = async move || {
        let error = http.get_json::<Value>(&format!("{inner_base}/round?t=1")).await.unwrap_err();
        let seen = error.problem().unwrap().trace_id.clone().unwrap();
        assert_eq!(error.problem().unwrap().known_code(), Some(Code::RoundState));
        assert!(!error.to_string().contains("t=1"), "no query in {error}");
        seen
    };
    let (_outer, outer_base) = serve(Router::new().route("/", get(outer))).await;
    let caller = Trace::start();
    let request = http::Request::get(outer_base).body(bytes::Bytes::new()).unwrap();
    let answer = trace::scope(caller, client(&tls()).send(request)).await.unwrap();
    assert_eq!(answer.body(), &caller.trace_id_hex());
}

#[tokio::test]
async fn unknown_paths_methods_and_panics_are_problems() {
    let routes = Router::new()
        .route("/", post(|| std::future::ready("x")))
        .route("/panic", get(async || -> &'static str { panic!("expected in this test") }));
    let (_server, base) = serve(routes).await;
    let http = client(&tls());
    for (path, code) in
        [("/none", Code::NotFound), ("/", Code::MethodNotAllowed), ("/panic", Code::Internal)]
    {
        let error = http.get_json::<Value>(&format!("{base}{path}")).await.unwrap_err();
        assert_eq!(error.problem().unwrap().known_code(), Some(code), "{error}");
        assert_eq!(error.status().unwrap(), code.status());
    }
}

#[tokio::test]
async fn a_request_past_its_deadline_says_whether_it_may_have_happened() {
    let stall = async || tokio::time::sleep(Duration::from_mins(1)).await;
    let deadline = Deadline { timeout_ms: 200, read_code: Code::StaleReplica };
    let routes = deadline.limit(Router::new().route("/", get(stall).post(stall)));
    let (_server, base) = serve(routes).await;
    let http = client(&tls());
    let read = http.get_json::<Value>(&base).await.unwrap_err();
    assert_eq!(read.problem().unwrap().known_code(), Some(Code::StaleReplica));
    let write = http.post_json::<Value>(&base, &json!({})).await.unwrap_err();
    assert_eq!(write.problem().unwrap().known_code(), Some(Code::OutcomeUnknown));
}

#[tokio::test]
async fn a_call_fails_within_its_bounds_and_tells_how() {
    let stall = async || tokio::time::sleep(Duration::from_mins(1)).await;
    let routes = Router::new()
        .route("/stall", get(stall))
        .route("/large", get(|| std::future::ready("x".repeat(2_000))))
        .route("/text", get(|| std::future::ready("text")))
        .route("/echo", post(|body: String| std::future::ready(body)));
    let (_server, base) = serve(routes).await;
    let limits = ClientLimits { response_max_bytes: 1_000, ..ClientLimits::default() };
    let http = HttpClient::new(&tls(), limits);
    let echo: Value = http.post_json(&format!("{base}/echo"), &json!({"a": 1})).await.unwrap();
    assert_eq!(echo, json!({"a": 1}));
    let get = async |http: &HttpClient, url: &str| http.get_json::<Value>(url).await.unwrap_err();
    let error = get(&http.within_ms(200), &format!("{base}/stall")).await;
    assert!(matches!(error.failure, Failure::Timeout { timeout_ms: 200 }), "{error}");
    assert!(!error.is_not_sent());
    let error = get(&http, &format!("{base}/large")).await;
    assert!(matches!(error.failure, Failure::TooLarge { max_bytes: 1_000 }), "{error}");
    let error = get(&http, &format!("{base}/text")).await;
    assert!(matches!(error.failure, Failure::Decode(_)), "{error}");
    let error = get(&http, "http://127.0.0.1:9/").await;
    assert!(error.is_not_sent(), "{error}");
    assert_eq!(error.to_string(), "GET http://127.0.0.1:9/: no connection");
    assert!(matches!(get(&http, "::").await.failure, Failure::Request { .. }));
}
