//! An operator's wallet: a real HTTPS server over a journal on disk, which can be told to misbehave.
//!
//! It knows nothing of the ledger but the documented requests and their signature. A wallet that runs as a program of its
//! own is told what to do, and says what it has, below `/simulator/`.

mod desk;
pub mod fault;
mod signature;
pub mod store;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domicile_service::clock::{Clock, SystemClock};
use domicile_service::config::TlsFiles;
use domicile_service::drain::{Drain, DrainLimits};
use domicile_service::listener::{Listener, ListenerLimits};
use domicile_service::tls::{ClientAuth, ServerTls};
use fault::{Fault, Reply, Storm};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
pub use signature::Trust;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use store::{Entry, Store};

/// The name of the ledger's key at this wallet.
pub const KEY_ID: &str = "domicile";

/// What the handlers share.
struct Inner {
    store: Mutex<Store>,
    trust: Trust,
    clock: Arc<dyn Clock>,
    scripts: Mutex<BTreeMap<String, VecDeque<Fault>>>,
    always: Mutex<Option<Fault>>,
    storm: Mutex<Option<Storm>>,
    calls: Mutex<Vec<(String, Value)>>,
    traces: Mutex<Vec<String>>,
}

/// A running wallet.
pub struct Wallet {
    /// Its address.
    pub url: String,
    inner: Arc<Inner>,
    drain: Drain,
}

impl Wallet {
    /// Starts one with this certificate over this journal; requests must be signed with `secret`.
    pub async fn start(files: &TlsFiles, journal: &Path, secret: &[u8]) -> Self {
        Self::start_at(files, journal, secret, Arc::new(SystemClock)).await
    }

    /// As [`Self::start`], with a clock of one's own.
    pub async fn start_at(
        files: &TlsFiles,
        journal: &Path,
        secret: &[u8],
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::trusting(files, journal, Trust::Hmac(secret.to_vec()), clock).await
    }

    /// As [`Self::start_at`], with requests signed in either way.
    pub async fn trusting(
        files: &TlsFiles,
        journal: &Path,
        trust: Trust,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let tls = ServerTls::load(files, ClientAuth::None).expect("the wallet's certificate");
        let any = "127.0.0.1:0".parse().expect("an address");
        let listener = Listener::bind(any, Some(tls), ListenerLimits::default()).await;
        let listener = listener.expect("the wallet's listener");
        let url = format!("https://127.0.0.1:{}/wallet", listener.local_addr().port());
        let inner = Arc::new(Inner {
            store: Mutex::new(Store::open(journal)),
            trust,
            clock,
            scripts: Mutex::default(),
            always: Mutex::default(),
            storm: Mutex::default(),
            calls: Mutex::default(),
            traces: Mutex::default(),
        });
        let app = Router::new()
            .nest("/simulator", desk::routes(&inner))
            .fallback(answer)
            .with_state(Arc::clone(&inner));
        let drain = Drain::new(DrainLimits::default());
        let draining = drain.clone();
        tokio::spawn(async move { listener.serve_app(app, &draining).await });
        Self { url, inner, drain }
    }

    /// What it remembers.
    pub fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.inner.store.lock().expect("the store")
    }

    /// How the next calls of this kind go, in order.
    pub fn script(&self, call: &str, faults: &[Fault]) {
        let mut scripts = self.inner.scripts.lock().expect("the scripts");
        scripts.entry(call.to_owned()).or_default().extend(faults);
    }

    /// Forgets what was scripted and did not happen.
    pub fn forget_scripts(&self) {
        self.inner.scripts.lock().expect("the scripts").clear();
    }

    /// How every call goes that no script names, until told otherwise.
    pub fn always(&self, fault: Option<Fault>) {
        *self.inner.always.lock().expect("the fault") = fault;
    }

    /// Lets calls go wrong by chance, or no longer.
    pub fn storm(&self, storm: Option<Storm>) {
        *self.inner.storm.lock().expect("the storm") = storm;
    }

    /// Every call that came, with its body.
    pub fn calls(&self) -> Vec<(String, Value)> {
        self.inner.calls.lock().expect("the calls").clone()
    }

    /// The `traceparent` of every call that had one.
    pub fn traces(&self) -> Vec<String> {
        self.inner.traces.lock().expect("the traces").clone()
    }
}

impl Drop for Wallet {
    fn drop(&mut self) {
        self.drain.begin("the wallet stops");
    }
}

impl Inner {
    fn fault(&self, call: &str) -> Fault {
        let scripted =
            self.scripts.lock().expect("the scripts").get_mut(call).and_then(VecDeque::pop_front);
        let always = *self.always.lock().expect("the fault");
        let storm = || self.storm.lock().expect("the storm").as_mut().map(Storm::strike);
        scripted.or(always).or_else(storm).unwrap_or(Fault::NONE)
    }

    fn process(&self, call: &str, body: &Value, times: Option<u32>) -> Value {
        if call == "balance" {
            return self.balance(body);
        }
        let status = match (Entry::read(call, body), times) {
            (None, _) => "RS_ERROR_WRONG_SYNTAX",
            (Some(_), None) => "RS_ERROR_UNKNOWN",
            (Some(entry), Some(times)) => {
                self.store.lock().expect("the store").process(entry, times)
            }
        };
        json!({ "status": status })
    }

    fn balance(&self, body: &Value) -> Value {
        let (Some(user), Some(currency)) = (body["user"].as_str(), body["currency"].as_str())
        else {
            return json!({ "status": "RS_ERROR_WRONG_SYNTAX" });
        };
        let balance = self.store.lock().expect("the store").would_have(user, currency);
        json!({ "status": "RS_OK", "balance_micro": u64::try_from(balance).unwrap_or(0) })
    }
}

async fn answer(
    State(inner): State<Arc<Inner>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    let said = |code: &str| axum::Json(json!({ "status": code })).into_response();
    if !inner.trust.is_signed(uri.path(), &headers, &body, inner.clock.now_unix_s()) {
        return said("RS_ERROR_INVALID_SIGNATURE");
    }
    let trace = headers.get("traceparent").and_then(|value| value.to_str().ok());
    inner.traces.lock().expect("the traces").extend(trace.map(str::to_owned));
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return said("RS_ERROR_WRONG_SYNTAX");
    };
    inner.calls.lock().expect("the calls").push((call.clone(), body.clone()));
    let fault = inner.fault(&call);
    tokio::time::sleep(fault.before).await;
    let own = inner.process(&call, &body, fault.times);
    if fault.again {
        inner.process(&call, &body, fault.times);
    }
    tokio::time::sleep(fault.after).await;
    match fault.reply {
        Reply::Own => axum::Json(own).into_response(),
        Reply::Code(code) => said(code),
        Reply::NoStatus => axum::Json(json!({ "balance": 1 })).into_response(),
        Reply::Http500 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Reply::Broken => {
            let broken = std::io::Error::other("the connection breaks");
            Body::from_stream(tokio_stream::once(Err::<Bytes, _>(broken))).into_response()
        }
    }
}
