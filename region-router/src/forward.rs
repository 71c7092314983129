//! Sending a request where the decision says, and sending it again only where that is safe.
//!
//! Invariants: a read is tried on at most two permitted readers; a write is offered again only when it
//! was certainly not executed (no connection came about, or the writer said so) and its body is held;
//! every attempt starts from a new decision, so a write follows the control record. A write whose fate
//! is not known is answered as such and left to its caller and its idempotency key.
//! Deliberately absent: hedging, and any retry of a write after its first byte was taken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use domicile_core::{
    error::Code,
    ids::{Jurisdiction, RegionId},
};
use domicile_service::{
    problem::{PROBLEM_JSON, Problem, RemoteProblem},
    trace,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{Instant, sleep},
};

use crate::{
    body::{Answer, Bounded, Bounds, Outbound, Reason},
    config::Limits,
    headers,
    route::{Forward, Now, Refusal, Role, Routes, Target},
    upstream::{SendError, Upstreams},
};

/// How many readers are asked for one answer.
const READ_ATTEMPTS: usize = 2;
/// Pause before a write that was not executed is offered again, milliseconds.
const OFFER_PAUSE_MS: u64 = 50;
/// Largest refusal of a writer that is looked into, bytes.
const REFUSAL_MAX_BYTES: usize = 64 * 1024;
/// Largest answer that is passed on, bytes.
const ANSWER_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The refusals after which a writer has certainly not executed the request.
const NOT_EXECUTED: [Code; 3] = [Code::NotWriter, Code::WriterDraining, Code::EpochFenced];

/// A request as it goes out, however often.
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// Headers, fit for an upstream.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Payload,
}

/// A request's body.
pub enum Payload {
    /// Complete: may be sent again.
    Held(Bytes),
    /// Comes from the caller as it is sent: once.
    Once(Option<Bounded>, Reason),
}

impl Payload {
    /// A body that is passed on as it comes.
    pub fn once(body: Bounded) -> Self {
        let reason = body.reason();
        Self::Once(Some(body), reason)
    }

    fn next(&mut self) -> Option<Outbound> {
        match self {
            Self::Held(bytes) => Some(Outbound::Held(Full::new(bytes.clone()))),
            Self::Once(body, _) => body.take().map(Outbound::Streamed),
        }
    }

    fn broke(&self) -> Option<Code> {
        match self {
            Self::Held(_) => None,
            Self::Once(_, reason) => reason.get().copied(),
        }
    }
}

impl Outgoing {
    fn request(&self, body: Outbound) -> Request<Outbound> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        trace::inject(request.headers_mut());
        request
    }

    fn is_safe(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }
}

#[derive(Default, Clone)]
struct Routing {
    routes: Arc<Routes>,
    writer_region: Option<RegionId>,
}

/// Decides and sends.
pub struct Forwarder {
    routing: ArcSwap<Routing>,
    upstreams: Upstreams,
    limits: Limits,
    waiting_writes: Semaphore,
    spread: AtomicUsize,
    changed: Notify,
}

impl Forwarder {
    /// Knows no topology yet and refuses everything.
    pub fn new(upstreams: Upstreams, limits: Limits) -> Self {
        Self {
            routing: ArcSwap::default(),
            upstreams,
            limits,
            waiting_writes: Semaphore::new(limits.held_writes),
            spread: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    /// From now on routes by this document.
    pub fn follow_topology(&self, routes: Routes) {
        self.upstreams.follow(&routes);
        let routes = Arc::new(routes);
        let with = |old: &Arc<Routing>| Routing { routes: routes.clone(), ..Routing::clone(old) };
        self.routing.rcu(with);
        self.changed.notify_one();
    }

    /// From now on writes go to this region.
    pub fn follow_record(&self, writer_region: &RegionId) {
        let with = |old: &Arc<Routing>| Routing {
            writer_region: Some(writer_region.clone()),
            ..Routing::clone(old)
        };
        self.routing.rcu(with);
    }

    /// Probes every upstream once.
    pub async fn probe(&self) {
        let routes = self.routing.load().routes.clone();
        self.upstreams.probe(routes.upstreams()).await;
    }

    /// Waits until the next probe is due: the interval has passed, or there are new upstreams.
    pub async fn next_probe(&self) {
        let pause = Duration::from_millis(self.limits.probe_interval_ms);
        tokio::select! {
            () = sleep(pause) => {}
            () = self.changed.notified() => {}
        }
    }

    /// Whether the topology names the jurisdiction.
    pub fn knows(&self, jurisdiction: &Jurisdiction) -> bool {
        self.routing.load().routes.knows(jurisdiction)
    }

    /// Where the request goes at this moment.
    pub fn decide(
        &self,
        target: &Target,
        claim: Option<&Jurisdiction>,
    ) -> Result<Forward, Refusal> {
        let routing = self.routing.load();
        let now = Now {
            writer_region: routing.writer_region.as_ref(),
            ready: &|node| self.upstreams.is_ready(node),
            spread: self.spread.fetch_add(1, Ordering::Relaxed),
        };
        routing.routes.decide(target, claim, now)
    }

    /// Asks the first reader, and one other if that fails.
    pub async fn read(
        &self,
        forward: &Forward,
        outgoing: &Outgoing,
    ) -> Result<Response<Answer>, Problem> {
        let timeout = Duration::from_millis(self.limits.read_timeout_ms);
        let mut failing = None;
        for (attempt, upstream) in forward.candidates.iter().take(READ_ATTEMPTS).enumerate() {
            if attempt > 0 {
                metrics::counter!("domicile_router_retries_total", "upstream" => "reader")
                    .increment(1);
            }
            let request = outgoing.request(Outbound::Held(Full::default()));
            match self.upstreams.send(upstream, request, timeout).await {
                Ok(answer) if is_failing(answer.status()) => failing = Some(answer),
                Ok(answer) => return Ok(self.pass_on(answer)),
                Err(SendError::NotSent | SendError::NoAnswer) => {}
            }
        }
        failing.map(|answer| self.pass_on(answer)).ok_or_else(|| Code::UpstreamUnavailable.into())
    }

    /// Offers the write to the current writer until it is taken, its fate is unknown, or time is up.
    pub async fn write(
        &self,
        target: &Target,
        claim: Option<&Jurisdiction>,
        mut outgoing: Outgoing,
    ) -> Result<Response<Answer>, Problem> {
        let until = Instant::now() + Duration::from_millis(self.limits.write_wait_ms);
        let mut place: Option<SemaphorePermit<'_>> = None;
        loop {
            let forward = self.decide(target, claim).map_err(|refusal| refused(&refusal))?;
            let not_executed = match self.offer(&forward, &mut outgoing).await? {
                Offer::Taken(answer) => return Ok(answer),
                Offer::NotExecuted(answer) => answer,
            };
            if place.is_none() {
                place = self.waiting_writes.try_acquire().ok();
            }
            let may_wait = place.is_some() && matches!(outgoing.payload, Payload::Held(_));
            if !may_wait || Instant::now() >= until {
                return not_executed;
            }
            metrics::counter!("domicile_router_retries_total", "upstream" => "writer").increment(1);
            sleep(Duration::from_millis(OFFER_PAUSE_MS)).await;
        }
    }

    async fn offer(&self, forward: &Forward, outgoing: &mut Outgoing) -> Result<Offer, Problem> {
        let timeout = Duration::from_millis(self.limits.write_timeout_ms);
        let mut not_executed = Err(Problem::new(Code::WriterUnavailable));
        for upstream in &forward.candidates {
            let Some(body) = outgoing.payload.next() else { break };
            let request = outgoing.request(body);
            match self.upstreams.send(upstream, request, timeout).await {
                Err(SendError::NotSent) => {}
                Err(SendError::NoAnswer) => return Err(fate_unknown(outgoing)),
                Ok(answer) => match self.look_into(answer, outgoing).await? {
                    Offer::NotExecuted(answer) => not_executed = answer,
                    taken @ Offer::Taken(_) => return Ok(taken),
                },
            }
        }
        Ok(Offer::NotExecuted(not_executed))
    }

    /// Tells a refusal before execution from every other answer.
    async fn look_into(
        &self,
        answer: Response<Incoming>,
        outgoing: &Outgoing,
    ) -> Result<Offer, Problem> {
        let is_problem = answer.headers().get(header::CONTENT_TYPE) == Some(&PROBLEM_JSON);
        if answer.status() != StatusCode::SERVICE_UNAVAILABLE || !is_problem {
            return Ok(Offer::Taken(self.pass_on(answer)));
        }
        let (mut head, body) = answer.into_parts();
        let pause = Duration::from_millis(self.limits.body_pause_ms);
        let body = tokio::time::timeout(pause, Limited::new(body, REFUSAL_MAX_BYTES).collect());
        let Ok(Ok(body)) = body.await else { return Err(fate_unknown(outgoing)) };
        let body = body.to_bytes();
        let problem: Option<RemoteProblem> = serde_json::from_slice(&body).ok();
        let code = problem.and_then(|problem| problem.known_code());
        headers::for_caller(&mut head.headers);
        let answer = Response::from_parts(head, Answer::whole(body));
        Ok(match code {
            Some(code) if NOT_EXECUTED.contains(&code) => Offer::NotExecuted(Ok(answer)),
            _ => Offer::Taken(answer),
        })
    }

    fn pass_on(&self, answer: Response<Incoming>) -> Response<Answer> {
        let bounds = Bounds {
            max_bytes: ANSWER_MAX_BYTES,
            pause: Duration::from_millis(self.limits.body_pause_ms),
            total: Duration::from_millis(self.limits.body_timeout_ms),
        };
        let mut answer = answer.map(|body| Answer::streamed(Bounded::new(body, bounds)));
        headers::for_caller(answer.headers_mut());
        answer
    }
}

/// What came of one round of offers.
enum Offer {
    Taken(Response<Answer>),
    NotExecuted(Result<Response<Answer>, Problem>),
}

/// The problem a refusal is answered with.
pub fn refused(refusal: &Refusal) -> Problem {
    let problem = Problem::new(refusal.code);
    if refusal.code == Code::JurisdictionMisdirected {
        return problem.extra("permitted", refusal.permitted.to_vec());
    }
    problem
}

/// Which kind of upstream serves the target.
pub const fn role_of(target: &Target) -> Role {
    match target {
        Target::Operator | Target::Preflight | Target::PlayerWrite => Role::Writer,
        Target::PlayerRead | Target::Log(_) | Target::Page => Role::Reader,
    }
}

fn is_failing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// A body that broke on the way in explains itself; otherwise only a read is certainly without effect.
fn fate_unknown(outgoing: &Outgoing) -> Problem {
    let code = outgoing.payload.broke().unwrap_or(if outgoing.is_safe() {
        Code::UpstreamUnavailable
    } else {
        Code::OutcomeUnknown
    });
    Problem::new(code)
}
