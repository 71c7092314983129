//! The verification page: one file that also works from `file://`, so that it need not be trusted twice.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};

/// The page as shipped; its own scripts and styles are inline.
const PAGE: &str = include_str!("../../page/verify.html");

/// Nothing is fetched from anywhere else; the page may read logs of its own origin.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /verify`: the page and the policy its browser enforces.
pub async fn verify() -> Response {
    let fields = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ];
    (fields, PAGE).into_response()
}
