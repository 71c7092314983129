//! Instant play: order, idempotency, concurrency, rollover, proofs.

use crate::bench::Bench;
use crate::callers::Player;
use domicile_core::hex;
use domicile_core::leaf::Leaf;
use domicile_core::receipt::Receipt;
use domicile_core::seed::{Seed, verify_chain};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_play_reveals_the_next_seed_and_is_told_once() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    let view = player.get(&bench).await.expect(200);
    assert_eq!((view["next_position"].as_u64(), view["remaining"].as_u64()), (Some(0), Some(512)));
    let commitment = hex::decode_32(view["commitment"].as_str().unwrap()).unwrap();
    let order = Player::order(&view, 1_000_000);
    for position in 0..3u32 {
        let key = format!("k{position}");
        let first = player.post(&bench, "/v1/plays", &key, &order).await;
        let answer = first.expect(201);
        assert!(!first.replayed);
        assert_eq!(answer["position"], position);
        let seed = Seed::from_hex(answer["seed"].as_str().unwrap()).unwrap();
        assert!(verify_chain(&seed, position, &commitment), "the seed belongs to the chain");
        let receipt = Receipt::open(answer["receipt"].as_str().unwrap(), &bench.keys).unwrap();
        assert_eq!(receipt.bet.to_string(), answer["bet"].as_str().unwrap());
        assert_eq!(receipt.commitment, commitment);

        let again = player.post(&bench, "/v1/plays", &key, &order).await;
        assert!(again.replayed);
        assert_eq!((again.status, again.body), (first.status, first.body), "byte for byte");
        let mut other = order.clone();
        other["stake_micro"] = json!(2_000_000);
        let reused = player.post(&bench, "/v1/plays", &key, &other).await;
        assert_eq!((reused.status, reused.code()), (409, "idempotency-key-reused".into()));
    }
    assert_eq!(bench.count("SELECT count(*) FROM ledger.bet").await, 3);
    assert_eq!(bench.count("SELECT count(*) FROM ledger.round WHERE state = 'settled'").await, 3);
}

#[tokio::test]
async fn concurrent_requests_of_one_key_have_one_effect() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "MT", "wheel").await;
    let view = player.get(&bench).await.expect(200);
    let mut order = Player::order(&view, 500_000);
    order["selection"] = json!("spin");
    let answers = tokio::join!(
        player.post(&bench, "/v1/plays", "same", &order),
        player.post(&bench, "/v1/plays", "same", &order),
        player.post(&bench, "/v1/plays", "same", &order),
        player.post(&bench, "/v1/plays", "same", &order),
        player.post(&bench, "/v1/plays", "other", &order),
    );
    let same = [&answers.0, &answers.1, &answers.2, &answers.3];
    assert_eq!(same.iter().filter(|answer| !answer.replayed).count(), 1);
    for answer in same {
        answer.expect(201);
        assert_eq!(answer.body, answers.0.body);
    }
    answers.4.expect(201);
    assert_eq!(bench.count("SELECT count(*) FROM ledger.bet").await, 2);
    assert_eq!(bench.count("SELECT next_position::bigint FROM ledger.chain").await, 2);
}

#[tokio::test]
async fn many_sessions_share_commits_and_one_bad_order_fails_alone() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let mut players = Vec::new();
    for n in 0..24 {
        players.push(operator.session(&bench, &format!("p{n}"), "MT", "hilo-dice").await);
    }
    let mut views = Vec::new();
    for player in &players {
        views.push(player.get(&bench).await.expect(200));
    }
    let played = players.iter().zip(&views).enumerate().map(|(n, (player, view))| {
        let mut order = Player::order(view, 1_000_000);
        if n == 5 {
            order["selection"] = json!("sideways");
        }
        if n == 6 {
            order["checkpoint_size"] = json!(9_999_999);
        }
        let bench = &bench;
        async move { (n, player.post(bench, "/v1/plays", "k", &order).await) }
    });
    let mut tasks = Vec::new();
    for play in played {
        tasks.push(play);
    }
    for (n, answer) in futures_join(tasks).await {
        match n {
            5 => assert_eq!((answer.status, answer.code()), (422, "bet-invalid".into())),
            6 => assert_eq!((answer.status, answer.code()), (409, "checkpoint-unknown".into())),
            _ => assert_eq!(answer.expect(201)["position"], 0),
        }
    }
    assert_eq!(bench.count("SELECT count(*) FROM ledger.bet").await, 22);
}

async fn futures_join<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut pinned: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in &mut pinned {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if pinned.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pinned.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn the_next_chain_is_there_before_the_old_one_runs_out() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    let view = player.get(&bench).await.expect(200);
    let order = Player::order(&view, 1_000_000);
    // As if 446 plays had been made.
    bench.admin.batch_execute("UPDATE ledger.chain SET next_position = 447").await.unwrap();
    for position in 447..512u32 {
        assert_eq!(
            bench.count("SELECT count(*) FROM ledger.chain").await,
            if position <= 448 { 1 } else { 2 }
        );
        let answer =
            player.post(&bench, "/v1/plays", &format!("k{position}"), &order).await.expect(201);
        assert_eq!(answer["remaining"], 511 - position);
    }
    let late = player.post(&bench, "/v1/plays", "late", &order).await;
    assert_eq!((late.status, late.code()), (409, "commitment-mismatch".into()));
    let next = player.get(&bench).await.expect(200);
    assert_ne!(next["chain"], view["chain"]);
    player.post(&bench, "/v1/plays", "next", &Player::order(&next, 1_000_000)).await.expect(201);
    let closed = leaf(&bench, "chain-close").await;
    let Leaf::ChainClose(closed) = closed else { panic!("a close leaf") };
    assert_eq!((closed.plays, closed.reason.as_str()), (512, "exhausted"));
}

#[tokio::test]
async fn revocation_closes_the_chain_and_refuses_plays() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "DE", "hilo-dice").await;
    let view = player.get(&bench).await.expect(200);
    let order = Player::order(&view, 1_000_000);
    player.post(&bench, "/v1/plays", "k", &order).await.expect(201);
    let path = format!("/operator/v1/sessions/{}/revoke", player.session);
    operator.send(&bench, "POST", &path, &json!({ "request_id": "r" })).await.expect(200);
    let refused = player.post(&bench, "/v1/plays", "k2", &order).await;
    assert_eq!((refused.status, refused.code()), (401, "session-revoked".into()));
    let replay = player.post(&bench, "/v1/plays", "k", &order).await;
    assert!(replay.replayed, "what was acknowledged stays told");
    assert_eq!(bench.count("SELECT count(*) FROM ledger.session_revocation").await, 1);
    let Leaf::ChainClose(closed) = leaf(&bench, "chain-close").await else {
        panic!("a close leaf")
    };
    assert_eq!((closed.plays, closed.reason.as_str()), (1, "revoked"));
    let start = Seed::new(closed.seed);
    assert_eq!(
        hex::encode(&domicile_core::seed::chain_commitment(&start, 512).unwrap()),
        view["commitment"].as_str().unwrap()
    );
}

#[tokio::test]
async fn the_sweep_closes_chains_of_expired_sessions() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    player.get(&bench).await.expect(200);
    assert_eq!(domicile_writer::sweep::sweep(&bench.engine).await.unwrap(), 0);
    bench.clock.advance(Duration::from_secs(1_800 + 16));
    assert_eq!(domicile_writer::sweep::sweep(&bench.engine).await.unwrap(), 1);
    assert_eq!(domicile_writer::sweep::sweep(&bench.engine).await.unwrap(), 0);
    let Leaf::ChainClose(closed) = leaf(&bench, "chain-close").await else {
        panic!("a close leaf")
    };
    assert_eq!((closed.plays, closed.reason.as_str()), (0, "expired"));
}

/// The one leaf of a kind, once it is sequenced.
pub(crate) async fn leaf(bench: &Bench, kind: &str) -> Leaf {
    let sql = format!(
        "SELECT entry FROM log.leaf l JOIN log.subject s USING (jurisdiction, log_epoch, idx) WHERE kind = '{kind}'"
    );
    for _ in 0..300 {
        let rows = bench.admin.query(&sql, &[]).await.unwrap();
        if let Some(row) = rows.first() {
            return Leaf::parse(&row.get::<_, Vec<u8>>(0)).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no {kind} leaf was sequenced");
}
