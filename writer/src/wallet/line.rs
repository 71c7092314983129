//! The line to one operator's wallet: its connections, its places, its breaker.
//!
//! Invariants: a call ends within the wallet's deadline; at most as many calls are under way as the wallet has places, and
//! wins and rollbacks have their own, so that neither bets nor a backlog of wins takes all; every result reaches
//! the breaker that admitted its call.

use super::signing::WalletKey;
use crate::ledger::wallets::WalletSettings;
use crate::limits;
use domicile_core::limits::WALLET_ANSWER_MAX_BYTES;
use domicile_core::wallet::answer::{Answer, Meaning, meaning};
use domicile_core::wallet::breaker::{Breaker, BreakerSettings, Pass};
use domicile_core::wallet::exchange::{self, BalanceQuery, Transaction};
use domicile_core::wallet::job::RetryPolicy;
use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::clock::Clock;
use domicile_service::telemetry;
use domicile_service::tls::ClientTls;
use domicile_service::trace::{self, Trace};
use http::{Request, header};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument as _;
use uuid::Uuid;

/// Which places a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// Those of bets.
    Bets,
    /// Those of wins and rollbacks.
    Jobs,
}

/// Permission for one call: a place, and the breaker's pass.
#[derive(Debug)]
pub struct Admission {
    pass: Pass,
    _place: OwnedSemaphorePermit,
}

/// What goes over the line.
struct Question {
    name: &'static str,
    path: &'static str,
    id: Uuid,
    body: Option<Vec<u8>>,
}

/// An operator's wallet.
pub struct Line {
    /// How it is asked.
    pub settings: WalletSettings,
    /// The configuration's revision.
    pub revision: i64,
    key: WalletKey,
    client: HttpClient,
    bets: Arc<Semaphore>,
    jobs: Arc<Semaphore>,
    breaker: Mutex<Breaker>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("operator", &self.settings.operator).finish_non_exhaustive()
    }
}

impl Line {
    /// A line with a closed breaker.
    pub fn new(
        settings: WalletSettings,
        revision: i64,
        key: WalletKey,
        tls: &Arc<ClientTls>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let places = usize::try_from(settings.concurrency).unwrap_or(1);
        let jobs = places.div_ceil(2);
        let limits = ClientLimits {
            connect_timeout_ms: u64::from(settings.timeout_ms).min(limits::WALLET_CONNECT_MS),
            request_timeout_ms: u64::from(settings.timeout_ms),
            response_max_bytes: WALLET_ANSWER_MAX_BYTES,
            pool_idle_timeout_ms: limits::WALLET_IDLE_MS,
            pool_max_idle_per_host: places.saturating_add(jobs),
        };
        let breaker = Breaker::new(BreakerSettings {
            failures: settings.breaker_failures,
            pause: Duration::from_millis(u64::from(settings.breaker_pause_ms)),
        });
        Self {
            settings,
            revision,
            key,
            client: HttpClient::new(tls, limits),
            bets: Arc::new(Semaphore::new(places)),
            jobs: Arc::new(Semaphore::new(jobs)),
            breaker: Mutex::new(breaker),
            clock,
        }
    }

    /// When and how long transactions are repeated.
    pub fn retry(&self) -> RetryPolicy {
        let ms = |ms: u32| Duration::from_millis(u64::from(ms));
        RetryPolicy {
            first_pause: ms(self.settings.retry_first_ms),
            longest_pause: ms(self.settings.retry_longest_ms),
            give_up_after: Duration::from_secs(u64::from(self.settings.give_up_after_s)),
        }
    }

    /// How long a transaction belongs to the request or worker that is about to make its call.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(u64::from(self.settings.timeout_ms)) + limits::WALLET_LEASE_MARGIN
    }

    /// Waits a moment for a place and asks the breaker; `None` where either refuses.
    pub async fn admit(&self, places: Places) -> Option<Admission> {
        if !self.breaker().would_admit(self.clock.monotonic()) {
            return None;
        }
        let semaphore = match places {
            Places::Bets => &self.bets,
            Places::Jobs => &self.jobs,
        };
        let place = Arc::clone(semaphore).acquire_owned();
        let place = tokio::time::timeout(limits::WALLET_PLACE_WAIT, place).await.ok()?.ok()?;
        let pass = self.breaker().admit(self.clock.monotonic())?;
        Some(Admission { pass, _place: place })
    }

    /// How many transactions a worker may take now.
    pub fn free_places(&self) -> usize {
        let now = self.clock.monotonic();
        let breaker = self.breaker();
        if !breaker.would_admit(now) {
            return 0;
        }
        let half_open = breaker.state(now).as_gauge() > 0.0;
        drop(breaker);
        let free = self.jobs.available_permits();
        if half_open { free.min(1) } else { free }
    }

    /// Shows where the breaker stands.
    pub fn show(&self) {
        let state = self.breaker().state(self.clock.monotonic());
        metrics::gauge!("circuit_breaker_state", "operator" => self.settings.operator.to_string())
            .set(state.as_gauge());
    }

    /// Makes the call. Dropping it leaves the outcome unknown.
    pub async fn ask(&self, admission: Admission, transaction: &Transaction) -> (Answer, Meaning) {
        let Transaction { id, call, .. } = transaction;
        let body = transaction.body().ok();
        let question = Question { name: call.as_str(), path: call.path(), id: *id, body };
        let read = |status, body: &[u8]| (exchange::read(status, body), ());
        let (answer, ()) = self.make(admission, question, read).await;
        (answer, meaning(*call, answer, self.settings.duplicate))
    }

    /// Asks what a player has, micro-units; or what the wallet says instead.
    pub async fn balance(&self, admission: Admission, query: &BalanceQuery) -> Result<u64, Answer> {
        let body = query.body().ok();
        let (name, path) = (BalanceQuery::NAME, BalanceQuery::PATH);
        let question = Question { name, path, id: query.id, body };
        let (answer, balance) = self.make(admission, question, exchange::read_balance).await;
        balance.ok_or(answer)
    }

    async fn make<T: Default>(
        &self,
        admission: Admission,
        question: Question,
        read: impl FnOnce(u16, &[u8]) -> (Answer, T),
    ) -> (Answer, T) {
        let (begun, name) = (Instant::now(), question.name);
        let trace = trace::current().map_or_else(Trace::start, |trace| trace.child());
        let span = tracing::info_span!(
            "wallet_call",
            operator = %self.settings.operator,
            call = name,
            transaction = %question.id,
            trace_id = trace.trace_id_hex(),
            span_id = trace.span_id_hex(),
            answer = tracing::field::Empty,
        );
        let exchange = self.exchange(question, read);
        let (answer, told) = trace::scope(trace, exchange).instrument(span.clone()).await;
        span.record("answer", answer.as_str());
        let changed =
            self.breaker().report(admission.pass, answer.is_sound(), self.clock.monotonic());
        if changed {
            let state = self.breaker().state(self.clock.monotonic());
            tracing::warn!(operator = %self.settings.operator, ?state, "a wallet's circuit breaker moved");
            self.show();
        }
        self.count(name, answer, begun.elapsed());
        (answer, told)
    }

    async fn exchange<T: Default>(
        &self,
        question: Question,
        read: impl FnOnce(u16, &[u8]) -> (Answer, T),
    ) -> (Answer, T) {
        let nothing = || (Answer::None, T::default());
        let Some(request) = self.request(question) else { return nothing() };
        match self.client.send(request).await {
            Ok(response) => read(response.status().as_u16(), response.body()),
            Err(error) => {
                let reason = telemetry::chain(&error);
                tracing::debug!(operator = %self.settings.operator, reason, "a wallet gave no answer");
                nothing()
            }
        }
    }

    fn request(&self, question: Question) -> Option<Request<bytes::Bytes>> {
        let body = question.body?;
        let url = format!("{}{}", self.settings.base_url, question.path);
        let uri: http::Uri = url.parse().ok()?;
        let target = uri.path_and_query()?.as_str().to_owned();
        let now = self.clock.now_unix_s();
        let signed = self.key.headers(&self.settings.key_id, &target, now, &body)?;
        let request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        let request =
            signed.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        request.body(body.into()).ok()
    }

    fn count(&self, name: &'static str, answer: Answer, elapsed: Duration) {
        let operator = self.settings.operator.to_string();
        let labels = [("endpoint", name.to_owned()), ("operator", operator)];
        let ms = f64::from(u32::try_from(elapsed.as_millis()).unwrap_or(u32::MAX));
        metrics::histogram!("wallet_call_latency_ms", &labels).record(ms);
        if answer != Answer::Listed(domicile_core::wallet::answer::Status::Ok) {
            let [endpoint, operator] = labels;
            let labels = [endpoint, operator, ("rs_status", answer.as_str().to_owned())];
            metrics::counter!("wallet_call_errors_total", &labels).increment(1);
        }
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
