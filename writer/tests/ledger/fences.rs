//! Epochs, the second region, standing by, draining.

use crate::bench::{Bench, open_epoch, record, region};
use crate::callers::Player;
use crate::cluster::Server;
use domicile_control::Known;
use domicile_core::claims::PlayerSession;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{GameCode, OperatorId, PlayerRef, SessionId};
use domicile_core::money::Currency;
use domicile_postgres::{CommitError, Pool, UnknownCause};
use domicile_writer::lease::{Standing, Tenure};
use domicile_writer::limits;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

#[tokio::test]
async fn a_later_epoch_ends_every_write_of_this_one() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    let view = player.get(&bench).await.expect(200);
    let (round, commitment) = operator.round(&bench, "open", &["MT"]).await;
    let order = Player::order(&view, 1_000_000);
    let mut bet = order.clone();
    bet["commitment"] = json!(commitment);
    bet["checkpoint_size"] = json!(null);
    let bets = format!("/v1/rounds/{round}/bets");
    player.post(&bench, &bets, "before", &bet).await.expect(201);
    open_epoch(&bench.admin, 2).await;
    let before = "SELECT (SELECT count(*) FROM ledger.bet) + (SELECT count(*) FROM ledger.request)";
    let rows = bench.count(before).await;
    let refused = [
        player.post(&bench, "/v1/plays", "k", &order).await,
        player.post(&bench, &bets, "k", &bet).await,
        operator.end(&bench, &round, "close", "close").await,
        operator
            .send(
                &bench,
                "POST",
                &format!("/operator/v1/sessions/{}/revoke", player.session),
                &json!({}),
            )
            .await,
    ];
    for answer in refused {
        assert_eq!((answer.status, answer.code()), (503, "epoch-fenced".into()));
    }
    assert_eq!(bench.count(before).await, rows);
    assert_eq!(bench.count("SELECT next_position::bigint FROM ledger.chain").await, 0);
}

#[tokio::test]
async fn without_the_second_region_nothing_is_told() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    let view = player.get(&bench).await.expect(200);
    let order = Player::order(&view, 1_000_000);
    player.post(&bench, "/v1/plays", "told", &order).await.expect(201);
    let mut standby = Server::standby_of(&bench.server, "b").await;
    bench.server.require_standby("b").await;
    player.post(&bench, "/v1/plays", "both", &order).await.expect(201);
    standby.stop();
    let (fresh, repeated, seen) = tokio::join!(
        player.post(&bench, "/v1/plays", "new", &order),
        player.post(&bench, "/v1/plays", "told", &order),
        player.get(&bench),
    );
    for answer in [fresh, repeated, seen] {
        assert_ne!(answer.status / 100, 2, "{answer:?}");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!text.contains("seed") && !text.contains("receipt"), "{text}");
    }
    standby.start().await;
    let told = retry(&bench, &player, "told", &order).await;
    assert!(told.replayed);
    let fresh = retry(&bench, &player, "new", &order).await;
    let again = player.post(&bench, "/v1/plays", "new", &order).await;
    assert_eq!(fresh.body, again.body);
    assert_eq!(bench.count("SELECT count(*) FROM ledger.bet").await, 3, "each key once");
}

/// The record that it knows says two copies, and the server that nobody is waited for: it was cut off when one was chosen.
#[tokio::test]
async fn a_writer_that_has_not_heard_of_one_copy_hears_it_from_its_sessions() {
    let bench = Bench::new().await;
    let standby = Server::standby_of(&bench.server, "b").await;
    let (_sender, known) =
        watch::channel(Some(Known { value: Arc::new(record()), revision: None }));
    let standing = Standing::new(known, region(), bench.clock.clone());
    let tenure = Tenure::new(Arc::new(standing), Epoch(1));
    let mut config = bench.server.pool_config(2);
    config.connect = bench.server.config("domicile_writer", "w");
    let pool = Pool::guarded(config, Arc::new(tenure.clone())).unwrap();
    let commit = async || {
        let mut session = pool.session().await.unwrap();
        let tx = session.begin().await.unwrap();
        tx.commit(Duration::from_secs(10)).await.map(drop)
    };
    assert!(tenure.holds(), "by the record alone");
    let told = commit().await;
    assert!(matches!(told, Err(CommitError::Unknown(UnknownCause::NotGuarded))), "{told:?}");
    assert!(!tenure.holds(), "nothing more is begun, and routers are told");
    bench.server.require_standby("b").await;
    commit().await.unwrap();
    assert!(tenure.holds(), "two copies again, and it has not heard of that either");
    drop(standby);
}

async fn retry(
    bench: &Bench,
    player: &Player,
    key: &str,
    order: &serde_json::Value,
) -> crate::bench::Answer {
    for _ in 0..100 {
        let answer = player.post(bench, "/v1/plays", key, order).await;
        if answer.status == 201 {
            return answer;
        }
        assert!([503, 504].contains(&answer.status), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the request is never answered");
}

#[tokio::test]
async fn a_writer_that_stands_by_or_leaves_takes_nothing() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    bench.stand_by();
    let answer = player.get(&bench).await;
    assert_eq!((answer.status, answer.code()), (503, "not-writer".into()));
    bench.drain.begin("test");
    let answer = player.get(&bench).await;
    assert_eq!((answer.status, answer.code()), (503, "writer-draining".into()));
}

#[tokio::test]
async fn a_closing_writer_gives_back_what_waits_for_a_checkpoint_and_finishes_the_rest() {
    let mut bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    let view = player.get(&bench).await.expect(200);
    bench.stop_logs().await;
    let (round, commitment) = operator.round(&bench, "open", &["MT"]).await;
    let mut bet = Player::order(&view, 1_000_000);
    bet["commitment"] = json!(commitment);
    bet["checkpoint_size"] = json!(null);
    let bets = format!("/v1/rounds/{round}/bets");
    let closing = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.close();
        std::time::Instant::now()
    };
    let (waited, closed) = tokio::join!(player.post(&bench, &bets, "k", &bet), closing);
    assert_eq!((waited.status, waited.code()), (503, "writer-draining".into()));
    assert_eq!(waited.headers["domicile-epoch"], "1");
    assert!(closed.elapsed() < limits::COVERAGE_WAIT / 2, "it was not told at once");
    assert_eq!(bench.count("SELECT count(*) FROM ledger.bet").await, 0);
    let refused = player.get(&bench).await;
    assert_eq!((refused.status, refused.code()), (503, "writer-draining".into()));
    assert!(!refused.headers.contains_key("domicile-epoch"), "no engine has seen it");
}

#[tokio::test]
async fn tokens_of_no_session_and_of_other_places_are_refused() {
    let bench = Bench::new().await;
    bench.operator("acme").await;
    let session = PlayerSession {
        operator: OperatorId::parse("acme").unwrap(),
        player: PlayerRef::parse("p1").unwrap(),
        session: SessionId(bench.engine.ids.uuid_v7()),
        game: GameCode::parse("hilo-dice").unwrap(),
        currency: Currency::parse("EUR").unwrap(),
    };
    let player =
        |code: &str| Player { session: String::new(), token: bench.token(&session, code, 600) };
    let answer = player("MT").get(&bench).await;
    assert_eq!(answer.code(), "session-revoked", "no such session");
    let order = json!({
        "stake_micro": 1, "selection": "high", "client_seed": "ab".repeat(32),
        "commitment": "ab".repeat(32), "checkpoint_size": 1,
    });
    let answer = player("FR").post(&bench, "/v1/plays", "k", &order).await;
    assert_eq!(answer.code(), "jurisdiction-unknown");
    bench.clock.advance(Duration::from_secs(700));
    let answer = player("MT").get(&bench).await;
    assert_eq!(answer.code(), "session-revoked", "a fresh token is read at the new time");
}
