//! Timed rounds: run by one process at a time, taken over by another, each round ended once.

use crate::bench::Bench;
use crate::callers::{Operator, Player};
use domicile_core::ids::{GameCode, OperatorId, RoundId};
use domicile_core::leaf::VoidReason;
use domicile_service::peer::Role;
use domicile_writer::change;
use domicile_writer::floor;
use domicile_writer::ledger::rounds::Slot;
use domicile_writer::limits;
use domicile_writer::round::{CloseRound, EndRound, Ending, OpenRound, OpenRoundBody};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use uuid::Uuid;

pub(crate) const WINDOW_MS: i64 = 1_000;
const WITHIN: Duration = Duration::from_secs(15);
/// How soon another process runs the tables of one that is gone.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(2);

/// The locks of tables: of sessions that say that they are there.
const OWNERS: &str = "FROM pg_locks l WHERE locktype = 'advisory' AND objsubid = 1 AND EXISTS (SELECT 1 FROM pg_locks p \
     WHERE p.pid = l.pid AND p.locktype = 'advisory' AND p.objsubid = 2 AND p.classid = 1148153193)";

fn acme() -> OperatorId {
    OperatorId::parse("acme").unwrap()
}

pub(crate) async fn schedule(bench: &Bench, game: &str, betting_ms: i64, enabled: bool) {
    let body = json!({
        "game": game, "currency": "EUR", "jurisdictions": ["MT", "DE"], "betting_ms": betting_ms,
        "pause_ms": 100, "enabled": enabled, "reason": "a test",
    });
    let path = "/internal/v1/operators/acme/schedules";
    bench.send(Role::Ctl, "POST", path, &[], body.to_string().as_bytes()).await.expect(200);
}

/// Waits until a count is as wanted.
async fn until(bench: &Bench, what: &str, within: Duration, sql: &str, wanted: i64) {
    let begun = Instant::now();
    loop {
        let count = bench.count(sql).await;
        if count >= wanted {
            return;
        }
        assert!(begun.elapsed() < within, "{what}: {count} of {wanted}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const BETTING: &str =
    "SELECT count(*) FROM ledger.round_engine WHERE state = 'open' AND betting_at IS NOT NULL";

/// The round that takes bets now, with its commitment.
async fn taking_bets(bench: &Bench) -> (Uuid, String) {
    until(bench, "a round takes bets", WITHIN, BETTING, 1).await;
    let sql = "SELECT id, encode(commitment, 'hex') FROM ledger.round_engine WHERE state = 'open'";
    let rows = bench.admin.query(sql, &[]).await.unwrap();
    (rows[0].get(0), rows[0].get(1))
}

pub(crate) async fn bet(
    bench: &Bench,
    player: &Player,
    round: Uuid,
    commitment: &str,
    key: &str,
) -> Value {
    let body = json!({
        "stake_micro": 2_000_000, "selection": "high", "client_seed": "cd".repeat(32),
        "commitment": commitment,
    });
    player.post(bench, &format!("/v1/rounds/{round}/bets"), key, &body).await.expect(201)
}

async fn state(bench: &Bench, round: Uuid) -> String {
    let sql = "SELECT state FROM ledger.round_engine WHERE id = $1";
    bench.admin.query(sql, &[&round]).await.unwrap()[0].get(0)
}

async fn ended(bench: &Bench, round: Uuid) -> String {
    let sql = format!(
        "SELECT count(*) FROM ledger.round_engine WHERE id = '{round}' AND ended_at IS NOT NULL"
    );
    until(bench, "the round ends", WITHIN, &sql, 1).await;
    state(bench, round).await
}

async fn recovery(bench: &Bench) -> Value {
    let path = "/internal/v1/recovery";
    bench.send(Role::Ctl, "GET", path, &[], b"").await.expect(200)["recovery"].clone()
}

/// Every round that ended has one terminal leaf per jurisdiction, and there are no two at one time.
async fn assert_each_ended_once(bench: &Bench) {
    let leaves = "SELECT count(*) FROM (SELECT jurisdiction, subject FROM log.pending \
        WHERE kind IN ('round-settle', 'round-void') UNION ALL SELECT jurisdiction, subject \
        FROM log.subject WHERE kind IN ('round-settle', 'round-void')) l";
    let ended = "SELECT 2 * count(*) FROM ledger.round_engine WHERE state IN ('settled', 'voided')";
    let begun = Instant::now();
    while bench.count(leaves).await != bench.count(ended).await {
        assert!(begun.elapsed() < WITHIN, "terminal leaves and ended rounds differ");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gaps = "SELECT count(*) FROM (SELECT ordinal, lag(ordinal) OVER (PARTITION BY operator_id, game, currency \
        ORDER BY ordinal) l, opened_at, lag(ended_at) OVER (PARTITION BY operator_id, game, currency \
        ORDER BY ordinal) e FROM ledger.round_engine WHERE ordinal IS NOT NULL) o \
        WHERE l IS NOT NULL AND (ordinal <> l + 1 OR opened_at < e)";
    assert_eq!(bench.count(gaps).await, 0, "rounds of a table stand in one line");
}

async fn two_players(bench: &Bench, operator: &Operator) -> (Player, Player) {
    let mt = operator.session(bench, "p1", "MT", "hilo-dice").await;
    (mt, operator.session(bench, "p2", "DE", "hilo-dice").await)
}

#[tokio::test]
async fn rounds_follow_each_other_and_settle_the_bets_of_their_window() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let (mt, de) = two_players(&bench, &operator).await;
    schedule(&bench, "hilo-dice", WINDOW_MS, true).await;
    let engines = bench.floor(&bench.engine);
    for n in 0..2 {
        let (round, commitment) = taking_bets(&bench).await;
        bet(&bench, &mt, round, &commitment, &format!("a{n}")).await;
        bet(&bench, &de, round, &commitment, &format!("b{n}")).await;
        assert_eq!(ended(&bench, round).await, "settled");
    }
    schedule(&bench, "hilo-dice", WINDOW_MS, false).await;
    let rounds = "SELECT count(*) FROM ledger.round_engine";
    let switched_off = bench.count(rounds).await;
    let none_under_way = "SELECT count(*) FROM ledger.round_schedule WHERE NOT EXISTS (\
        SELECT 1 FROM ledger.round_engine WHERE state IN ('open', 'closed'))";
    until(&bench, "the last round ends", WITHIN, none_under_way, 1).await;
    engines.leave(Duration::ZERO).await;
    assert_eq!(bench.count(none_under_way).await, 1);
    let more = bench.count(rounds).await - switched_off;
    assert!(more <= 1, "{more} rounds began: only one can have been decided on before");
    let unpaid = "SELECT count(*) FROM ledger.bet WHERE payout_micro IS NULL";
    assert_eq!(bench.count(unpaid).await, 0);
    let short = format!(
        "SELECT count(*) FROM ledger.round_engine WHERE state = 'settled' \
         AND closed_at - betting_at < interval '{WINDOW_MS} milliseconds'"
    );
    assert_eq!(bench.count(&short).await, 0, "a window is not shorter than scheduled");
    assert_each_ended_once(&bench).await;
}

#[tokio::test]
async fn another_process_takes_a_round_over_in_the_middle_and_it_ends_once() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let (mt, de) = two_players(&bench, &operator).await;
    schedule(&bench, "hilo-dice", 4_000, true).await;
    let first = bench.floor(&bench.engine);
    let (round, commitment) = taking_bets(&bench).await;
    bet(&bench, &mt, round, &commitment, "a").await;
    let other = bench.next_engine();
    let second = bench.floor(&other);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(other.recovery.report().rounds.is_empty(), "a table has one owner");
    drop(first);
    let begun = Instant::now();
    while other.recovery.report().rounds.is_empty() {
        assert!(begun.elapsed() < TAKEN_OVER_WITHIN, "nobody takes the table over");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bet(&bench, &de, round, &commitment, "b").await;
    assert_eq!(ended(&bench, round).await, "settled");
    let report = recovery(&bench).await;
    assert_eq!((report["continued"].as_u64(), report["voided"].as_u64()), (Some(1), Some(0)));
    assert_eq!(report["rounds"][0]["round"], json!(round));
    let unpaid = "SELECT count(*) FROM ledger.bet WHERE payout_micro IS NULL";
    assert_eq!(bench.count(unpaid).await, 0);
    until(&bench, "the next round takes bets", WITHIN, BETTING, 1).await;
    second.leave(Duration::ZERO).await;
    assert_each_ended_once(&bench).await;
}

#[tokio::test]
async fn a_lost_connection_ends_ownership_and_rounds_go_on() {
    let bench = Bench::new().await;
    bench.operator("acme").await;
    schedule(&bench, "hilo-dice", WINDOW_MS, true).await;
    let engines = bench.floor(&bench.engine);
    for _ in 0..3 {
        let owners = format!("SELECT count(*) {OWNERS}");
        until(&bench, "the table has an owner", WITHIN, &owners, 1).await;
        let cut = format!("SELECT pg_terminate_backend(pid) {OWNERS}");
        bench.admin.query(&cut, &[]).await.unwrap();
    }
    let settled = "SELECT count(*) FROM ledger.round_engine WHERE state = 'settled'";
    let before = bench.count(settled).await;
    until(&bench, "rounds go on", WITHIN, settled, before + 2).await;
    engines.leave(Duration::ZERO).await;
    assert_each_ended_once(&bench).await;
}

#[tokio::test]
async fn two_owners_at_once_do_each_step_once() {
    let bench = Bench::new().await;
    bench.operator("acme").await;
    let other = bench.next_engine();
    let open = |engine| {
        let bench = &bench;
        async move {
            let operator = bench.engine.directory.operator(&acme()).await.unwrap();
            let body = OpenRoundBody {
                request_id: None,
                game: GameCode::parse("wheel").unwrap(),
                params: None,
                currency: domicile_core::money::Currency::parse("EUR").unwrap(),
                jurisdictions: BTreeSet::from([crate::bench::j("MT"), crate::bench::j("DE")]),
            };
            let slot = Some(Slot { ordinal: 1, betting_ms: 1_000 });
            change::perform(engine, &OpenRound { operator, body, slot }).await.is_ok()
        }
    };
    let opened = tokio::join!(open(&*bench.engine), open(&*other));
    assert!(opened.0 ^ opened.1, "one of them opens the round: {opened:?}");
    let sequenced = "SELECT count(*) FROM log.subject WHERE kind = 'round-commit'";
    until(&bench, "the commitment is in both logs", WITHIN, sequenced, 2).await;
    let rows = bench.admin.query("SELECT id FROM ledger.round_engine", &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
    let round = RoundId(rows[0].get(0));
    let close = |engine| async move {
        change::perform(engine, &CloseRound { operator: acme(), round }).await.is_ok()
    };
    let closed = tokio::join!(close(&*bench.engine), close(&*other));
    assert!(closed.0 ^ closed.1, "{closed:?}");
    let end = |engine, ending| async move {
        change::perform(engine, &EndRound { operator: acme(), round, ending }).await.is_ok()
    };
    let void = Ending::Void(VoidReason::Operator);
    let both = tokio::join!(end(&*bench.engine, Ending::Settle), end(&*other, void));
    assert!(both.0 ^ both.1, "it is settled or voided: {both:?}");
    assert_each_ended_once(&bench).await;
}

#[tokio::test]
async fn what_was_left_alone_is_ended_by_rule() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let (mt, _de) = two_players(&bench, &operator).await;
    for (key, left, rule, expected) in [
        ("a", "betting_at = now() - interval '30 seconds'", "close", "settled"),
        ("b", "betting_at = now() - interval '2 minutes'", "void", "voided"),
        ("c", "state = 'closed', closed_at = now() - interval '1 day'", "settle", "settled"),
        ("d", "cut = true", "void", "voided"),
    ] {
        schedule(&bench, "hilo-dice", 10_000, true).await;
        let gone = bench.floor(&bench.engine);
        let (round, commitment) = taking_bets(&bench).await;
        bet(&bench, &mt, round, &commitment, key).await;
        drop(gone);
        schedule(&bench, "hilo-dice", 10_000, false).await;
        let sql = format!("UPDATE ledger.round_engine SET {left} WHERE id = '{round}'");
        bench.admin.batch_execute(&sql).await.unwrap();
        let engine = bench.next_engine();
        let engines = bench.floor(&engine);
        assert_eq!(ended(&bench, round).await, expected, "{left}");
        engines.leave(Duration::ZERO).await;
        let report = engine.recovery.report();
        let entry = report.rounds.iter().find(|entry| entry.round.0 == round).unwrap();
        assert_eq!((entry.rule, entry.ended), (rule, Some(expected)), "{left}");
        let refunds = i64::from(expected == "voided");
        assert_eq!((entry.bets_refunded, entry.refunded_micro), (refunds, refunds * 2_000_000));
    }
    let odd = "SELECT count(*) FROM ledger.bet b JOIN ledger.round_engine e ON e.id = b.round_id \
        WHERE e.state = 'voided' AND b.payout_micro IS DISTINCT FROM b.stake_micro";
    assert_eq!(bench.count(odd).await, 0, "stakes of voided rounds went back");
    assert_each_ended_once(&bench).await;
}

/// As an epoch that began by force does before it serves.
async fn cut(bench: &Bench) {
    let mut session = bench.engine.hands.session().await.unwrap();
    let tx = session.begin().await.unwrap();
    domicile_writer::ledger::floor::cut(&tx, bench.engine.epoch).await.unwrap();
    tx.commit(WITHIN).await.unwrap();
}

#[tokio::test]
async fn rounds_that_a_forced_move_cut_off_take_no_bet_and_are_voided() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let (mt, _de) = two_players(&bench, &operator).await;
    let (round, commitment) = operator.round(&bench, "open", &["MT", "DE"]).await;
    let round = Uuid::parse_str(&round).unwrap();
    bet(&bench, &mt, round, &commitment, "before").await;
    cut(&bench).await;
    assert_eq!(
        floor::void_cut(&bench.engine).await.unwrap(),
        0,
        "a round of this epoch is not cut"
    );
    bench.admin.batch_execute("UPDATE ledger.round_engine SET opened_in = 0").await.unwrap();
    cut(&bench).await;
    let body = json!({
        "stake_micro": 1_000_000, "selection": "high", "client_seed": "cd".repeat(32),
        "commitment": commitment,
    });
    let late = mt.post(&bench, &format!("/v1/rounds/{round}/bets"), "after", &body).await;
    assert_eq!(late.code(), "round-state");
    operator.end(&bench, &round.to_string(), "close", "close").await.expect(200);
    let ended = operator.end(&bench, &round.to_string(), "settle", "settle").await.expect(200);
    assert_eq!((ended["state"].as_str(), &ended["outcome"]), (Some("voided"), &Value::Null));
    assert_eq!(floor::void_cut(&bench.engine).await.unwrap(), 0);
    assert_each_ended_once(&bench).await;
}

#[tokio::test]
async fn tables_spread_over_processes_and_who_leaves_hands_over() {
    let bench = Bench::new().await;
    bench.operator("acme").await;
    schedule(&bench, "hilo-dice", WINDOW_MS, true).await;
    schedule(&bench, "wheel", WINDOW_MS, true).await;
    let other = bench.next_engine();
    let (first, second) = (bench.floor(&bench.engine), bench.floor(&other));
    let owners =
        "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1";
    until(&bench, "each has a table", WITHIN, owners, 2).await;
    schedule(&bench, "hilo-dice", 60_000, true).await;
    schedule(&bench, "wheel", 60_000, true).await;
    let long =
        "SELECT count(*) FROM ledger.round_engine WHERE betting_ms = 60000 AND state = 'open'";
    until(&bench, "both have long rounds", WITHIN, long, 2).await;
    let begun = Instant::now();
    first.leave(Duration::ZERO).await;
    let at_once = limits::FLOOR_LEAVE_WAIT / 3;
    assert!(begun.elapsed() < at_once, "a round that lasts is handed over at once");
    let taken = || other.recovery.report().continued;
    while taken() == 0 {
        assert!(begun.elapsed() < TAKEN_OVER_WITHIN, "nobody takes the table over");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    second.leave(Duration::ZERO).await;
    assert_eq!(
        bench.count("SELECT count(*) FROM ledger.round_engine WHERE state = 'voided'").await,
        0
    );
}
