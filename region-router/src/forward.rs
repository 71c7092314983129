//! Sending a request where the decision says, and sending it again only where that is safe.
//!
//! Invariants: a read is tried on at most two permitted readers; a write is offered again only when it was certainly not
//! executed, or has one effect by the API's promise however often it is sent; every attempt starts from a new decision,
//! so a write follows the control record. An answer of an epoch older than the record's when the request was sent is
//! passed on to nobody, and no newer record is forgotten for an older one. A write whose fate is not known is answered as
//! such and left to its caller and its idempotency key; nothing that a later attempt says takes that back.
//! Deliberately absent: hedging.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use domicile_core::{
    epoch::{EPOCH_HEADER, Epoch},
    error::Code,
    ids::{Jurisdiction, RegionId},
};
use domicile_service::problem::{PROBLEM_JSON, Problem, RemoteProblem};
use domicile_topology::record::{Record, Writes};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{
    body::{Answer, Bounded, Bounds, Outbound},
    config::Limits,
    headers,
    hold::{Waiting, WaitingRoom},
    outgoing::Outgoing,
    revocations::Revoked,
    route::{Forward, Now, Refusal, Role, Routes, Target, Upstream},
    upstream::{SendError, Upstreams},
};

/// How many readers are asked for one answer.
const READ_ATTEMPTS: usize = 2;
/// Largest refusal of a writer that is looked into, bytes.
const REFUSAL_MAX_BYTES: usize = 64 * 1024;
/// Largest answer that is passed on, bytes.
const ANSWER_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// How long an answer may still come from a region that no longer writes, milliseconds; then it is not waited for.
const LATE_ANSWER_MS: u64 = 250;

/// The content type of an answer that goes on for as long as its caller listens.
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// The refusals after which a writer has certainly not executed the request.
const NOT_EXECUTED: [Code; 3] = [Code::NotWriter, Code::WriterDraining, Code::EpochFenced];

/// Who writes, as the control record says it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    epoch: Epoch,
    region: RegionId,
    writes: Writes,
}

#[derive(Default, Clone)]
struct Routing {
    routes: Arc<Routes>,
    term: Option<Term>,
}

/// Decides and sends.
pub struct Forwarder {
    routing: ArcSwap<Routing>,
    /// The connections to everybody.
    pub(crate) upstreams: Upstreams,
    /// The sessions whose tokens are refused.
    pub revoked: Revoked,
    limits: Limits,
    room: WaitingRoom,
    spread: AtomicUsize,
    changed: Notify,
}

impl Forwarder {
    /// Knows no topology yet and refuses everything.
    pub fn new(upstreams: Upstreams, limits: Limits) -> Self {
        Self {
            routing: ArcSwap::default(),
            upstreams,
            revoked: Revoked::default(),
            limits,
            room: WaitingRoom::new(limits.held_writes),
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

    /// From now on writes go where this record says; one of an epoch before the present one is refused.
    pub fn follow_record(&self, record: &Record) -> bool {
        let term = Term {
            epoch: record.epoch,
            region: record.writer_region.clone(),
            writes: record.writes,
        };
        let is_older = |old: &Routing| old.term.as_ref().is_some_and(|t| t.epoch > term.epoch);
        let before = self.routing.rcu(|old| match old {
            old if is_older(old) => Routing::clone(old),
            old => Routing { term: Some(term.clone()), ..Routing::clone(old) },
        });
        if before.term.as_ref() != Some(&term) {
            self.room.call();
        }
        !is_older(&before)
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
        self.decide_by(&self.routing.load(), target, claim, None)
    }

    fn decide_by(
        &self,
        routing: &Routing,
        target: &Target,
        claim: Option<&Jurisdiction>,
        session: Option<usize>,
    ) -> Result<Forward, Refusal> {
        let now = Now {
            writer_region: routing.term.as_ref().map(|term| &term.region),
            ready: &|node| self.upstreams.is_ready(node),
            spread: session.unwrap_or_else(|| self.spread.fetch_add(1, Ordering::Relaxed)),
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
                Err(SendError::NotSent | SendError::Broken | SendError::Late) => {}
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
        let mut waiting: Option<Waiting<'_>> = None;
        let mut fate_unknown = false;
        loop {
            let refusal = match self.attempt(target, claim, &mut outgoing).await {
                Attempt::Decided(Ok(answer))
                    if !(fate_unknown && answer.status().is_server_error()) =>
                {
                    waiting.into_iter().for_each(Waiting::taken);
                    return Ok(answer);
                }
                Attempt::Decided(Err(problem)) if !fate_unknown => return Err(problem),
                Attempt::Decided(refusal) | Attempt::NotExecuted(refusal) => refusal,
                Attempt::Unknown if outgoing.is_repeatable() => {
                    fate_unknown = true;
                    Err(outgoing.fate_unknown())
                }
                Attempt::Unknown => return Err(outgoing.fate_unknown()),
            };
            if waiting.is_none() && outgoing.payload.is_held() {
                waiting = self.room.enter();
            }
            let again = match &mut waiting {
                Some(waiting) => waiting.turn(until).await,
                None => false,
            };
            if !again {
                return if fate_unknown { Err(outgoing.fate_unknown()) } else { refusal };
            }
            metrics::counter!("domicile_router_retries_total", "upstream" => "writer").increment(1);
        }
    }

    /// Offers the write to the writers of the record's region, one after the other.
    async fn attempt(
        &self,
        target: &Target,
        claim: Option<&Jurisdiction>,
        outgoing: &mut Outgoing,
    ) -> Attempt {
        let routing = self.routing.load_full();
        let forward = match self.decide_by(&routing, target, claim, outgoing.session) {
            Ok(forward) => forward,
            Err(refusal) => return Attempt::Decided(Err(refused(&refusal))),
        };
        let Some(term) = routing.term.as_ref().filter(|term| term.writes == Writes::Open) else {
            return Attempt::NotExecuted(Err(Problem::new(Code::WriterDraining)));
        };
        let mut not_executed = Err(Problem::new(Code::WriterUnavailable));
        for upstream in &forward.candidates {
            let attempt = self.offer(upstream, outgoing, term).await;
            attempt.count(upstream);
            match attempt {
                Attempt::NotExecuted(Err(_)) => {}
                Attempt::NotExecuted(refusal) => not_executed = refusal,
                decided => return decided,
            }
        }
        Attempt::NotExecuted(not_executed)
    }

    async fn offer(&self, upstream: &Upstream, outgoing: &mut Outgoing, term: &Term) -> Attempt {
        let timeout = Duration::from_millis(self.limits.write_timeout_ms);
        let Some(body) = outgoing.payload.take() else {
            return Attempt::NotExecuted(Err(Problem::new(Code::WriterUnavailable)));
        };
        let sent = tokio::select! {
            sent = self.upstreams.send(upstream, outgoing.request(body), timeout) => sent,
            () = self.moved_on(term, outgoing) => Err(SendError::Broken),
        };
        let answer = match sent {
            Ok(answer) => answer,
            Err(SendError::NotSent) => {
                return Attempt::NotExecuted(Err(Problem::new(Code::WriterUnavailable)));
            }
            Err(SendError::Broken) => return Attempt::Unknown,
            Err(SendError::Late) => return Attempt::Decided(Err(outgoing.fate_unknown())),
        };
        let stale = is_older(answer.headers(), term.epoch);
        match self.look_into(answer).await {
            Attempt::Decided(_) if stale => {
                metrics::counter!("domicile_router_stale_answers_total").increment(1);
                tracing::warn!(node = %upstream.node, epoch = %term.epoch, "answer of an ended epoch");
                Attempt::Unknown
            }
            attempt => attempt,
        }
    }

    /// Ends some time after the record has named another region in a newer epoch: an answer that was under way has
    /// arrived by then. What cannot be repeated is given the time of a connection attempt besides, as it may only wait
    /// for that and is sure not to be executed then.
    async fn moved_on(&self, term: &Term, outgoing: &Outgoing) {
        let mut calls = self.room.calls();
        let has_moved = |now: &Term| now.epoch > term.epoch && now.region != term.region;
        while !self.routing.load().term.as_ref().is_some_and(has_moved) {
            if calls.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
        let connecting_ms =
            if outgoing.is_repeatable() { 0 } else { self.limits.connect_timeout_ms };
        sleep(Duration::from_millis(LATE_ANSWER_MS + connecting_ms)).await;
    }

    /// Tells a refusal before execution from every other answer.
    async fn look_into(&self, answer: Response<Incoming>) -> Attempt {
        let is_problem = answer.headers().get(header::CONTENT_TYPE) == Some(&PROBLEM_JSON);
        if answer.status() != StatusCode::SERVICE_UNAVAILABLE || !is_problem {
            return Attempt::Decided(Ok(self.pass_on(answer)));
        }
        let (mut head, body) = answer.into_parts();
        let pause = Duration::from_millis(self.limits.body_pause_ms);
        let body = tokio::time::timeout(pause, Limited::new(body, REFUSAL_MAX_BYTES).collect());
        let Ok(Ok(body)) = body.await else { return Attempt::Unknown };
        let body = body.to_bytes();
        let problem: Option<RemoteProblem> = serde_json::from_slice(&body).ok();
        let code = problem.and_then(|problem| problem.known_code());
        headers::for_caller(&mut head.headers);
        let answer = Response::from_parts(head, Answer::whole(body));
        match code {
            Some(code) if NOT_EXECUTED.contains(&code) => Attempt::NotExecuted(Ok(answer)),
            _ => Attempt::Decided(Ok(answer)),
        }
    }

    fn pass_on(&self, answer: Response<Incoming>) -> Response<Answer> {
        let limits = &self.limits;
        let is_stream = answer.headers().get(header::CONTENT_TYPE) == Some(&EVENT_STREAM);
        let (pause_ms, total_ms) = if is_stream {
            (limits.stream_pause_ms, limits.stream_timeout_ms)
        } else {
            (limits.body_pause_ms, limits.body_timeout_ms)
        };
        let bounds = Bounds {
            max_bytes: ANSWER_MAX_BYTES,
            pause: Duration::from_millis(pause_ms),
            total: Duration::from_millis(total_ms),
        };
        let mut answer = answer.map(|body| Answer::streamed(Bounded::new(body, bounds)));
        headers::for_caller(answer.headers_mut());
        answer
    }
}

/// What came of one attempt.
enum Attempt {
    /// An answer, or a refusal that waiting does not change.
    Decided(Result<Response<Answer>, Problem>),
    /// Certainly not executed.
    NotExecuted(Result<Response<Answer>, Problem>),
    /// Perhaps executed.
    Unknown,
}

impl Attempt {
    fn count(&self, writer: &Upstream) {
        let outcome = match self {
            Self::Decided(Ok(_)) => "answered",
            Self::NotExecuted(_) => "not-executed",
            Self::Decided(Err(_)) | Self::Unknown => "unknown",
        };
        let labels = [("node", writer.node.to_string()), ("outcome", outcome.to_owned())];
        metrics::counter!("domicile_router_writer_requests_total", &labels).increment(1);
    }
}

/// Whether an answer says that it is of an epoch before this one.
fn is_older(headers: &HeaderMap, epoch: Epoch) -> bool {
    let said = headers.get(EPOCH_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    said.is_some_and(|said| Epoch(said) < epoch)
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
        Target::Operator | Target::Preflight | Target::PlayerWrite | Target::PlayerStream => {
            Role::Writer
        }
        Target::PlayerRead | Target::Log(_) | Target::Page => Role::Reader,
    }
}

fn is_failing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}
