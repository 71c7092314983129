//! One request, from its head to its answer: limits, token, decision, forwarding, metrics.
//!
//! Invariants: a token is looked at before anything is sent on; what is logged or counted is route,
//! kind of upstream, jurisdiction and status, never a path, query, header, body or address.
//! Deliberately absent: operator signatures, which the writer checks with its ledger.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use domicile_core::{
    claims::{Bearer, Validated},
    error::Code,
    ids::{Jurisdiction, SessionId},
};
use domicile_service::{
    body::{self, BodyLimits},
    clock::Clock,
    listener::RemoteAddr,
    problem::Problem,
    request::Observed,
    token::{self, TokenVerifier},
};
use http::{HeaderMap, Request, Response, Uri, request::Parts};
use http_body::Body;
use hyper::{body::Incoming, service::Service};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    body::{Answer, Bounded, Bounds, discard},
    config::Limits,
    forward::{Forwarder, refused, role_of},
    headers,
    outgoing::{Outgoing, Payload},
    quota::Quota,
    route::{Forward, Role, Target, classify},
};

/// The service behind the listener; clones share everything.
#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

struct Inner {
    forwarder: Arc<Forwarder>,
    verifier: Arc<TokenVerifier>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    header_max_bytes: usize,
    addresses: Quota<IpAddr>,
    tokens: Quota<u64>,
    token_hash: RandomState,
    places: Arc<Semaphore>,
    stream_places: Arc<Semaphore>,
}

/// A request that may be sent on.
struct Admitted {
    client: IpAddr,
    target: Target,
    token: Option<Arc<Validated>>,
    forward: Forward,
    place: OwnedSemaphorePermit,
}

/// What the metrics of a request are labelled with.
#[derive(Default)]
struct Labels {
    route: Option<&'static str>,
    role: Option<Role>,
    jurisdiction: Option<Jurisdiction>,
}

impl Proxy {
    /// `header_max_bytes` bounds the request's headers together.
    pub fn new(
        forwarder: Arc<Forwarder>,
        verifier: Arc<TokenVerifier>,
        clock: Arc<dyn Clock>,
        limits: Limits,
        header_max_bytes: usize,
    ) -> Self {
        Self(Arc::new(Inner {
            forwarder,
            verifier,
            clock,
            limits,
            header_max_bytes,
            addresses: Quota::new(limits.address_rate, limits.rate_entries),
            tokens: Quota::new(limits.token_rate, limits.rate_entries),
            token_hash: RandomState::new(),
            places: Arc::new(Semaphore::new(limits.requests_in_flight)),
            stream_places: Arc::new(Semaphore::new(limits.streams)),
        }))
    }
}

impl Service<Request<Incoming>> for Proxy {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { Ok(inner.answer(request).await) })
    }
}

impl Inner {
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let (observed, began) = (Observed::begin(&request), Instant::now());
        let mut labels = Labels::default();
        let (head, body) = request.into_parts();
        let handling = async {
            let problem = match self.admit(&head, &mut labels) {
                Ok(admitted) => match self.forward(admitted, head, body).await {
                    Ok(answer) => return answer,
                    Err(problem) => problem,
                },
                Err(problem) => {
                    // Whoever asks too much is not listened to any further.
                    if problem.code() != Code::TooManyRequests {
                        discard(body).await;
                    }
                    problem
                }
            };
            problem.to_http().map(Answer::whole)
        };
        let answer = observed.run(handling).await;
        labels.record(&answer, began.elapsed());
        observed.end(labels.route.unwrap_or("unmatched"), &answer);
        answer
    }

    /// Everything that is decided before the body is looked at.
    fn admit(&self, head: &Parts, labels: &mut Labels) -> Result<Admitted, Problem> {
        let RemoteAddr(remote) = *head.extensions.get().ok_or(Code::Internal)?;
        self.check_address(remote.ip())?;
        self.check_head(head)?;
        let target = classify(&head.method, head.uri.path())?;
        labels.route = Some(target.as_str());
        labels.role = Some(role_of(&target));
        let places =
            if target == Target::PlayerStream { &self.stream_places } else { &self.places };
        let place = places.clone().try_acquire_owned();
        let place = place.ok().ok_or(Code::TooManyRequests)?;
        let token = if target.needs_token() { Some(self.token(&head.headers)?) } else { None };
        let claim = token.as_ref().map(|token| &token.jurisdiction);
        labels.jurisdiction = self.label(&target, claim);
        let forward = self.forwarder.decide(&target, claim).map_err(|r| refused(&r))?;
        Ok(Admitted { client: remote.ip(), target, token, forward, place })
    }

    async fn forward(
        &self,
        admitted: Admitted,
        head: Parts,
        body: Incoming,
    ) -> Result<Response<Answer>, Problem> {
        let Admitted { client, target, token, forward, place } = admitted;
        let mut outgoing = outgoing(head, client, token.as_deref())?;
        let answer = match forward.role {
            Role::Reader if body.is_end_stream() => {
                self.forwarder.read(&forward, &outgoing).await?
            }
            Role::Reader => {
                discard(body).await;
                return Err(Problem::new(Code::MalformedRequest).detail("A read has no body."));
            }
            Role::Writer => {
                outgoing.payload = self.payload(body).await?;
                let claim = token.as_ref().map(|token| &token.jurisdiction);
                self.forwarder.write(&target, claim, outgoing).await?
            }
        };
        Ok(answer.map(|body| body.holding(place)))
    }

    fn check_address(&self, address: IpAddr) -> Result<(), Problem> {
        let admitted = self.addresses.admit(&bucket_of(address), self.clock.monotonic());
        admitted.map_err(|wait| slow_down(wait, "address"))
    }

    fn check_head(&self, head: &Parts) -> Result<(), Problem> {
        let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        let sizes = [
            (target, self.limits.target_max_bytes, "target"),
            (headers::wire_bytes(&head.headers), self.header_max_bytes, "headers"),
        ];
        match sizes.into_iter().find(|(bytes, max_bytes, _)| bytes > max_bytes) {
            None => Ok(()),
            Some((_, max_bytes, what)) => {
                let detail = format!("The request's {what} may have {max_bytes} bytes.");
                Err(Problem::new(Code::HeadersTooLarge).detail(detail))
            }
        }
    }

    fn token(&self, headers: &HeaderMap) -> Result<Arc<Validated>, Problem> {
        let token = token::bearer(headers)?;
        let verified = self.verifier.verify(token)?;
        if let Bearer::Player(player) = &verified.bearer
            && self.forwarder.revoked.contains(&player.session)
        {
            return Err(Code::SessionRevoked.into());
        }
        let key = self.token_hash.hash_one(token);
        let admitted = self.tokens.admit(&key, self.clock.monotonic());
        admitted.map_err(|wait| slow_down(wait, "token"))?;
        Ok(verified)
    }

    fn label(&self, target: &Target, claim: Option<&Jurisdiction>) -> Option<Jurisdiction> {
        let named = match target {
            Target::Log(jurisdiction) => Some(jurisdiction),
            _ => claim,
        };
        // Only configured ones: a caller cannot make new time series.
        named.filter(|jurisdiction| self.forwarder.knows(jurisdiction)).cloned()
    }

    /// Small bodies of known length are held, so that the write can be offered again.
    async fn payload(&self, body: Incoming) -> Result<Payload, Problem> {
        let limits = &self.limits;
        let (least, exact) = (body.size_hint().lower(), body.size_hint().exact());
        if least > limits.body_max_bytes {
            discard(body).await;
            let detail = format!("A body may have {} bytes.", limits.body_max_bytes);
            return Err(Problem::new(Code::BodyTooLarge).detail(detail));
        }
        if let Some(bytes) = exact.filter(|bytes| *bytes <= limits.held_body_max_bytes) {
            let max_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            let held = BodyLimits { max_bytes, timeout_ms: limits.body_pause_ms };
            return Ok(Payload::Held(body::read(body, held).await?));
        }
        let bounds = Bounds {
            max_bytes: limits.body_max_bytes,
            pause: Duration::from_millis(limits.body_pause_ms),
            total: Duration::from_millis(limits.body_timeout_ms),
        };
        Ok(Payload::once(Bounded::new(body, bounds)))
    }
}

/// What is sent on, so far without a body.
fn outgoing(
    mut head: Parts,
    client: IpAddr,
    token: Option<&Validated>,
) -> Result<Outgoing, Problem> {
    headers::for_upstream(&mut head.headers, client, token.is_some());
    // Scheme and authority are the caller's way here, not the upstream's name.
    let target = head.uri.into_parts().path_and_query.ok_or(Code::MalformedRequest)?;
    let (method, uri, headers) = (head.method, Uri::from(target), head.headers);
    let session =
        token.and_then(|token| token.player().ok()).map(|player| number_of(player.session));
    Ok(Outgoing { method, uri, headers, payload: Payload::Held(Bytes::new()), session })
}

/// The same at every router: the random end of the session's id.
fn number_of(session: SessionId) -> usize {
    let (_, random) = session.0.as_u64_pair();
    usize::try_from(random & u64::from(u32::MAX)).unwrap_or(0)
}

/// One bucket per IPv4 address or IPv6 network: a caller commands all of a /64.
fn bucket_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

fn slow_down(wait: Duration, what: &str) -> Problem {
    let detail = format!("The limit of this {what} is reached.");
    Problem::new(Code::TooManyRequests).detail(detail).retry_after_s(wait.as_secs() + 1)
}

impl Labels {
    fn record(&self, answer: &Response<Answer>, elapsed: Duration) {
        let jurisdiction = self.jurisdiction.as_ref().map_or("none", Jurisdiction::as_str);
        let status_class = match answer.status().as_u16() / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "other",
        };
        let labels = [
            ("route", self.route.unwrap_or("unmatched").to_owned()),
            ("upstream", self.role.map_or("none", Role::as_str).to_owned()),
            ("jurisdiction", jurisdiction.to_owned()),
            ("status_class", status_class.to_owned()),
        ];
        metrics::histogram!("domicile_router_request_seconds", &labels).record(elapsed);
    }
}
