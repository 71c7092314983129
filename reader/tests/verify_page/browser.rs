//! A headless Chromium with a profile of its own, driven over the `WebDriver` protocol.
//!
//! Invariant: the browser ends with the test, also when the test fails. A machine without Chromium fails the
//! test and says how to install it: a page that nobody opened is not tested.

use std::{env, process::Stdio, sync::Arc, time::Instant};

use bytes::Bytes;
use domicile_service::{
    client::{ClientLimits, HttpClient},
    peer::Role,
    testing::TestCa,
};
use http::{Method, Request};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

const INSTALL: &str = "no chromedriver: run the tests through `make unit`, or `.ci/tools chromium -- cargo nextest \
    run -p domicile-reader`; to install it by hand: apt-get install chromium chromium-driver";
/// Longest single command, script included.
const COMMAND_TIMEOUT_MS: u64 = 110_000;
/// Longest wait for something to appear on the page.
const APPEAR_TIMEOUT_MS: u64 = 20_000;
/// What a fresh Chromium needs to run headless, as root, and without calling anybody.
const ARGUMENTS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// One browser.
pub(crate) struct Browser {
    http: HttpClient,
    session: String,
    driver: std::sync::Mutex<Option<Child>>,
    _profile: TempDir,
}

/// Runs a test in a fresh browser, and ends the browser whatever happens.
pub(crate) async fn with_browser<Fut>(test: impl FnOnce(Arc<Browser>) -> Fut)
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let browser = Arc::new(Browser::start().await);
    let outcome = tokio::spawn(test(browser.clone())).await;
    browser.quit().await;
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure.into_panic());
    }
}

impl Browser {
    async fn start() -> Self {
        let (driver, port) = start_driver().await;
        let tls = domicile_service::tls::ClientTls::load(
            &TestCa::new().issue(Role::Test, "browser-test"),
        );
        let limits =
            ClientLimits { request_timeout_ms: COMMAND_TIMEOUT_MS, ..ClientLimits::default() };
        let http = HttpClient::new(&tls.unwrap(), limits);
        let profile = tempfile::tempdir().unwrap();
        let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let base = format!("http://127.0.0.1:{port}/session");
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": COMMAND_TIMEOUT_MS},
        }}});
        let answer = command(&http, Method::POST, &base, &capabilities).await;
        let session = format!("{base}/{}", answer["sessionId"].as_str().unwrap());
        Self { http, session, driver: Some(driver).into(), _profile: profile }
    }

    async fn quit(&self) {
        command(&self.http, Method::DELETE, &self.session, &Value::Null).await;
        let driver = self.driver.lock().unwrap().take();
        driver.unwrap().kill().await.unwrap();
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        command(&self.http, Method::POST, &format!("{}/{path}", self.session), body).await
    }

    /// Opens an address and waits until the page has started.
    pub(crate) async fn open(&self, url: &str) {
        // A change of the fragment alone would not load the page again.
        self.post("url", &json!({ "url": "about:blank" })).await;
        self.post("url", &json!({ "url": url })).await;
        self.appears("document.body.dataset.ready === 'yes'").await;
    }

    /// Opens an address that was visited, again and again until an expression is true there: what a page keeps reaches the
    /// browser's storage a moment after the page has written it, and a driver is back sooner than a person.
    pub(crate) async fn reopen(&self, url: &str, condition: &str) {
        let begun = Instant::now();
        loop {
            self.open(url).await;
            if self.run(&format!("return !!({condition});"), Value::Null).await == json!(true) {
                return;
            }
            let within_ms = u128::from(APPEAR_TIMEOUT_MS);
            assert!(begun.elapsed().as_millis() < within_ms, "on no later visit: {condition}");
        }
    }

    /// Runs a function body in the page; `args` is what it is given, and a promise is waited for.
    pub(crate) async fn run(&self, body: &str, args: Value) -> Value {
        let script = format!(
            "const [args, done] = arguments; (async () => {{ {body} }})().then(
                (value) => done({{ value }}), (error) => done({{ error: String(error.stack) }}));"
        );
        let mut answer =
            self.post("execute/async", &json!({ "script": script, "args": [args] })).await;
        assert!(answer["error"].is_null(), "{}", answer["error"]);
        answer["value"].take()
    }

    /// Waits until an expression is true.
    pub(crate) async fn appears(&self, condition: &str) {
        let body = format!(
            "const until = performance.now() + {APPEAR_TIMEOUT_MS};
             while (!({condition})) {{
               if (performance.now() > until) throw new Error('never: ' + args + document.body.innerText);
               await new Promise((resolve) => setTimeout(resolve, 10));
             }}"
        );
        self.run(&body, json!(condition)).await;
    }

    /// Clicks the element that a CSS selector finds.
    pub(crate) async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.post(&format!("element/{element}/click"), &json!({})).await;
    }

    /// Types into the element, as a keyboard does; into a file field, the path of a file.
    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.post(&format!("element/{element}/value"), &json!({ "text": text })).await;
    }

    async fn element(&self, selector: &str) -> String {
        let query = json!({ "using": "css selector", "value": selector });
        let found = self.post("element", &query).await;
        let (_, id) = found.as_object().unwrap().iter().next().unwrap();
        id.as_str().unwrap().to_owned()
    }

    /// What the browser complained of since the last call: script errors, refused requests.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let entries = self.post("se/log", &json!({ "type": "browser" })).await;
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }
}

/// Starts chromedriver on a free port and reads that port from what it prints.
async fn start_driver() -> (Child, u16) {
    let program = env::var_os("DOMICILE_CHROMEDRIVER").unwrap_or_else(|| "chromedriver".into());
    let mut driver = Command::new(program)
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{INSTALL} ({error})"));
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            // The rest of its output is drained, so that it never blocks on a full pipe.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (driver, port.trim_end_matches('.').parse().unwrap());
        }
    }
    panic!("chromedriver ended without listening; {INSTALL}");
}

/// One `WebDriver` command; its `value`.
async fn command(http: &HttpClient, method: Method, url: &str, body: &Value) -> Value {
    let body = if body.is_null() { Bytes::new() } else { serde_json::to_vec(body).unwrap().into() };
    let request = Request::builder().method(method).uri(url);
    let request = request.header(http::header::CONTENT_TYPE, "application/json");
    let answer = http.send(request.body(body).unwrap()).await.unwrap();
    let mut json: Value = serde_json::from_slice(answer.body()).unwrap();
    assert!(answer.status().is_success(), "{url}: {json:#}");
    json["value"].take()
}
