//! Browser origins: a preflight is answered for origins some operator registered; the request itself must
//! come from an origin of the token's operator.

use crate::answer::Failure;
use crate::limits;
use crate::service::Service;
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::options;
use domicile_core::error::Code;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::sync::Arc;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, last-event-id, domicile-min-log-size, traceparent",
);
const EXPOSED: HeaderValue =
    HeaderValue::from_static("domicile-replayed, domicile-durability, retry-after");

/// Preflights of every player path, the readers' ones too.
pub(super) fn routes(service: &Arc<Service>) -> Router {
    let preflight = |service: &Arc<Service>| {
        let service = Arc::clone(service);
        options(move |request: Request| answer(Arc::clone(&service), request))
    };
    [
        "/v1/session",
        "/v1/session/balance",
        "/v1/plays",
        "/v1/rounds/{id}/bets",
        "/v1/rounds/stream",
        "/v1/{*path}",
    ]
    .into_iter()
    .fold(Router::new(), |router, path| router.route(path, preflight(service)))
}

async fn answer(service: Arc<Service>, request: Request) -> Response {
    match preflight(&service, request.headers()).await {
        Ok(origin) => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
            headers.insert(header::VARY, HeaderValue::from_static("origin"));
            response
        }
        Err(failure) => failure.into_response(),
    }
}

async fn preflight(service: &Service, headers: &HeaderMap) -> Result<HeaderValue, Failure> {
    let forbidden = Failure::new(Code::OriginForbidden);
    let origin = headers.get(header::ORIGIN).ok_or(forbidden.clone())?;
    let text = origin.to_str().ok().filter(|text| text.len() <= limits::OPERATOR_TEXT_BYTES);
    let text = text.ok_or(forbidden.clone())?;
    let known = service.engine()?.directory.origin_known(text).await?;
    if known { Ok(origin.clone()) } else { Err(forbidden) }
}

/// Lets the browser show the answer to a page of this origin, which was checked.
pub(super) fn expose(mut response: Response, origin: Option<&str>) -> Response {
    let Some(Ok(origin)) = origin.map(HeaderValue::from_str) else { return response };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    response
}
