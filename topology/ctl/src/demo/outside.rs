//! HTTP as somebody outside has it: no client certificate, the routers' addresses, patience with `Retry-After`.

use crate::layout::Layout;
use crate::wait::chain;
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use domicile_core::error::Code;
use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::problem::RemoteProblem;
use domicile_service::tls::ClientTls;
use http::{HeaderMap, Request, Response, StatusCode};
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long a request that was not executed is sent again.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause before it.
const PAUSE: Duration = Duration::from_millis(100);

/// A client of the routers.
#[derive(Clone)]
pub(super) struct Outside {
    client: HttpClient,
}

/// A complete successful answer.
pub(super) struct Answer {
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its body.
    pub(super) body: Bytes,
}

impl Outside {
    /// A client that trusts the cluster's authority.
    pub(super) fn new(layout: &Layout) -> Result<Self> {
        let ca = layout.operator_tls().join("ca.pem");
        let tls = ClientTls::anonymous(&ca).context("cannot use the authority's certificate")?;
        Ok(Self { client: HttpClient::new(&tls, ClientLimits::default()) })
    }

    /// Sends the request until it is answered: a refusal that says "not executed" or "outcome unknown" is repeated, as
    /// the documentation asks of every caller. `request` is made anew each time, so that a signature stays fresh.
    pub(super) async fn send(
        &self,
        request: impl Fn() -> Result<Request<Bytes>>,
    ) -> Result<Answer> {
        let begun = Instant::now();
        loop {
            let request = request()?;
            let what = format!("{} {}", request.method(), request.uri().path());
            let answer = self.client.send(request).await;
            let passing = match answer {
                Ok(answer) if answer.status().is_success() => {
                    let (parts, body) = answer.into_parts();
                    return Ok(Answer { headers: parts.headers, body });
                }
                Ok(answer) => {
                    let refused = refused(&what, &answer)?;
                    if !refused.passes() {
                        return Err(refused.into());
                    }
                    refused.into()
                }
                Err(error) => anyhow!(chain(&error)),
            };
            if begun.elapsed() >= PATIENCE {
                return Err(passing);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// An answer that says no, with the stable code of its problem document.
#[derive(Debug, Error)]
#[error("{what}: {status} {problem}")]
pub(super) struct Refused {
    what: String,
    status: StatusCode,
    problem: RemoteProblem,
}

impl Refused {
    /// Whether the error is a refusal with this code.
    pub(super) fn is(error: &anyhow::Error, code: Code) -> bool {
        error.downcast_ref::<Self>().and_then(|refused| refused.problem.known_code()) == Some(code)
    }

    /// Whether it ends by itself.
    fn passes(&self) -> bool {
        matches!(self.status.as_u16(), 429 | 502 | 503 | 504)
    }
}

fn refused(what: &str, answer: &Response<Bytes>) -> Result<Refused> {
    let status = answer.status();
    let Ok(problem) = serde_json::from_slice::<RemoteProblem>(answer.body()) else {
        bail!("{what}: {status} without a problem document");
    };
    Ok(Refused { what: what.to_owned(), status, problem })
}
