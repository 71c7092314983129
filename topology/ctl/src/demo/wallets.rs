//! The demo's operators keep their players' money in wallets of their own: simulators, one process each.
//!
//! The simulator is a program of the tests and no part of what is shipped; it is found beside this one. Its process stands
//! in a file of the state folder, so that `down` ends it whoever comes by. At the end both sides' money is compared to the
//! micro-unit: each wallet's with the ledger's, and the ledger's with itself.

use super::LEDGER_OPERATORS;
use crate::conservation;
use crate::credentials::Writer;
use crate::drill;
use crate::files::{self, MODE_FOLDER_SECRET, MODE_SECRET};
use crate::layout::Layout;
use crate::outside::Outside;
use crate::pki::{Authority, CERTIFICATE_DAYS, Subject};
use crate::process::{self, Program, Started};
use crate::reconcile::{self, ReconcileArgs};
use crate::secrets;
use crate::term;
use crate::wait::{self, Look};
use crate::wallet::{self, Served};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use domicile_core::base64;
use domicile_core::conservation::{Audit, Line};
use domicile_core::wallet::reconcile::HEADER;
use domicile_service::clock::{Clock, SystemClock};
use domicile_topology::Topology;
use http::Request;
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The simulator's program.
const SIMULATOR: &str = "domicile-wallet-simulator";
/// The name of the ledger's key there.
const KEY_ID: &str = "domicile";
/// How long a simulator may take to serve, or to end.
const WITHIN: Duration = Duration::from_secs(20);
/// How long wins and rollbacks may take to reach the wallets: longer than an abandoned bet is left to its request.
const DRAINED_WITHIN: Duration = Duration::from_mins(1);
/// How long the ledger waits for a wallet of the demo, milliseconds.
const CALL_TIMEOUT_MS: u32 = 2_000;

/// An operator's wallet, running.
pub(super) struct Simulator {
    operator: &'static str,
    /// Where the ledger calls it.
    url: String,
}

/// What a simulator says of one currency.
#[derive(Deserialize)]
struct Account {
    bets_micro: u64,
    wins_micro: u64,
    rollbacks_micro: u64,
    given_micro: i128,
    balances_micro: i128,
    players: usize,
}

#[derive(Deserialize)]
struct Held {
    accounts: BTreeMap<String, Account>,
    violations: Vec<String>,
}

fn folder(layout: &Layout) -> PathBuf {
    layout.root().join("wallets")
}

/// Starts a wallet for each operator.
pub(super) async fn start(
    topology: &Topology,
    layout: &Layout,
) -> Result<(String, Vec<Simulator>)> {
    let here = std::env::current_exe().context("cannot find this program's own file")?;
    let path = here.parent().context("this program has no folder")?.join(SIMULATOR);
    if !path.is_file() {
        bail!("{} is missing; `make demo` builds it", path.display());
    }
    let now = SystemClock.now_unix_s();
    let authority =
        Authority::open_or_create(&layout.operator().join("authority"), &topology.cluster, now)?;
    let mut simulators = Vec::new();
    for operator in LEDGER_OPERATORS {
        let own = folder(layout).join(operator);
        files::folder(&own, MODE_FOLDER_SECRET)?;
        let secret: [u8; 32] = secrets::random()?;
        files::write(&own.join("secret"), &secret, MODE_SECRET)?;
        let node = format!("wallet-{operator}");
        let subject = Subject { role: "test".into(), node, hosts: vec!["127.0.0.1".into()] };
        authority.ensure(&own.join("tls"), &subject, CERTIFICATE_DAYS)?;
        let file = |name: &str| own.join(name).display().to_string();
        let args = [
            ("--tls", file("tls")),
            ("--journal", file("journal")),
            ("--secret", file("secret")),
            ("--address", file("address")),
        ];
        let args = args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        let started =
            process::start(&Program { path: path.clone(), args, folder: own.clone() }, None)?;
        files::write(&own.join("process.json"), &serde_json::to_vec(&started)?, MODE_SECRET)?;
        simulators.push(Simulator { operator, url: serving(&own).await? });
    }
    Ok((format!("{} simulators", simulators.len()), simulators))
}

async fn serving(own: &Path) -> Result<String> {
    wait::until("a wallet simulator's address", WITHIN, || async {
        match files::read(&own.join("address")) {
            Ok(url) => Look::Done(url.trim().to_owned()),
            Err(error) => Look::NotYet(format!("{error:#}")),
        }
    })
    .await
}

/// Ends the wallets that a demo has left in this folder, if any.
pub(crate) async fn end(layout: &Layout) -> Result<()> {
    for operator in LEDGER_OPERATORS {
        let file = folder(layout).join(operator).join("process.json");
        let Ok(text) = files::read(&file) else { continue };
        let started: Started = serde_json::from_str(&text)?;
        started.signal(Signal::TERM)?;
        if !started.gone_within(WITHIN).await {
            started.signal(Signal::KILL)?;
        }
    }
    Ok(())
}

impl Simulator {
    /// Tells the ledger that this operator's money is here.
    pub(super) async fn connect(&self, writer: &Writer, layout: &Layout) -> Result<()> {
        let secret = std::fs::read(folder(layout).join(self.operator).join("secret"));
        let secret = secret.context("the wallet's secret")?;
        let body = json!({
            "base_url": self.url, "signing": "hmac-sha256", "key_id": KEY_ID,
            "key_b64": base64::encode(&secret), "duplicate": "conflict",
            "timeout_ms": CALL_TIMEOUT_MS, "retry_first_ms": 200, "retry_longest_ms": 2_000,
            "reason": "the demo's own",
        });
        let set: Served = writer.post(&wallet::of(self.operator)?, &body).await?;
        wallet::taken_up(layout, self.operator, set.revision).await
    }

    async fn held(&self, outside: &Outside) -> Result<Held> {
        let base = self.url.strip_suffix("/wallet").unwrap_or(&self.url);
        let request = Request::get(format!("{base}/simulator/held")).body(Bytes::new())?;
        let answer = outside.once(request).await?;
        serde_json::from_slice(&answer.body).context("the simulator says something else")
    }
}

/// The ledger's judgement, once no wallet owes anything and nothing is asked of one.
pub(super) async fn drained(layout: &Layout) -> Result<(String, Audit)> {
    let begun = std::time::Instant::now();
    let audit = wait::until("wallets without pending transactions", DRAINED_WITHIN, || async {
        let judged = async { conservation::judge(&Writer::current(layout).await?).await };
        match judged.await {
            Err(error) => Look::NotYet(format!("{error:#}")),
            Ok(audit) if audit.lines.iter().any(|line| line.wallet_pending > 0) => {
                let pending: u64 = audit.lines.iter().map(|line| line.wallet_pending).sum();
                Look::NotYet(format!("{pending} pending"))
            }
            Ok(audit) => Look::Done(audit),
        }
    })
    .await?;
    if !audit.holds() {
        bail!("money is not conserved: {:?}", audit.breaks);
    }
    let bets: u64 = audit.lines.iter().map(|line| line.bets).sum();
    Ok((format!("{bets} bets, after {}", term::elapsed(begun.elapsed())), audit))
}

/// Both sides' money, operator by operator and currency by currency; an error where they differ.
pub(super) async fn compare(
    simulators: &[Simulator],
    audit: &Audit,
    outside: &Outside,
) -> Result<String> {
    let headers =
        ["operator", "currency", "players", "bets", "given", "balances", "ledger says", "equal"];
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for simulator in simulators {
        let held = simulator.held(outside).await?;
        wrong.extend(held.violations);
        for (currency, account) in &held.accounts {
            let lines = of(audit, simulator.operator, currency);
            let net: i128 = lines.iter().map(|line| net(line)).sum();
            let says = account.given_micro.saturating_add(net);
            let equal = says == account.balances_micro;
            if !equal {
                wrong.push(format!("{} {currency}", simulator.operator));
            }
            let bets: u64 = lines.iter().map(|line| line.bets).sum();
            rows.push(vec![
                simulator.operator.to_owned(),
                currency.clone(),
                account.players.to_string(),
                bets.to_string(),
                account.given_micro.to_string(),
                account.balances_micro.to_string(),
                says.to_string(),
                if equal { "✓ equal" } else { "✗ NOT EQUAL" }.to_owned(),
            ]);
        }
    }
    let page = term::table(&headers, &rows);
    if !wrong.is_empty() {
        bail!("wallets and ledger differ: {}\n{page}", wrong.join("; "));
    }
    if rows.len() < simulators.len() {
        bail!("an operator's players moved no money:\n{page}");
    }
    Ok(format!("Money at the wallets and in the ledger, micro-units\n{page}"))
}

fn of<'a>(audit: &'a Audit, operator: &str, currency: &str) -> Vec<&'a Line> {
    let mine =
        |line: &&Line| line.account.operator == operator && line.account.currency == currency;
    audit.lines.iter().filter(mine).collect()
}

/// What the players of an account have won or lost.
const fn net(line: &Line) -> i128 {
    line.payouts_micro.saturating_add(line.returned_micro).saturating_sub(line.stakes_micro)
}

/// The day's settlement file of each wallet, compared as an operator's back office would.
pub(super) async fn reconcile(
    simulators: &[Simulator],
    layout: &Layout,
    outside: &Outside,
    began_unix_ms: u64,
) -> Result<()> {
    let day = |unix_ms| drill::utc(unix_ms).chars().take(10).collect::<String>();
    let (date, today) = (day(began_unix_ms), day(SystemClock.now_unix_ms()));
    if date != today {
        return term::note("\nnot reconciled: the day has changed meanwhile");
    }
    for simulator in simulators {
        for (currency, account) in simulator.held(outside).await?.accounts {
            let file = folder(layout).join(simulator.operator).join(format!("{currency}.csv"));
            let Account { bets_micro, wins_micro, rollbacks_micro, .. } = account;
            let operator = simulator.operator;
            let row =
                format!("{operator},{date},{currency},{bets_micro},{wins_micro},{rollbacks_micro}");
            files::write(&file, format!("{HEADER}\n{row}\n").as_bytes(), MODE_SECRET)?;
            term::say(format_args!("\ndomicile reconcile --operator {operator} --date {date}"))?;
            let args = ReconcileArgs {
                operator: operator.to_owned(),
                currency,
                date: date.clone(),
                file,
                verbose: true,
                json: false,
            };
            if reconcile::run(Ok(layout.clone()), &args).await? != 0 {
                bail!("the settlement file of {operator} does not match the ledger");
            }
        }
    }
    Ok(())
}
