//! A reader in small: the page from the reader's own handler, and prepared answers about the log.

use std::collections::BTreeMap;

use axum::{
    Router,
    extract::RawQuery,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::vector;

/// Serves until the test ends; returns the address of the page.
///
/// `proofs`: the answers of `/log/MT/consistency` by query.
pub(crate) async fn serve(proofs: BTreeMap<&'static str, String>) -> String {
    let consistency = move |RawQuery(query): RawQuery| {
        let answer = query.and_then(|query| proofs.get(query.as_str()).cloned());
        async move { answer.map_or(StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response) }
    };
    let app: Router<()> = Router::new()
        .route("/verify", get(domicile_reader::verification_page))
        .route("/log/MT/consistency", get(consistency));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://127.0.0.1:{port}/verify")
}

/// The consistency proof from size 6 to 10 of the log that these two files are of, in the reader's form.
pub(crate) fn consistency(name: &str) -> String {
    let parse = |kind: &str| -> Value {
        serde_json::from_str(&vector(&format!("verify/{name}.{kind}.json"))).unwrap()
    };
    let (bundle, opening) = (parse("bundle"), parse("opening"));
    let (_, checkpoint) =
        bundle["entries"][0]["proof"].as_str().unwrap().split_once("\n\n").unwrap();
    let path = opening["consistency"].as_array().unwrap().iter();
    let lines: Vec<&str> = path.map(|hash| hash.as_str().unwrap()).collect();
    format!("old 6\n{}\n\n{checkpoint}", lines.join("\n"))
}

#[tokio::test]
async fn the_page_is_served_with_the_policy_it_needs_and_no_more() {
    let response: Response = domicile_reader::verification_page().await;
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    for part in
        ["default-src 'none'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    let page = include_str!("../../page/verify.html");
    for outside in ["src=", "@import", "url(", "innerHTML", "eval(", "XMLHttpRequest", "sendBeacon"]
    {
        assert!(!page.contains(outside), "the page must not contain {outside}");
    }
    assert_eq!(page.matches("fetch(").count(), 1, "one request: the consistency proof");
}
