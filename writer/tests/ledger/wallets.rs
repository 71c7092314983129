//! Stakes and wins at an operator's wallet: every way a call can go, and what the ledger makes of it.

use crate::bench::Bench;
use crate::callers::{Operator, Player};
use crate::wallet::fault::Fault;
use crate::wallet::{KEY_ID, Wallet};
use domicile_core::base64;
use domicile_service::peer::Role;
use domicile_writer::wallet::worker;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SECRET: &[u8] = b"thirty-two bytes of shared secret";
const STAKE: u64 = 1_000_000;
const FUNDS: i128 = 1_000_000_000;
/// Longer than the tests' wallets are waited for.
const TOO_LONG: Duration = Duration::from_millis(1_500);

pub(crate) struct Scene {
    pub(crate) bench: Bench,
    pub(crate) wallet: Wallet,
    pub(crate) operator: Operator,
    _journal: tempfile::TempDir,
}

impl Scene {
    /// An operator with a wallet and a funded player `p1`.
    pub(crate) async fn new(options: Value) -> Self {
        let bench = Bench::new().await;
        let journal = tempfile::tempdir().unwrap();
        let files = bench.ca.issue_with("wallet", Vec::new());
        let path = journal.path().join("journal");
        let wallet = Wallet::start_at(&files, &path, SECRET, bench.clock.clone()).await;
        wallet.store().fund("p1", u64::try_from(FUNDS).unwrap());
        let operator = bench.operator("acme").await;
        let mut body = json!({
            "base_url": wallet.url, "signing": "hmac-sha256", "key_id": KEY_ID,
            "key_b64": base64::encode(SECRET), "duplicate": "conflict",
            "timeout_ms": 700, "retry_first_ms": 20, "retry_longest_ms": 200, "breaker_failures": 1000,
            "reason": "a test",
        });
        for (name, value) in options.as_object().unwrap() {
            body[name] = value.clone();
        }
        let path = "/internal/v1/operators/acme/wallet";
        let body = body.to_string();
        bench.send(Role::Ctl, "POST", path, &[], body.as_bytes()).await.expect(200);
        tokio::spawn(worker::run(Arc::downgrade(&bench.engine)));
        Self { bench, wallet, operator, _journal: journal }
    }

    pub(crate) async fn player(&self) -> (Player, Value) {
        let player = self.operator.session(&self.bench, "p1", "MT", "hilo-dice").await;
        let view = player.get(&self.bench).await.expect(200);
        (player, Player::order(&view, STAKE))
    }

    /// Waits until no transaction is pending.
    pub(crate) async fn drained(&self) {
        let begun = std::time::Instant::now();
        while self.jobs("state = 'pending'").await > 0 {
            assert!(begun.elapsed() < Duration::from_secs(40), "wallet transactions stay pending");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn jobs(&self, condition: &str) -> i64 {
        self.bench.count(&format!("SELECT count(*) FROM ledger.wallet_job WHERE {condition}")).await
    }

    /// The wallet and the ledger say the same of every player, and nothing was asked for that never may be.
    pub(crate) async fn assert_conserved(&self) {
        let net = "SELECT coalesce(sum(coalesce(payout_micro, 0) - stake_micro), 0)::bigint FROM ledger.bet";
        let net = i128::from(self.bench.count(net).await);
        assert_eq!(self.wallet.store().balance("p1"), FUNDS + net);
        assert_eq!(self.wallet.store().violations(), Vec::<String>::new());
    }

    pub(crate) async fn ctl(&self, method: &str, path: &str, body: &Value) -> crate::bench::Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.bench.send(Role::Ctl, method, path, &[], body.as_bytes()).await
    }
}

#[tokio::test]
async fn plays_move_exactly_what_the_ledger_says() {
    let scene = Scene::new(json!({})).await;
    let (player, order) = scene.player().await;
    let mut paid = 0;
    for n in 0..12 {
        let answer =
            player.post(&scene.bench, "/v1/plays", &format!("k{n}"), &order).await.expect(201);
        paid += answer["payout_micro"].as_u64().unwrap();
        let again = player.post(&scene.bench, "/v1/plays", &format!("k{n}"), &order).await;
        assert!(again.replayed);
    }
    scene.drained().await;
    let sums = scene.wallet.store().sums();
    assert_eq!((sums.bets_micro, sums.wins_micro, sums.rollbacks_micro), (12 * STAKE, paid, 0));
    assert!(paid > 0, "twelve plays without a win: choose another stake");
    scene.assert_conserved().await;
    let calls = scene.wallet.calls();
    assert_eq!(
        calls.iter().filter(|(call, _)| call == "bet").count(),
        12,
        "a repetition asks nobody"
    );
}

#[tokio::test]
async fn a_player_sees_what_the_wallet_has_or_why_not() {
    let scene = Scene::new(json!({ "breaker_failures": 2 })).await;
    let (player, order) = scene.player().await;
    let balance = async || player.get_from(&scene.bench, "/v1/session/balance").await;
    let told = balance().await.expect(200);
    assert_eq!(told, json!({ "currency": "EUR", "balance_micro": u64::try_from(FUNDS).unwrap() }));
    player.post(&scene.bench, "/v1/plays", "k", &order).await.expect(201);
    scene.drained().await;
    let now = u64::try_from(scene.wallet.store().balance("p1")).unwrap();
    assert_ne!(i128::from(now), FUNDS);
    assert_eq!(balance().await.expect(200)["balance_micro"], now, "asked anew each time");

    scene.wallet.script("balance", &[Fault::says("RS_ERROR_USER_DISABLED")]);
    let refused = balance().await;
    assert_eq!((refused.status, refused.code()), (409, "balance-refused".into()));
    assert_eq!(refused.json()["detail"], "RS_ERROR_USER_DISABLED");
    // `RS_OK` without a balance tells as little as silence; both count for the breaker.
    scene.wallet.script("balance", &[Fault::says("RS_OK"), Fault::failing()]);
    for _ in 0..2 {
        assert_eq!(balance().await.code(), "wallet-unavailable");
    }
    let asked = scene.wallet.calls().len();
    assert_eq!(balance().await.code(), "wallet-unavailable");
    assert_eq!(scene.wallet.calls().len(), asked, "the breaker is open");

    let without = scene.bench.operator("plain").await;
    let player = without.session(&scene.bench, "p1", "MT", "hilo-dice").await;
    assert_eq!(player.get_from(&scene.bench, "/v1/session/balance").await.status, 404);
}

#[tokio::test]
async fn a_refused_stake_is_no_bet_and_stays_refused() {
    let scene = Scene::new(json!({})).await;
    let (player, order) = scene.player().await;
    let mut dear = order.clone();
    dear["stake_micro"] = json!(u64::try_from(FUNDS).unwrap() + 1);
    for _ in 0..2 {
        let refused = player.post(&scene.bench, "/v1/plays", "k", &dear).await;
        assert_eq!((refused.status, refused.code()), (409, "stake-refused".into()));
        assert_eq!(refused.json()["detail"], "RS_ERROR_NOT_ENOUGH_MONEY");
    }
    let reused = player.post(&scene.bench, "/v1/plays", "k", &order).await;
    assert_eq!(reused.code(), "idempotency-key-reused");
    assert_eq!(scene.wallet.calls().len(), 1);
    assert_eq!(scene.bench.count("SELECT count(*) FROM ledger.bet").await, 0);
    scene.assert_conserved().await;
}

#[tokio::test]
async fn whatever_leaves_a_stake_unknown_gives_it_back_once() {
    let scene = Scene::new(json!({})).await;
    let (player, order) = scene.player().await;
    let faults = [
        Fault::slow(TOO_LONG),
        Fault::late(TOO_LONG),
        Fault::dropped(),
        Fault::answer_lost(),
        Fault::failing(),
        Fault::failing_after(),
        Fault::does_and_says("RS_ERROR_UNKNOWN"),
        Fault::says("RS_ERROR_TIMEOUT"),
        Fault::does_and_says("RS_ERROR_DUPLICATE_TRANSACTION"),
        Fault::does_and_says("RS_ERROR_OF_TOMORROW"),
    ];
    scene.wallet.script("bet", &faults);
    for n in 0..faults.len() {
        let key = format!("k{n}");
        for _ in 0..2 {
            let returned = player.post(&scene.bench, "/v1/plays", &key, &order).await;
            assert_eq!((returned.status, returned.code()), (409, "stake-returned".into()), "{n}");
        }
    }
    scene.drained().await;
    tokio::time::sleep(TOO_LONG).await;
    assert_eq!(scene.bench.count("SELECT count(*) FROM ledger.bet").await, 0);
    let count = i64::try_from(faults.len()).unwrap();
    assert_eq!(scene.jobs("call = 'bet' AND state = 'undone'").await, count);
    assert_eq!(scene.jobs("call = 'rollback' AND state = 'done'").await, count);
    assert!(scene.wallet.store().tombstones() >= 1, "the slow bet came after its rollback");
    scene.assert_conserved().await;
    player.post(&scene.bench, "/v1/plays", "next", &order).await.expect(201);
}

#[tokio::test]
async fn a_win_is_paid_through_every_trouble_and_never_twice() {
    let scene = Scene::new(json!({})).await;
    let (player, order) = scene.player().await;
    scene.wallet.script(
        "win",
        &[
            Fault::failing(),
            Fault::answer_lost(),
            Fault::late(TOO_LONG),
            Fault::says("RS_ERROR_TOKEN_EXPIRED"),
            Fault::says("RS_ERROR_USER_DISABLED"),
            Fault::failing_after(),
        ],
    );
    let mut won = 0;
    for n in 0..64 {
        let answer =
            player.post(&scene.bench, "/v1/plays", &format!("k{n}"), &order).await.expect(201);
        won += u64::from(answer["payout_micro"].as_u64().unwrap() > 0);
        if won == 6 {
            break;
        }
    }
    assert_eq!(won, 6);
    scene.drained().await;
    assert_eq!(scene.jobs("call = 'win' AND state = 'done'").await, 6);
    assert_eq!(scene.jobs("call = 'rollback'").await, 0);
    scene.assert_conserved().await;
}

#[tokio::test]
async fn a_win_the_wallet_refuses_waits_for_a_person() {
    let scene = Scene::new(json!({})).await;
    let (player, order) = scene.player().await;
    let refusal = Fault::says("RS_ERROR_TRANSACTION_DOES_NOT_EXIST");
    scene.wallet.script("win", &[refusal]);
    let mut n = 0;
    while scene.jobs("call = 'win'").await == 0 {
        player.post(&scene.bench, "/v1/plays", &format!("k{n}"), &order).await.expect(201);
        n += 1;
    }
    scene.drained().await;
    let dead = scene
        .ctl("POST", "/internal/v1/operators/acme/wallet/jobs", &json!({ "state": "dead" }))
        .await;
    let dead = dead.expect(200)["jobs"].as_array().unwrap().clone();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["answer"], "RS_ERROR_TRANSACTION_DOES_NOT_EXIST");
    let path = format!("/internal/v1/wallet-jobs/{}", dead[0]["id"].as_str().unwrap());
    let why = json!({ "reason": "the wallet was restored" });
    scene.ctl("POST", &format!("{path}/retry"), &why).await.expect(200);
    scene.drained().await;
    let shown = scene.ctl("GET", &path, &Value::Null).await.expect(200);
    assert_eq!(shown["job"]["state"], "done");
    assert_eq!(shown["actions"][0]["actor"], "spiffe://demo/ctl/peer-1");
    let late = scene.ctl("POST", &format!("{path}/resolve"), &why).await;
    assert_eq!((late.status, late.code()), (409, "wallet-job-state".into()));
    scene.assert_conserved().await;
}

pub(crate) fn on_round(commitment: &str, selection: &str) -> Value {
    json!({
        "stake_micro": STAKE, "selection": selection, "client_seed": "cd".repeat(32),
        "commitment": commitment,
    })
}

#[tokio::test]
async fn shared_rounds_pay_winners_and_refund_when_voided() {
    let scene = Scene::new(json!({})).await;
    let (player, _) = scene.player().await;
    for (verb, call, count) in [("settle", "win", 1), ("void", "rollback", 2)] {
        let (round, commitment) = scene.operator.round(&scene.bench, verb, &["MT"]).await;
        let path = format!("/v1/rounds/{round}/bets");
        for side in ["low", "high"] {
            let key = format!("{verb}-{side}");
            let order = on_round(&commitment, side);
            player.post(&scene.bench, &path, &key, &order).await.expect(201);
        }
        scene
            .operator
            .end(&scene.bench, &round, "close", &format!("{verb}-close"))
            .await
            .expect(200);
        scene.operator.end(&scene.bench, &round, verb, &format!("{verb}-end")).await.expect(200);
        scene.drained().await;
        assert_eq!(scene.jobs(&format!("call = '{call}' AND state = 'done'")).await, count);
    }
    scene.assert_conserved().await;
}

#[tokio::test]
async fn a_stake_that_comes_too_late_for_its_round_goes_back() {
    let scene = Scene::new(json!({})).await;
    let (player, _) = scene.player().await;
    let (round, commitment) = scene.operator.round(&scene.bench, "open", &["MT"]).await;
    let path = format!("/v1/rounds/{round}/bets");
    let order = on_round(&commitment, "low");
    scene.wallet.script("bet", &[Fault::late(Duration::from_millis(500))]);
    let (late, ()) = tokio::join!(player.post(&scene.bench, &path, "k", &order), async {
        while scene.wallet.calls().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        scene.operator.end(&scene.bench, &round, "close", "close").await.expect(200);
    });
    assert_eq!((late.status, late.code()), (409, "round-state".into()));
    scene.drained().await;
    assert_eq!(scene.jobs("call = 'rollback' AND state = 'done'").await, 1);
    let again = player.post(&scene.bench, &path, "k", &order).await;
    assert_eq!(again.code(), "round-state");
    scene.assert_conserved().await;
}

#[tokio::test]
async fn the_breaker_refuses_bets_at_once_and_finds_the_wallet_again() {
    let scene = Scene::new(json!({ "breaker_failures": 2, "breaker_pause_ms": 60_000 })).await;
    let (player, order) = scene.player().await;
    scene.wallet.always(Some(Fault::failing()));
    let mut n = 0;
    while player.post(&scene.bench, "/v1/plays", &format!("k{n}"), &order).await.code()
        == "stake-returned"
    {
        n += 1;
        assert!(n <= 2, "the breaker does not open");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = scene.wallet.calls().len();
    let refused = player.post(&scene.bench, "/v1/plays", "k", &order).await;
    assert_eq!((refused.status, refused.code()), (503, "wallet-unavailable".into()));
    assert_eq!(scene.wallet.calls().len(), asked);
    scene.wallet.always(None);
    scene.bench.clock.advance(Duration::from_secs(61));
    scene.drained().await;
    player.post(&scene.bench, "/v1/plays", "k", &order).await.expect(201);
    scene.drained().await;
    scene.assert_conserved().await;
}

#[tokio::test]
async fn a_bet_whose_request_vanished_is_rolled_back_and_a_repetition_goes_on_with_it() {
    let scene = Scene::new(json!({})).await;
    let (player, order) = scene.player().await;
    // The engine closes while the wallet is thinking: nothing is decided.
    scene.wallet.script("bet", &[Fault::late(Duration::from_millis(600))]);
    let (closed, ()) = tokio::join!(player.post(&scene.bench, "/v1/plays", "k", &order), async {
        while scene.wallet.calls().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        scene.bench.close();
    });
    assert_eq!((closed.status, closed.code()), (503, "writer-draining".into()));
    assert_eq!(scene.jobs("call = 'bet' AND state = 'pending'").await, 1);
    let before = scene.wallet.calls();
    let next = scene.bench.next_engine();
    let token_is_good = player.post(&scene.bench, "/v1/plays", "k", &order).await.expect(201);
    assert_eq!(token_is_good["position"], 0);
    let after = scene.wallet.calls();
    assert_eq!(before[0].1, after.last().unwrap().1, "byte for byte the same transaction");
    // Another one is left alone for good.
    scene.wallet.script("bet", &[Fault::late(Duration::from_millis(600))]);
    let (closed, ()) =
        tokio::join!(player.post(&scene.bench, "/v1/plays", "gone", &order), async {
            while scene.wallet.calls().len() == after.len() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            next.close();
        });
    assert_eq!(closed.code(), "writer-draining");
    let due = "UPDATE ledger.wallet_job SET due_at = now() WHERE state = 'pending'";
    scene.bench.admin.batch_execute(due).await.unwrap();
    let next = scene.bench.next_engine();
    tokio::spawn(worker::run(Arc::downgrade(&next)));
    scene.drained().await;
    assert_eq!(scene.jobs("call = 'rollback' AND state = 'done'").await, 1);
    scene.assert_conserved().await;
}

#[tokio::test]
async fn one_slow_wallet_starves_nobody() {
    let scene = Scene::new(json!({ "concurrency": 1, "timeout_ms": 5_000 })).await;
    let (player, order) = scene.player().await;
    let crowd = scene.operator.session(&scene.bench, "p3", "MT", "hilo-dice").await;
    let plain = scene.bench.operator("plain").await;
    let other = plain.session(&scene.bench, "p2", "MT", "hilo-dice").await;
    let view = other.get(&scene.bench).await.expect(200);
    scene.wallet.script("bet", &[Fault::slow(Duration::from_secs(3))]);
    let crowd_view = crowd.get(&scene.bench).await.expect(200);
    let crowd_order = Player::order(&crowd_view, STAKE);
    let (slow, (crowded, quick)) =
        tokio::join!(player.post(&scene.bench, "/v1/plays", "k", &order), async {
            while scene.wallet.calls().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let begun = std::time::Instant::now();
            let quick =
                other.post(&scene.bench, "/v1/plays", "k", &Player::order(&view, STAKE)).await;
            let quick = (quick.status, begun.elapsed() < Duration::from_secs(2));
            (crowd.post(&scene.bench, "/v1/plays", "c", &crowd_order).await.code(), quick)
        });
    slow.expect(201);
    assert_eq!(quick, (201, true));
    assert_eq!(crowded, "wallet-unavailable");
}

#[tokio::test]
async fn a_days_totals_are_what_the_wallet_booked() {
    let scene = Scene::new(json!({})).await;
    let (player, order) = scene.player().await;
    scene.wallet.script("bet", &[Fault::answer_lost()]);
    for n in 0..8 {
        player.post(&scene.bench, "/v1/plays", &format!("k{n}"), &order).await;
    }
    scene.drained().await;
    let rows = scene
        .bench
        .admin
        .query("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')", &[])
        .await;
    let date: String = rows.unwrap()[0].get(0);
    let wanted = json!({ "date": date, "currency": "EUR", "verbose": true });
    let day =
        scene.ctl("POST", "/internal/v1/operators/acme/wallet/day", &wanted).await.expect(200);
    let sums = scene.wallet.store().sums();
    assert_eq!(day["bets_micro"], sums.bets_micro - sums.rollbacks_micro);
    assert_eq!(day["wins_micro"], sums.wins_micro);
    assert_eq!(day["suspects"][0]["why"], "rolled back");
}
