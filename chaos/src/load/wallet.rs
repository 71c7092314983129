//! The wallet of the run's operator: a simulator with a process of its own, told to misbehave while the load is on.
//!
//! Invariant: it is ended with the load; its journal stands in the folder of the run. It is asked what it has and told the
//! weather; everything else it knows from the ledger's calls.

use crate::http::Outside;
use crate::system::System;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use domicile_oracles::observation::{Booked, Wallet as Books};
use http::Request;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// The simulator's program, beside this one.
const SIMULATOR: &str = "domicile-wallet-simulator";
/// The name of the ledger's key there.
const KEY_ID: &str = "domicile";
/// How long the ledger waits for a call, in milliseconds.
const CALL_TIMEOUT_MS: u64 = 700;
/// How long a call takes that the ledger does not wait for, in milliseconds.
const TOO_LONG_MS: u64 = 1_500;
/// How long the simulator may take to serve.
const SERVES_WITHIN: Duration = Duration::from_secs(20);
/// How long wins and rollbacks may take once the weather is fair: longer than an abandoned bet is left to its request.
const DRAINED_WITHIN: Duration = Duration::from_mins(2);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How bad the weather is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weather {
    /// How many calls of a hundred are dropped, delayed, doubled, fail, or lose their answer.
    pub percent: u64,
}

/// A running wallet.
pub struct Wallet {
    operator: String,
    url: String,
    http: Outside,
    // Ended when dropped.
    _process: Child,
}

#[derive(Deserialize)]
struct Held {
    accounts: BTreeMap<String, Account>,
    violations: Vec<String>,
}

#[derive(Deserialize)]
struct Account {
    given_micro: i128,
    balances_micro: i128,
}

#[derive(Deserialize)]
struct Jobs {
    jobs: Vec<serde_json::Value>,
}

fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(SIMULATOR));
    let mut found = found.filter(|path| path.is_file());
    found.next().with_context(|| {
        format!("there is no `{SIMULATOR}` beside this program: run `cargo build -p domicile-tests --bins`")
    })
}

impl Wallet {
    /// Starts the wallet of an operator and tells the ledger of it.
    pub(super) async fn start(
        system: &System,
        operator: &str,
        folder: &Path,
        http: &Outside,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let file = |name: &str| folder.join(name).display().to_string();
        let authority = system.state.join("operator/authority").display().to_string();
        let cluster = system.topology.cluster.to_string();
        let (tls, secret) = (file("tls"), file("secret"));
        let issue = [
            "pki",
            "issue",
            "--cluster",
            &cluster,
            "--authority",
            &authority,
            "--role",
            "test",
            "--node",
            "wallet",
            "--host",
            "127.0.0.1",
            "--out",
            &tls,
        ];
        system.must(&issue).await?;
        std::fs::write(&secret, format!("the secret of {operator} and its ledger"))
            .context("cannot write the wallet's secret")?;
        let process = Command::new(program()?)
            .args(["--tls", &tls, "--journal", &file("journal"), "--secret", &secret])
            .args(["--address", &file("address")])
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the wallet's simulator")?;
        let url = address(&folder.join("address")).await?;
        let set = [
            "wallet",
            "set",
            operator,
            "--url",
            &url,
            "--key-id",
            KEY_ID,
            "--key-file",
            &secret,
            "--duplicate",
            "conflict",
            "--reason",
            "the experiment's wallet",
            "--timeout-ms",
            &CALL_TIMEOUT_MS.to_string(),
            "--retry-first-ms",
            "50",
            "--retry-longest-ms",
            "1000",
            "--breaker-failures",
            "20",
            "--breaker-pause-ms",
            "500",
        ];
        system.must(&set).await?;
        Ok(Self { operator: operator.to_owned(), url, http: http.clone(), _process: process })
    }

    /// Lets so many calls of a hundred go wrong from now on.
    pub async fn weather(&self, percent: u64, seed: u64) -> Result<()> {
        let body = json!({ "percent": percent, "seed": seed, "too_long_ms": TOO_LONG_MS });
        let request = Request::post(self.address("weather"))
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()))?;
        self.ask(request).await.map(drop)
    }

    /// Waits until the ledger has done everything with it, and tells what both have.
    pub async fn books(&self, system: &System) -> Result<Books> {
        let begun = Instant::now();
        let pending = loop {
            let pending = self.open(system, "pending").await?;
            if pending == 0 || begun.elapsed() >= DRAINED_WITHIN {
                break pending;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let dead = self.open(system, "dead").await?;
        let held: Held = self.get("held").await?;
        let entries = self.entries().await?;
        let of = |amount: fn(&Account) -> i128| {
            held.accounts.iter().map(|(name, account)| (name.clone(), amount(account))).collect()
        };
        Ok(Books {
            entries,
            given_micro: of(|account| account.given_micro),
            balances_micro: of(|account| account.balances_micro),
            violations: held.violations.clone(),
            pending: pending + dead,
        })
    }

    /// Every transaction that was booked, page by page: an answer has a limit.
    async fn entries(&self) -> Result<Vec<Booked>> {
        let mut entries: Vec<Booked> = Vec::new();
        loop {
            let after = entries.last().map(|entry| entry.id.clone()).unwrap_or_default();
            let page: Vec<Booked> = self.get(&format!("entries?after={after}")).await?;
            if page.is_empty() {
                return Ok(entries);
            }
            entries.extend(page);
        }
    }

    async fn open(&self, system: &System, status: &str) -> Result<u64> {
        let list = ["wallet", "jobs", "list", &self.operator, "--status", status, "--json"];
        let said = system.must(&list).await?;
        let jobs: Jobs = serde_json::from_str(&said).context("the list of jobs is no JSON")?;
        Ok(u64::try_from(jobs.jobs.len())?)
    }

    fn address(&self, what: &str) -> String {
        let base = self.url.strip_suffix("/wallet").unwrap_or(&self.url);
        format!("{base}/simulator/{what}")
    }

    async fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        let answer = self.ask(Request::get(self.address(what)).body(Bytes::new())?).await?;
        serde_json::from_slice(&answer).context("the wallet's simulator says something else")
    }

    async fn ask(&self, request: Request<Bytes>) -> Result<Bytes> {
        match self.http.send(request).await {
            Ok(answer) if answer.status.is_success() => Ok(answer.body),
            other => bail!("the wallet's simulator does not answer: {other:?}"),
        }
    }
}

async fn address(file: &Path) -> Result<String> {
    let begun = Instant::now();
    loop {
        if let Ok(url) = std::fs::read_to_string(file) {
            return Ok(url.trim().to_owned());
        }
        if begun.elapsed() >= SERVES_WITHIN {
            bail!("the wallet's simulator does not serve within {} s", SERVES_WITHIN.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
