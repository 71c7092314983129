//! The members of the control plane: which one is asked, and when the next one is.
//!
//! Invariants: each endpoint has at most the method's time for an answer and each is asked
//! at most once per call; a call that must not be repeated is sent to one endpoint only. Asked again is the same endpoint, and
//! only when it said that nothing was done: because of who is asking, or because its users have just changed.
//! Certificates are read again whenever a connection is made anew, so that a renewed one needs no restart.

use crate::config::{ControlConfig, TlsPaths, limits};
use crate::error::Error;
use crate::roles;
use domicile_topology::address::ServiceUrl;
use prost::Message;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint as Transport, Identity};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

/// Counter of requests, by operation and outcome.
const REQUESTS: &str = "domicile_control_requests_total";
/// Counter of turns to another endpoint.
const FAILOVERS: &str = "domicile_control_endpoint_failovers_total";

/// One remote procedure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    /// How long one endpoint may take.
    pub(crate) attempt_timeout_ms: u64,
}

/// A procedure with the usual time for an answer.
pub(crate) const fn method(name: &'static str, path: &'static str) -> Method {
    Method { name, path, attempt_timeout_ms: limits::ATTEMPT_TIMEOUT_MS }
}

/// Whether a request may reach more than one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempts {
    /// Repeating it changes nothing: every endpoint is asked until one answers.
    Repeatable,
    /// Repeating it could do it twice or misreport it: one endpoint, and a lost answer is reported as such.
    Once,
}

/// All endpoints, and which one answered last.
#[derive(Debug)]
pub(crate) struct Endpoints {
    members: Vec<Endpoint>,
    current: AtomicUsize,
    /// When the current endpoint answered last; `None` after a failure.
    answered: Mutex<Option<Instant>>,
    tls: TlsPaths,
}

#[derive(Debug)]
struct Endpoint {
    url: ServiceUrl,
    channel: Mutex<Option<Channel>>,
}

impl Endpoints {
    pub(crate) fn new(config: &ControlConfig) -> Self {
        let endpoint = |url: &ServiceUrl| Endpoint { url: url.clone(), channel: Mutex::new(None) };
        Self {
            members: config.endpoints.iter().map(endpoint).collect(),
            current: AtomicUsize::new(0),
            answered: Mutex::new(None),
            tls: config.tls.clone(),
        }
    }

    /// The endpoint that answered last.
    pub(crate) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Whether the current endpoint has answered within this time, and nothing failed since.
    pub(crate) fn answered_within(&self, time: Duration) -> bool {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.is_some_and(|answered| answered.elapsed() < time)
    }

    fn note_answer(&self, answered: Option<Instant>) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = answered;
    }

    /// Calls `method`; the endpoints are asked in turn, starting with the one that answered last.
    pub(crate) async fn call<Q, R>(
        &self,
        method: Method,
        request: Q,
        attempts: Attempts,
    ) -> Result<R, Error>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        self.ask(method, attempts, |channel| unary(channel, method, request.clone())).await
    }

    /// Runs `attempt` against one endpoint after the other, as far as `attempts` permits.
    pub(crate) async fn ask<R, A, F>(
        &self,
        method: Method,
        attempts: Attempts,
        attempt: A,
    ) -> Result<R, Error>
    where
        A: Fn(Channel) -> F,
        F: Future<Output = Result<R, Status>>,
    {
        let operation = method.name;
        let first = self.current();
        let mut cause = String::from("there is none");
        for (index, endpoint) in self.from(first) {
            let deadline = Duration::from_millis(method.attempt_timeout_ms);
            let answer = tokio::time::timeout(deadline, self.answer(endpoint, &attempt)).await;
            let late = || Ok(Err(Status::deadline_exceeded("no answer in time")));
            match answer.unwrap_or_else(|_| late())? {
                Ok(answer) => {
                    count(operation, "ok");
                    self.turn_to(index, first);
                    self.note_answer(Some(Instant::now()));
                    return Ok(answer);
                }
                Err(status) if status.code() == Code::PermissionDenied => {
                    count(operation, "refused");
                    let needed = roles::who_reads();
                    return Err(Error::RoleInsufficient { operation, needed });
                }
                Err(status) if is_final(&status) => {
                    count(operation, "refused");
                    let cause = status.message().to_owned();
                    return Err(Error::Refused { operation, cause });
                }
                Err(status) => {
                    count(operation, "failed");
                    endpoint.forget_channel();
                    self.note_answer(None);
                    cause = format!("{}: {}", endpoint.url, describe(&status));
                }
            }
            if attempts == Attempts::Once {
                return Err(Error::OutcomeUnknown { operation, cause });
            }
        }
        Err(Error::Unavailable { operation, cause })
    }

    /// One endpoint's answer. Who is refused asks again over a new connection, since the certificate may have been
    /// replaced after this one was made; and so does who met a change of etcd's users. Neither has changed anything.
    async fn answer<R, A, F>(
        &self,
        endpoint: &Endpoint,
        attempt: &A,
    ) -> Result<Result<R, Status>, Error>
    where
        A: Fn(Channel) -> F,
        F: Future<Output = Result<R, Status>>,
    {
        let mut is_new = !endpoint.is_connected();
        loop {
            match attempt(endpoint.channel(&self.tls)?).await {
                Err(status) if status.code() == Code::PermissionDenied && !is_new => {
                    is_new = true;
                    endpoint.forget_channel();
                }
                Err(status) if met_a_change_of_users(&status) => {
                    let pause = Duration::from_millis(limits::USERS_CHANGED_PAUSE_MS);
                    tokio::time::sleep(pause).await;
                }
                answer => return Ok(answer),
            }
        }
    }

    /// Every endpoint once, beginning with `first`.
    fn from(&self, first: usize) -> impl Iterator<Item = (usize, &Endpoint)> {
        let all = || self.members.iter().enumerate();
        all().skip(first).chain(all().take(first))
    }

    fn turn_to(&self, index: usize, previous: usize) {
        if index != previous {
            self.current.store(index, Ordering::Relaxed);
            metrics::counter!(FAILOVERS).increment(1);
            let url = self.members.get(index).map(|endpoint| endpoint.url.to_string());
            tracing::info!(endpoint = url, "turned to another control endpoint");
        }
    }
}

impl Endpoint {
    /// The open channel, or a new one with the certificates as they are now.
    fn channel(&self, tls: &TlsPaths) -> Result<Channel, Error> {
        let mut slot = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = slot.as_ref() {
            return Ok(channel.clone());
        }
        let identity = Identity::from_pem(read(&tls.cert)?, read(&tls.key)?);
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&tls.ca)?))
            .identity(identity)
            .domain_name(self.url.address().host());
        let refused = |error: tonic::transport::Error| Error::Tls {
            path: tls.cert.clone(),
            cause: chain(&error),
        };
        let channel = Transport::from_shared(self.url.to_string())
            .map_err(refused)?
            .tls_config(config)
            .map_err(refused)?
            .connect_timeout(Duration::from_millis(limits::CONNECT_TIMEOUT_MS))
            .connect_lazy();
        *slot = Some(channel.clone());
        Ok(channel)
    }

    fn is_connected(&self) -> bool {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn forget_channel(&self) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A request that a member without a leader refuses at once, instead of letting it wait.
pub(crate) fn with_leader<Q>(message: Q) -> Request<Q> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    request
}

async fn unary<Q, R>(channel: Channel, method: Method, message: Q) -> Result<R, Status>
where
    Q: Message + 'static,
    R: Message + Default + 'static,
{
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
    let path = PathAndQuery::from_static(method.path);
    let answer = client.unary(with_leader(message), path, ProstCodec::<Q, R>::default()).await;
    answer.map(Response::into_inner)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path)
        .map_err(|error| Error::Tls { path: path.to_owned(), cause: error.to_string() })
}

/// Whether every member would answer the same.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated
    )
}

/// Whether the member refused because its users changed between the question and the answer.
fn met_a_change_of_users(status: &Status) -> bool {
    let text = status.message();
    text.contains("revision of auth store is old") || text.contains("revision in header is old")
}

fn describe(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => format!("{}: {}", status.message(), chain(source)),
        None => status.message().to_owned(),
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn count(operation: &'static str, outcome: &'static str) {
    metrics::counter!(REQUESTS, "operation" => operation, "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_core::ids::ClusterId;
    use domicile_service::config::TlsFiles;
    use domicile_service::peer::Role;
    use domicile_service::testing::TestCa;

    const METHOD: Method = method("test", "/test");

    fn endpoints(ca: &TestCa) -> Endpoints {
        let TlsFiles { cert, key, ca } = ca.issue(Role::Ctl, "ctl-a");
        let urls = ["https://127.0.0.1:1", "https://127.0.0.1:2", "https://127.0.0.1:3"];
        let cluster = ClusterId::parse("demo").unwrap();
        let tls = TlsPaths { cert, key, ca };
        Endpoints::new(&ControlConfig::new(cluster, &urls, tls, "unused".into()).unwrap())
    }

    /// Asks with the given outcomes, one per attempt, and says how many were used.
    async fn ask(
        endpoints: &Endpoints,
        attempts: Attempts,
        outcomes: &[Result<(), Code>],
    ) -> (Result<(), Error>, usize) {
        let used = AtomicUsize::new(0);
        let attempt = async |_| {
            let outcome = outcomes[used.fetch_add(1, Ordering::Relaxed)];
            outcome.map_err(|code| Status::new(code, "scripted"))
        };
        let outcome = endpoints.ask(METHOD, attempts, attempt).await;
        (outcome, used.into_inner())
    }

    #[tokio::test]
    async fn a_repeatable_request_goes_round_and_stays_where_it_was_answered() {
        let ca = TestCa::new();
        let endpoints = endpoints(&ca);
        let away = Err(Code::Unavailable);
        let (outcome, used) = ask(&endpoints, Attempts::Repeatable, &[away, away, Ok(())]).await;
        assert_eq!((outcome.is_ok(), used, endpoints.current()), (true, 3, 2));
        let (outcome, used) = ask(&endpoints, Attempts::Repeatable, &[away, Ok(())]).await;
        assert_eq!((outcome.is_ok(), used, endpoints.current()), (true, 2, 0));
        let (outcome, used) = ask(&endpoints, Attempts::Repeatable, &[away; 3]).await;
        assert!(matches!(outcome, Err(Error::Unavailable { .. })) && used == 3);
    }

    #[tokio::test]
    async fn a_change_whose_answer_is_lost_is_not_sent_again() {
        let ca = TestCa::new();
        let endpoints = endpoints(&ca);
        for lost in [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Unknown] {
            let (outcome, used) = ask(&endpoints, Attempts::Once, &[Err(lost)]).await;
            assert!(matches!(outcome, Err(Error::OutcomeUnknown { .. })) && used == 1);
        }
    }

    #[tokio::test]
    async fn a_refusal_is_the_answer_of_every_endpoint() {
        let ca = TestCa::new();
        let endpoints = endpoints(&ca);
        for attempts in [Attempts::Once, Attempts::Repeatable] {
            let refusal = [Err(Code::InvalidArgument)];
            let (outcome, used) = ask(&endpoints, attempts, &refusal).await;
            assert!(matches!(outcome, Err(Error::Refused { .. })) && used == 1);
        }
    }

    #[tokio::test]
    async fn who_is_refused_shows_the_certificate_anew_once() {
        let ca = TestCa::new();
        let endpoints = endpoints(&ca);
        let refused = Err(Code::PermissionDenied);
        let (outcome, used) = ask(&endpoints, Attempts::Once, &[refused; 3]).await;
        assert!(matches!(outcome, Err(Error::RoleInsufficient { .. })) && used == 1);
        let (outcome, used) = ask(&endpoints, Attempts::Once, &[refused; 3]).await;
        assert!(matches!(outcome, Err(Error::RoleInsufficient { .. })) && used == 2);
        let (outcome, used) = ask(&endpoints, Attempts::Once, &[refused, Ok(())]).await;
        assert_eq!((outcome.is_ok(), used, endpoints.current()), (true, 2, 0));
    }

    #[tokio::test]
    async fn a_change_of_users_is_waited_out() {
        let ca = TestCa::new();
        let endpoints = endpoints(&ca);
        let used = AtomicUsize::new(0);
        let attempt = async |_| match used.fetch_add(1, Ordering::Relaxed) {
            0..3 => Err(Status::invalid_argument("etcdserver: revision of auth store is old")),
            _ => Ok(()),
        };
        endpoints.ask(METHOD, Attempts::Once, attempt).await.unwrap();
        assert_eq!(used.into_inner(), 4);
    }
}
