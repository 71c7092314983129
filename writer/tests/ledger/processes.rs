//! Two writer processes of one region over one ledger: every race is decided there.

use crate::bench::{Bench, j};
use crate::callers::{Operator, Player};
use crate::etcd::eventually;
use domicile_core::base64;
use domicile_service::peer::Role;
use domicile_writer::limits;
use domicile_writer::log::LogState;
use domicile_writer::wallet::worker;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What lies between two requests of one client.
const A_ROUND_TRIP: Duration = Duration::from_millis(2);

async fn two() -> (Bench, Bench, Operator) {
    let one = Bench::new().await;
    let other = one.beside().await;
    let operator = one.operator("acme").await;
    (one, other, operator)
}

fn bet_on(commitment: &str) -> Value {
    json!({ "stake_micro": 1_000_000, "selection": "high", "client_seed": "ab".repeat(32),
        "commitment": commitment })
}

#[tokio::test]
async fn plays_of_one_session_at_both_use_each_position_once() {
    let (one, other, operator) = two().await;
    let player = operator.session(&one, "p1", "MT", "hilo-dice").await;
    let view = player.get(&other).await.expect(200);
    let order = Player::order(&view, 1_000_000);
    let play = async |bench: &Bench, name: &str| {
        let mut positions = Vec::new();
        while positions.len() < 12 {
            let key = format!("{name}{}", positions.len());
            let answer = player.post(bench, "/v1/plays", &key, &order).await;
            // Whoever loses a position too often is told that nothing was executed, and comes back.
            if answer.code() != "writer-overloaded" {
                positions.push(answer.expect(201)["position"].as_u64().unwrap());
            }
            tokio::time::sleep(A_ROUND_TRIP).await;
        }
        positions
    };
    let (mut positions, others) = tokio::join!(play(&one, "a"), play(&other, "b"));
    positions.extend(others);
    positions.sort_unstable();
    assert!(positions.iter().copied().eq(0..24), "{positions:?}");
    assert_eq!(one.count("SELECT next_position::bigint FROM ledger.chain").await, 24);
    assert_eq!(one.count("SELECT count(*) FROM ledger.bet").await, 24);
}

#[tokio::test]
async fn one_key_at_both_has_one_effect() {
    let (one, other, operator) = two().await;
    let player = operator.session(&one, "p1", "MT", "hilo-dice").await;
    let view = player.get(&one).await.expect(200);
    let order = Player::order(&view, 1_000_000);
    let (round, commitment) = operator.round(&one, "open", &["MT"]).await;
    let bets = format!("/v1/rounds/{round}/bets");
    let bet = bet_on(&commitment);
    for n in 0..8 {
        let key = format!("k{n}");
        let placed = format!("b{n}");
        let (here, there, first, second) = tokio::join!(
            player.post(&one, "/v1/plays", &key, &order),
            player.post(&other, "/v1/plays", &key, &order),
            player.post(&one, &bets, &placed, &bet),
            player.post(&other, &bets, &placed, &bet),
        );
        for (a, b) in [(here, there), (first, second)] {
            a.expect(201);
            assert_eq!(a.body, b.body);
            assert_ne!(a.replayed, b.replayed, "one of them had the effect");
        }
        let body = json!({ "request_id": format!("r{n}"), "player": "p2", "game": "hilo-dice",
            "currency": "EUR", "jurisdiction": "DE" });
        let path = "/operator/v1/sessions";
        let (here, there) = tokio::join!(
            operator.send(&one, "POST", path, &body),
            operator.send(&other, "POST", path, &body),
        );
        here.expect(201);
        assert_eq!((&here.body, here.replayed), (&there.body, !there.replayed));
    }
    assert_eq!(one.count("SELECT count(*) FROM ledger.bet").await, 16);
    assert_eq!(one.count("SELECT count(*) FROM ledger.session").await, 9);
}

#[tokio::test]
async fn a_signature_without_a_request_id_is_good_for_one_process_only() {
    let (one, other, operator) = two().await;
    let (round, _) = operator.round(&one, "open", &["MT"]).await;
    let path = format!("/operator/v1/rounds/{round}");
    let (here, there) = tokio::join!(
        operator.send(&one, "GET", &path, &Value::Null),
        operator.send(&other, "GET", &path, &Value::Null),
    );
    let codes = [here.code(), there.code()];
    assert!(codes.iter().any(String::is_empty), "{codes:?}");
    assert!(codes.iter().any(|code| code == "request-replayed"), "{codes:?}");
}

#[tokio::test]
async fn no_bet_is_accepted_past_a_close_and_bets_never_hold_it_up() {
    let (one, other, operator) = two().await;
    let mut players = Vec::new();
    for n in 0..6 {
        players.push(operator.session(&one, &format!("p{n}"), "MT", "hilo-dice").await);
    }
    for attempt in 0..3 {
        let (round, commitment) = operator.round(&one, &format!("o{attempt}"), &["MT"]).await;
        let bets = format!("/v1/rounds/{round}/bets");
        let bet = bet_on(&commitment);
        players[0].post(&other, &bets, &format!("f{attempt}"), &bet).await.expect(201);
        let closed = AtomicBool::new(false);
        let betting = async |player: &Player| {
            let mut accepted = 0;
            for n in 0.. {
                let told = closed.load(Ordering::Acquire);
                let answer = player.post(&other, &bets, &format!("k{attempt}-{n}"), &bet).await;
                if answer.status != 201 {
                    assert_eq!(answer.code(), "round-state");
                    break;
                }
                assert!(!told, "a bet was accepted after the close was told");
                accepted += 1;
            }
            accepted
        };
        let closing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let begun = Instant::now();
            operator.end(&one, &round, "close", &format!("c{attempt}")).await.expect(200);
            closed.store(true, Ordering::Release);
            begun.elapsed()
        };
        let (a, b, c, d, took) = tokio::join!(
            betting(&players[1]),
            betting(&players[2]),
            betting(&players[3]),
            betting(&players[4]),
            closing
        );
        assert!(took < Duration::from_secs(2), "the close took {took:?}");
        let settled = operator.end(&other, &round, "settle", &format!("s{attempt}")).await;
        let count = settled.expect(200)["bets"]["MT"]["count"].as_u64().unwrap();
        assert_eq!(count, 1 + a + b + c + d, "told and counted bets are the same");
    }
}

#[tokio::test]
async fn a_waiting_close_is_let_in_before_later_bets() {
    let (one, other, operator) = two().await;
    let player = operator.session(&one, "p1", "MT", "hilo-dice").await;
    let (round, commitment) = operator.round(&one, "open", &["MT"]).await;
    let (bets, bet) = (format!("/v1/rounds/{round}/bets"), bet_on(&commitment));
    player.post(&one, &bets, "first", &bet).await.expect(201);
    // A bet whose commit waits for the second region for a long time.
    let id = uuid::Uuid::parse_str(&round).unwrap();
    let door = id.as_u64_pair().1.cast_signed();
    let mut slow = one.server.superuser().await;
    let tx = slow.begin().await.unwrap();
    tx.query("SELECT pg_advisory_xact_lock_shared($1)", &[&door]).await.unwrap();
    tx.query("SELECT 1 FROM ledger.round_engine WHERE id = $1 FOR SHARE", &[&id]).await.unwrap();
    let closing = operator.end(&one, &round, "close", "close");
    let late = async {
        let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        eventually("the close waits", async || one.count(waits).await == 1).await;
        let late = player.post(&other, &bets, "late", &bet);
        let ending = async {
            eventually("the bet waits behind it", async || one.count(waits).await == 2).await;
            tx.rollback().await.unwrap();
        };
        tokio::join!(late, ending).0
    };
    let (closed, late) = tokio::join!(closing, late);
    closed.expect(200);
    assert_eq!(late.code(), "round-state");
}

#[tokio::test]
async fn what_one_process_revokes_the_other_honours() {
    let (one, other, operator) = two().await;
    let player = operator.session(&one, "p1", "MT", "hilo-dice").await;
    let order = Player::order(&player.get(&other).await.expect(200), 1_000_000);
    let (round, commitment) = operator.round(&other, "open", &["MT"]).await;
    let bets = format!("/v1/rounds/{round}/bets");
    player.post(&other, &bets, "before", &bet_on(&commitment)).await.expect(201);
    let revoke = format!("/operator/v1/sessions/{}/revoke", player.session);
    let revoked = AtomicBool::new(false);
    let betting = async {
        let mut accepted = 0;
        for n in 0.. {
            let told = revoked.load(Ordering::Acquire);
            let answer = player.post(&other, &bets, &format!("k{n}"), &bet_on(&commitment)).await;
            if answer.status != 201 {
                assert_eq!(answer.code(), "session-revoked");
                break;
            }
            assert!(!told, "a bet was accepted after the revocation was told");
            accepted += 1;
        }
        accepted
    };
    let revoking = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        operator.send(&one, "POST", &revoke, &json!({})).await.expect(200);
        revoked.store(true, Ordering::Release);
    };
    let (accepted, ()) = tokio::join!(betting, revoking);
    assert_eq!(one.count("SELECT count(*) FROM ledger.bet").await, 1 + accepted);
    let after = player.post(&other, "/v1/plays", "k", &order).await;
    assert_eq!(after.code(), "session-revoked");

    let revoke = format!("/internal/v1/credentials/{}/revoke", operator.key_id);
    one.send(Role::Ctl, "POST", &revoke, &[], br#"{"reason":"r"}"#).await.expect(200);
    one.clock.advance(limits::DIRECTORY_MAX_AGE);
    let path = format!("/operator/v1/rounds/{round}");
    let refused = operator.send(&other, "GET", &path, &Value::Null).await;
    assert_eq!(refused.code(), "operator-key-unknown");
}

#[tokio::test]
async fn one_process_writes_the_logs_and_both_show_what_is_published() {
    let (one, other, operator) = two().await;
    assert!(one.engine.log.is_written_here() && !other.engine.log.is_written_here());
    let player = operator.session(&other, "p1", "MT", "hilo-dice").await;
    let begun = Instant::now();
    let view = player.get(&other).await.expect(200);
    assert!(begun.elapsed() < Duration::from_millis(400), "told at once: {:?}", begun.elapsed());
    let size = view["checkpoint_size"].as_u64().unwrap();
    let latest = one.engine.log.latest(&j("MT")).unwrap();
    assert!(latest.size >= size);
    let path = "/internal/v1/log-gate";
    let (here, there) = tokio::join!(
        one.send(Role::Ctl, "GET", path, &[], b""),
        other.send(Role::Ctl, "GET", path, &[], b""),
    );
    let (here, there) = (here.expect(200), there.expect(200));
    assert_eq!(here["logs"][1]["evidence"], there["logs"][1]["evidence"]);
    assert_eq!(there["logs"][1]["state"], "live");
}

#[tokio::test]
async fn the_other_process_takes_the_logs_over_when_the_first_one_is_gone() {
    let (mut one, other, operator) = two().await;
    let player = operator.session(&one, "p1", "MT", "hilo-dice").await;
    let mut order = Player::order(&player.get(&other).await.expect(200), 1_000_000);
    order["checkpoint_size"] = Value::Null;
    let before = other.engine.log.latest(&j("MT")).unwrap().size;
    one.stop_logs().await;
    let begun = Instant::now();
    for n in 0..5 {
        player.post(&other, "/v1/plays", &format!("k{n}"), &order).await.expect(201);
    }
    eventually("the plays are covered", async || {
        other.engine.log.latest(&j("MT")).is_some_and(|latest| latest.size == before + 5)
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(3), "took {:?}", begun.elapsed());
    assert!(other.engine.log.is_written_here());
    assert_eq!(other.engine.log.state(&j("MT")), LogState::Live);
    let epochs = "SELECT count(DISTINCT (log_epoch, writer_epoch)) FROM log.head";
    assert_eq!(one.count(epochs).await, 1, "no new epoch for it");
}

#[tokio::test]
async fn a_process_that_loses_its_session_writes_no_log_until_it_has_the_turn_again() {
    let (one, other, operator) = two().await;
    let holder =
        "SELECT pid::bigint FROM pg_locks WHERE locktype = 'advisory' AND classid = 1 AND granted";
    let ended = one.count(holder).await;
    let end = format!("SELECT pg_terminate_backend({ended})");
    one.admin.batch_execute(&end).await.unwrap();
    eventually("one of them has it again", async || {
        let held: Vec<i64> =
            one.admin.query(holder, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        held.len() == 1 && held[0] != ended
    })
    .await;
    eventually("they agree", async || {
        one.engine.log.is_written_here() != other.engine.log.is_written_here()
    })
    .await;
    for (bench, name) in [(&one, "p1"), (&other, "p2")] {
        let player = operator.session(bench, name, "MT", "hilo-dice").await;
        player.get(bench).await.expect(200);
    }
}

/// Whoever sets a wallet can see which process serves it already.
#[tokio::test]
async fn each_process_tells_which_wallet_it_serves() {
    let (one, other, _operator) = two().await;
    let path = "/internal/v1/operators/acme/wallet";
    let body = json!({ "base_url": "https://wallet.example", "signing": "hmac-sha256",
        "key_id": "k", "key_b64": base64::encode(&[7; 16]), "duplicate": "done", "reason": "r" });
    let set = one.send(Role::Ctl, "POST", path, &[], body.to_string().as_bytes()).await.expect(200);
    assert_eq!(set["revision"], 1);
    let served = async |bench: &Bench| {
        bench.send(Role::Viewer, "GET", path, &[], b"").await.expect(200)["revision"].clone()
    };
    assert_eq!((served(&one).await, served(&other).await), (json!(1), Value::Null));
    tokio::spawn(worker::run(Arc::downgrade(&other.engine)));
    let begun = Instant::now();
    while served(&other).await != 1 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not read its wallets again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
