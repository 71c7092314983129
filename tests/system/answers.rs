//! What an answer of an operator's wallet means, line by line of the reference's own table, on a whole cluster: each answer
//! is given to a bet, a win, a rollback and a question for the balance, at a wallet to which a duplicate is a conflict and at
//! one to which it is done. Looked at are the transaction in the ledger, the metric that names the code, and the player's
//! balance at the wallet.

use domicile_core::wallet::Call;
use domicile_core::wallet::answer::{Answer, Duplicate, Meaning, Status};
use domicile_core::wallet::exchange::BalanceQuery;
use domicile_core::wallet::job::JobState;
use domicile_tests::answer_table::{Line, lines};
use domicile_tests::cluster::Cluster;
use domicile_tests::database;
use domicile_tests::eventually::eventually;
use domicile_tests::meter::{ONE, thousandths};
use domicile_tests::player::Player;
use domicile_tests::purse;
use domicile_tests::topology::{Place, THREE_REGIONS};
use domicile_tests::wallet::fault::Fault;
use domicile_tests::wallet::{Trust, Wallet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_postgres::Client;

const SECRET: &[u8] = b"what the wallet and the ledger share";
const FUNDS: u64 = 1_000_000_000_000;
const STAKE: u64 = 1_000_000;
const TOLD_WITHIN: Duration = Duration::from_secs(40);
/// Longer than the ledger waits for these wallets.
const TOO_LONG: Duration = Duration::from_millis(2_500);
/// Answers in a row that leave a transaction pending for as long as the test looks.
const MANY: usize = 1_000;
const OPTIONS: [&str; 8] = [
    "--timeout-ms",
    "1500",
    "--retry-first-ms",
    "50",
    "--retry-longest-ms",
    "200",
    "--breaker-failures",
    "1000",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_the_answer_table_does_what_it_says() {
    let places: &[Place] = THREE_REGIONS.get(..2).expect("two regions");
    let cluster = Cluster::start("answers", places);
    let conflict = Scene::set(&cluster, "acme", Duplicate::Conflict).await;
    let done = Scene::set(&cluster, "beta", Duplicate::Done).await;
    tokio::join!(conflict.every_line(), done.every_line());
    let said = cluster.cli(&["conservation"]);
    assert!(said.ends_with("CONSERVED\n") && !said.contains("NOT CONSERVED"), "{said}");
}

/// An operator with a wallet and a player.
struct Scene<'a> {
    cluster: &'a Cluster,
    operator: &'static str,
    duplicate: Duplicate,
    wallet: Wallet,
    ledger: Client,
    player: Player,
    plays: AtomicU64,
}

/// What a play came to.
struct Play {
    /// `won`, `lost`, or the code it was refused with.
    told: String,
    /// What it won.
    payout: u64,
    /// The transaction that took its stake, or should have.
    bet: String,
}

/// A transaction as it stands in the ledger.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    state: String,
    answer: Option<String>,
    attempts: i32,
}

impl<'a> Scene<'a> {
    async fn set(cluster: &'a Cluster, name: &'static str, duplicate: Duplicate) -> Self {
        let wallet = purse::start(cluster, name, Trust::Hmac(SECRET.to_vec())).await;
        let operator = cluster.operator(name, &["MT"], "MT").await;
        purse::set_meaning(cluster, name, (&wallet, duplicate), SECRET, &OPTIONS);
        wallet.store().fund("p", FUNDS);
        let opened = operator.session("p", "MT", "hilo-dice").await;
        let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
        let ledger = database::connect(cluster, "ledger-mt").await;
        let scene = Self {
            cluster,
            operator: name,
            duplicate,
            wallet,
            ledger,
            player,
            plays: AtomicU64::new(0),
        };
        // The writer takes the wallet up within a second.
        eventually("a play moves money at the wallet", TOLD_WITHIN, || async {
            scene.send().await;
            if scene.wallet.calls().is_empty() { Err("no call".to_owned()) } else { Ok(()) }
        })
        .await;
        scene
    }

    async fn every_line(&self) {
        let lines = lines();
        for call in Call::ALL {
            let mut dead = Vec::new();
            let here =
                lines.iter().filter(|line| line.only.is_none_or(|only| only == self.duplicate));
            for line in here {
                match call {
                    Call::Bet => self.answer_bet(line).await,
                    Call::Win | Call::Rollback => dead.extend(self.answer_job(call, line).await),
                }
            }
            self.revive(call, dead).await;
        }
        self.settled_balance().await;
        for line in &lines {
            self.answer_balance(line).await;
        }
        assert_eq!(self.wallet.store().violations(), Vec::<String>::new());
    }

    /// A balance is told, refused with the wallet's reason, or not to be had at present.
    async fn answer_balance(&self, line: &Line) {
        let what = format!("{}: a balance answered {}", self.operator, line.name);
        let counted = self.counted(BalanceQuery::NAME, line).await;
        let is_told = line.answer == Answer::Listed(Status::Ok);
        if !is_told {
            self.wallet.script(BalanceQuery::NAME, &[line.fault(false, TOO_LONG)]);
        }
        let answer = self.player.get("/v1/session/balance").await.expect("an answer");
        match line.answer {
            Answer::Listed(Status::Ok) => {
                let balance = answer.json()["balance_micro"].as_i64().map(i128::from);
                assert_eq!(balance, Some(self.balance()), "{what}");
            }
            Answer::Listed(status) => {
                let detail = answer.json()["detail"].clone();
                assert_eq!((&*answer.code(), detail), ("balance-refused", status.as_str().into()));
            }
            Answer::None => assert_eq!(answer.code(), "wallet-unavailable", "{what}"),
        }
        let more = if is_told { 0 } else { ONE };
        let now = self.counted(BalanceQuery::NAME, line).await;
        assert_eq!(now, counted + more, "{what} is counted");
    }

    /// A bet ends at its first answer, whatever that is.
    async fn answer_bet(&self, line: &Line) {
        let meaning = line.meaning(Call::Bet);
        let (before, counted) =
            (self.settled_balance().await, self.counted(Call::Bet.as_str(), line).await);
        self.wallet.script("bet", &[line.fault(meaning != Meaning::Refused, TOO_LONG)]);
        let play = self.play().await;
        let what = format!("{}: a bet answered {}", self.operator, line.name);
        let (state, stays) = match meaning {
            Meaning::Done => {
                assert!(["won", "lost"].contains(&&*play.told), "{what}: {}", play.told);
                (JobState::Done, i128::from(play.payout) - i128::from(STAKE))
            }
            Meaning::Refused => {
                assert_eq!(play.told, "stake-refused", "{what}");
                (JobState::Refused, 0)
            }
            Meaning::Unknown => {
                assert_eq!(play.told, "stake-returned", "{what}");
                self.comes_to(&play.bet, Call::Rollback, JobState::Done, &what).await;
                (JobState::Undone, 0)
            }
            Meaning::Retry => unreachable!("{what}: a bet is never repeated"),
        };
        let job = self.comes_to(&play.bet, Call::Bet, state, &what).await;
        assert_eq!(
            (job.answer.as_deref(), job.attempts),
            (Some(line.answer.as_str()), 1),
            "{what}"
        );
        assert_eq!(self.settled_balance().await, before + stays, "{what}");
        let more = if line.answer.as_str() == "RS_OK" { 0 } else { ONE };
        assert_eq!(
            self.counted(Call::Bet.as_str(), line).await,
            counted + more,
            "{what} is counted"
        );
    }

    /// A win or rollback is done, goes on, or goes before a person; the last is left there, and handed back.
    async fn answer_job(&self, call: Call, line: &Line) -> Option<Dead> {
        let meaning = line.meaning(call);
        let (before, counted) =
            (self.settled_balance().await, self.counted(call.as_str(), line).await);
        let what = format!("{}: a {} answered {}", self.operator, call.as_str(), line.name);
        // Where an answer tells nothing the wallet has carried it out: a repetition must not do so again.
        let is_carried_out = meaning == Meaning::Done || !line.answer.is_sound();
        let times = if meaning == Meaning::Retry { MANY } else { 1 };
        let faults = vec![line.fault(is_carried_out, TOO_LONG); times];
        self.wallet.script(call.as_str(), &faults);
        let (bet, stays) = self.play_with(call).await;
        let staked = -i128::from(STAKE);
        match meaning {
            Meaning::Done => {
                let job = self.comes_to(&bet, call, JobState::Done, &what).await;
                let wanted = (Some(line.answer.as_str()), 1);
                assert_eq!((job.answer.as_deref(), job.attempts), wanted, "{what}");
            }
            Meaning::Retry => {
                self.goes_on(&bet, call, line, &what).await;
                let paid = if is_carried_out { stays } else { staked };
                assert_eq!(self.balance(), before + paid, "{what}, again and again");
                self.wallet.forget_scripts();
                self.comes_to(&bet, call, JobState::Done, &what).await;
            }
            Meaning::Refused => {
                let job = self.comes_to(&bet, call, JobState::Dead, &what).await;
                let wanted = (Some(line.answer.as_str()), 1);
                assert_eq!((job.answer.as_deref(), job.attempts), wanted, "{what}");
                assert_eq!(self.balance(), before + staked, "{what}: not paid");
            }
            Meaning::Unknown => unreachable!("{what}: what is owed is never unknown"),
        }
        let grown = self.counted(call.as_str(), line).await - counted;
        match (line.answer.as_str(), meaning) {
            ("RS_OK", _) => assert_eq!(grown, 0, "{what}"),
            (_, Meaning::Retry) => {
                assert!(grown >= 2 * ONE, "{what} is counted each time: {grown}");
            }
            _ => assert_eq!(grown, ONE, "{what} is counted"),
        }
        if meaning == Meaning::Refused {
            return Some(Dead { bet, owed: stays - staked });
        }
        assert_eq!(self.balance(), before + stays, "{what}: once");
        None
    }

    /// What a person has looked at is asked for again, and done.
    async fn revive(&self, call: Call, dead: Vec<Dead>) {
        let labels = [&*format!("endpoint=\"{}\"", call.as_str()), &*self.label()];
        let count = u64::try_from(dead.len()).expect("a count") * ONE;
        let gauge = "domicile_writer_wallet_dead_jobs";
        eventually("transactions wait for a person", TOLD_WITHIN, || async {
            let told = thousandths(self.cluster, gauge, &labels).await;
            if told == count { Ok(()) } else { Err(format!("{told} of {count} thousandths")) }
        })
        .await;
        let before = self.balance();
        let mut owed = 0;
        for one in dead {
            let id = self.id(&one.bet, call).await;
            self.cluster.cli(&[
                "wallet",
                "jobs",
                "retry",
                &id,
                "--reason",
                "the wallet was mended",
            ]);
            self.comes_to(&one.bet, call, JobState::Done, "what was dead").await;
            owed += one.owed;
        }
        assert_eq!(self.balance(), before + owed, "what was dead is paid once");
    }

    /// A play whose transaction of this kind is asked for: what took its stake, and what stays of it in the end.
    async fn play_with(&self, call: Call) -> (String, i128) {
        if call == Call::Rollback {
            self.wallet.script("bet", &[Fault::answer_lost()]);
            let play = self.play().await;
            assert_eq!(play.told, "stake-returned");
            return (play.bet, 0);
        }
        for _ in 0..64 {
            let before = self.balance();
            let play = self.play().await;
            match &*play.told {
                "won" => return (play.bet, i128::from(play.payout) - i128::from(STAKE)),
                "lost" => {
                    // The next one starts from what the last one left.
                    self.wallet.store().fund("p", STAKE);
                    assert_eq!(self.balance(), before);
                }
                refused => unreachable!("a play is refused: {refused}"),
            }
        }
        unreachable!("64 plays and none has won")
    }

    /// One play, whatever it comes to.
    async fn play(&self) -> Play {
        let before = self.wallet.calls().len();
        let (told, payout) = self.send().await;
        let calls = self.wallet.calls();
        let mut bets = calls.iter().skip(before).filter(|(call, _)| call == "bet");
        let (_, body) = bets.next().expect("the wallet was asked for the stake");
        let bet = body["transaction_uuid"].as_str().expect("an id").to_owned();
        Play { told, payout, bet }
    }

    async fn send(&self) -> (String, u64) {
        let number = self.plays.fetch_add(1, Ordering::Relaxed);
        loop {
            let session = self.player.session().await;
            let body = Player::play_body(&session, "high", STAKE, number);
            let key = format!("k{number}-{}", session["next_position"]);
            let answer = self.player.post("/v1/plays", &key, &body).await.expect("an answer");
            if answer.status.as_u16() == 201 {
                let payout = answer.json()["payout_micro"].as_u64().expect("a payout");
                return (if payout > 0 { "won" } else { "lost" }.to_owned(), payout);
            }
            if answer.code() != "commitment-mismatch" {
                return (answer.code(), 0);
            }
        }
    }

    /// The balance, once nothing is pending any more.
    async fn settled_balance(&self) -> i128 {
        let sql =
            "SELECT count(*) FROM ledger.wallet_job WHERE operator_id = $1 AND state = 'pending'";
        eventually("nothing is pending", TOLD_WITHIN, || async {
            let pending: i64 =
                self.ledger.query_one(sql, &[&self.operator]).await.expect("a count").get(0);
            if pending == 0 { Ok(()) } else { Err(format!("{pending} pending")) }
        })
        .await;
        self.balance()
    }

    fn balance(&self) -> i128 {
        self.wallet.store().balance("p")
    }

    fn label(&self) -> String {
        format!("operator=\"{}\"", self.operator)
    }

    /// How often this call was answered so.
    async fn counted(&self, call: &str, line: &Line) -> u64 {
        let endpoint = format!("endpoint=\"{call}\"");
        let status = format!("rs_status=\"{}\"", line.answer.as_str());
        let labels = [&*endpoint, &*self.label(), &*status];
        thousandths(self.cluster, "wallet_call_errors_total", &labels).await
    }

    async fn comes_to(&self, bet: &str, call: Call, state: JobState, what: &str) -> Job {
        eventually(&format!("{what} comes to {}", state.as_str()), TOLD_WITHIN, || async {
            match self.job(bet, call).await {
                Some(job) if job.state == state.as_str() => Ok(job),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// The transaction is asked for again and again.
    async fn goes_on(&self, bet: &str, call: Call, line: &Line, what: &str) {
        eventually(&format!("{what} is repeated"), TOLD_WITHIN, || async {
            match self.job(bet, call).await {
                Some(Job { state, answer, attempts })
                    if state == "pending"
                        && answer.as_deref() == Some(line.answer.as_str())
                        && attempts > 2 =>
                {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    async fn job(&self, bet: &str, call: Call) -> Option<Job> {
        let sql = "SELECT state, answer, attempts FROM ledger.wallet_job \
            WHERE (id::text = $1 OR reference::text = $1) AND call = $2";
        let row = self.ledger.query_opt(sql, &[&bet, &call.as_str()]).await.expect("the job")?;
        Some(Job { state: row.get(0), answer: row.get(1), attempts: row.get(2) })
    }

    async fn id(&self, bet: &str, call: Call) -> String {
        let sql = "SELECT id::text FROM ledger.wallet_job WHERE reference::text = $1 AND call = $2";
        self.ledger.query_one(sql, &[&bet, &call.as_str()]).await.expect("the job").get(0)
    }
}

/// A transaction that waits for a person.
struct Dead {
    bet: String,
    /// What it moves when it is done.
    owed: i128,
}
