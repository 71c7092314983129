//! HTTP as somebody outside has it: no client certificate, the routers' addresses, patience with `Retry-After`.

use crate::layout::Layout;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use domicile_core::error::Code;
use domicile_core::ids::Jurisdiction;
use domicile_core::note::VerifierKey;
use domicile_execute::chain;
use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::problem::RemoteProblem;
use domicile_service::tls::ClientTls;
use domicile_topology::Topology;
use domicile_topology::document::{Region, RouterNode};
use http::{HeaderMap, Request, Response, StatusCode};
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long a request that was not executed is sent again.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause before it.
const PAUSE: Duration = Duration::from_millis(100);

/// A client of the routers.
#[derive(Clone)]
pub(crate) struct Outside {
    client: HttpClient,
}

/// A complete successful answer.
pub(crate) struct Answer {
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
}

impl Outside {
    /// A client that trusts the cluster's authority.
    pub(crate) fn new(layout: &Layout) -> Result<Self> {
        let ca = layout.operator_tls().join("ca.pem");
        let tls = ClientTls::anonymous(&ca).context("cannot use the authority's certificate")?;
        Ok(Self { client: HttpClient::new(&tls, ClientLimits::default()) })
    }

    /// Sends the request until it is answered: a refusal that says "not executed" or "outcome unknown" is repeated, as
    /// the documentation asks of every caller. `request` is made anew each time, so that a signature stays fresh.
    pub(crate) async fn send(
        &self,
        request: impl Fn() -> Result<Request<Bytes>>,
    ) -> Result<Answer> {
        let begun = Instant::now();
        loop {
            match self.once(request()?).await {
                Ok(answer) => return Ok(answer),
                Err(error) if begun.elapsed() >= PATIENCE || !passes(&error) => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Sends the request once.
    pub(crate) async fn once(&self, request: Request<Bytes>) -> Result<Answer> {
        let what = format!("{} {}", request.method(), request.uri().path());
        let answer = self.client.send(request).await.map_err(|error| NoAnswer(chain(&error)))?;
        if !answer.status().is_success() {
            return Err(refused(&what, &answer)?.into());
        }
        let (parts, body) = answer.into_parts();
        Ok(Answer { headers: parts.headers, body })
    }
}

/// Whether what went wrong ends by itself, so that the same request may be sent again.
pub(crate) fn passes(error: &anyhow::Error) -> bool {
    error.is::<NoAnswer>() || error.downcast_ref::<Refused>().is_some_and(Refused::passes)
}

/// No answer came: the connection broke, or took too long.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct NoAnswer(String);

/// An answer that says no, with the stable code of its problem document.
#[derive(Debug, Error)]
#[error("{what}: {status} {problem}")]
pub(crate) struct Refused {
    what: String,
    status: StatusCode,
    problem: RemoteProblem,
}

impl Refused {
    /// Whether the error is a refusal with this code.
    pub(crate) fn is(error: &anyhow::Error, code: Code) -> bool {
        error.downcast_ref::<Self>().and_then(|refused| refused.problem.known_code()) == Some(code)
    }

    /// The stable code in a few letters, for counting.
    pub(crate) fn code(error: &anyhow::Error) -> String {
        let refused = error.downcast_ref::<Self>();
        let code = refused.and_then(|refused| refused.problem.known_code());
        code.map_or_else(|| "no-answer".to_owned(), |code| code.as_str().to_owned())
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

/// The router that players of the jurisdiction use: in their own country, else one that may serve them.
pub(crate) fn home_router<'a>(
    topology: &'a Topology,
    jurisdiction: &Jurisdiction,
) -> Result<&'a RouterNode> {
    let at_home = |router: &&&RouterNode| {
        let home = |region: &Region| region.id == router.region && region.country == *jurisdiction;
        topology.regions.iter().any(home)
    };
    let routers = topology.permitted_routers(jurisdiction);
    let router = routers.iter().find(at_home).or(routers.first()).copied();
    router.with_context(|| format!("no router may serve {jurisdiction}"))
}

/// The keys a player pins: those of the published topology.
pub(crate) fn pinned(topology: &Topology) -> Result<Vec<VerifierKey>> {
    let logs = topology.log_keys.iter().map(|key| &key.vkey);
    let receipts = topology.receipt_keys.iter().map(|key| &key.vkey);
    logs.chain(receipts).map(|vkey| Ok(VerifierKey::parse(vkey)?)).collect()
}
