//! Shared rounds: bets, closing, settling, voiding, across jurisdictions.

use crate::bench::Bench;
use crate::callers::Player;
use crate::plays::leaf;
use domicile_core::hex;
use domicile_core::leaf::{Leaf, VoidReason, bets_root};
use domicile_core::seed::Seed;
use serde_json::{Value, json};

fn order(commitment: &str, selection: &str) -> Value {
    json!({
        "stake_micro": 2_000_000, "selection": selection, "client_seed": "cd".repeat(32),
        "commitment": commitment,
    })
}

#[tokio::test]
async fn a_round_is_settled_over_all_its_jurisdictions() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let mt = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    let de = operator.session(&bench, "p2", "DE", "hilo-dice").await;
    let (round, commitment) = operator.round(&bench, "open", &["MT", "DE"]).await;
    let bets = format!("/v1/rounds/{round}/bets");
    for (player, key, selection) in [(&mt, "a", "high"), (&mt, "b", "low"), (&de, "a", "high")] {
        let answer = player.post(&bench, &bets, key, &order(&commitment, selection)).await;
        let first = answer.expect(201);
        let again = player.post(&bench, &bets, key, &order(&commitment, selection)).await;
        assert!(again.replayed && again.body == answer.body);
        assert!(first["receipt"].as_str().unwrap().contains("domicile/receipt/v1"));
    }
    let early = operator.end(&bench, &round, "settle", "early").await;
    assert_eq!((early.status, early.code()), (409, "round-state".into()), "it is still open");
    operator.end(&bench, &round, "close", "close").await.expect(200);
    let late = mt.post(&bench, &bets, "late", &order(&commitment, "high")).await;
    assert_eq!((late.status, late.code()), (409, "round-state".into()));

    let settled = operator.end(&bench, &round, "settle", "settle").await;
    let answer = settled.expect(200);
    let again = operator.end(&bench, &round, "settle", "settle").await;
    assert!(again.replayed && again.body == settled.body);
    let seed = Seed::from_hex(answer["seed"].as_str().unwrap()).unwrap();
    assert_eq!(hex::encode(&seed.commitment()), commitment);
    assert_eq!(answer["bets"]["MT"]["count"], 2);
    assert_eq!(answer["bets"]["DE"]["count"], 1);

    let Leaf::RoundSettle(leaf) = leaf(&bench, "round-settle").await else { panic!("a leaf") };
    for entry in leaf.bets.as_slice() {
        let sql = "SELECT record_commitment FROM ledger.bet WHERE jurisdiction = $1 ORDER BY id";
        let rows = bench.admin.query(sql, &[&entry.jurisdiction.as_str()]).await.unwrap();
        let commitments: Vec<[u8; 32]> =
            rows.iter().map(|row| row.get::<_, Vec<u8>>(0).try_into().unwrap()).collect();
        assert_eq!(entry.root, bets_root(&commitments), "{}", entry.jurisdiction);
    }
    let side = leaf.outcome.as_str().split(' ').next().unwrap().to_owned();
    let unpaid = "SELECT count(*) FROM ledger.bet WHERE payout_micro IS NULL";
    assert_eq!(bench.count(unpaid).await, 0);
    let winners =
        format!("SELECT count(*) FROM ledger.bet WHERE selection = '{side}' AND payout_micro > 0");
    let expected = if side == "high" { 2 } else { 1 };
    assert_eq!(bench.count(&winners).await, expected);
    let pending =
        "SELECT count(*) FROM ledger.round WHERE state = 'settled' AND ended_at IS NOT NULL";
    assert_eq!(bench.count(pending).await, 2);
    let read =
        operator.send(&bench, "GET", &format!("/operator/v1/rounds/{round}"), &Value::Null).await;
    assert_eq!(read.expect(200)["outcome"], answer["outcome"]);
}

#[tokio::test]
async fn a_voided_round_returns_the_stakes_and_reveals_its_seed() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    let (round, commitment) = operator.round(&bench, "open", &["MT"]).await;
    let bets = format!("/v1/rounds/{round}/bets");
    player.post(&bench, &bets, "a", &order(&commitment, "low")).await.expect(201);
    let voided = operator.end(&bench, &round, "void", "void").await.expect(200);
    assert_eq!((voided["state"].as_str(), &voided["outcome"]), (Some("voided"), &Value::Null));
    let returned = "SELECT count(*) FROM ledger.bet WHERE payout_micro = stake_micro";
    assert_eq!(bench.count(returned).await, 1);
    let Leaf::RoundVoid(leaf) = leaf(&bench, "round-void").await else { panic!("a leaf") };
    assert_eq!(hex::encode(&leaf.seed), voided["seed"].as_str().unwrap());
    let again = operator.end(&bench, &round, "settle", "settle").await;
    assert_eq!(again.code(), "round-state", "a round ends once");
}

#[tokio::test]
async fn a_suspended_jurisdiction_voids_its_bets_and_the_others_settle() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let mt = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    let de = operator.session(&bench, "p2", "DE", "hilo-dice").await;
    let (both, commitment) = operator.round(&bench, "both", &["DE", "MT"]).await;
    let (alone, other) = operator.round(&bench, "alone", &["DE"]).await;
    for (player, round, commitment, key) in
        [(&mt, &both, &commitment, "a"), (&de, &both, &commitment, "b"), (&de, &alone, &other, "c")]
    {
        let path = format!("/v1/rounds/{round}/bets");
        player.post(&bench, &path, key, &order(commitment, "high")).await.expect(201);
    }
    bench.suspend("DE");
    operator.end(&bench, &both, "close", "close-both").await.expect(200);
    operator.end(&bench, &alone, "close", "close-alone").await.expect(200);

    let settled = operator.end(&bench, &both, "settle", "settle-both").await.expect(200);
    assert_eq!((settled["state"].as_str(), &settled["voided"]), (Some("settled"), &json!(["DE"])));
    let states = "SELECT string_agg(jurisdiction || ' ' || state, ' ' ORDER BY jurisdiction) \
        FROM ledger.round WHERE id = $1";
    let id = uuid::Uuid::parse_str(&both).unwrap();
    let rows = bench.admin.query(states, &[&id]).await.unwrap();
    assert_eq!(rows[0].get::<_, &str>(0), "DE voided MT settled");
    let returned = "SELECT count(*) FROM ledger.bet WHERE jurisdiction = 'DE' \
        AND payout_micro = stake_micro";
    assert_eq!(bench.count(returned).await, 1, "the other round of DE is not ended yet");
    let read =
        operator.send(&bench, "GET", &format!("/operator/v1/rounds/{both}"), &Value::Null).await;
    assert_eq!(read.expect(200)["outcome"], settled["outcome"]);

    let voided = operator.end(&bench, &alone, "settle", "settle-alone").await.expect(200);
    assert_eq!((voided["state"].as_str(), &voided["outcome"]), (Some("voided"), &Value::Null));
    assert_eq!(bench.count(returned).await, 2);
    let Leaf::RoundSettle(mt) = leaf(&bench, "round-settle").await else { panic!("a leaf") };
    assert_eq!(mt.jurisdiction.as_str(), "MT");
    let Leaf::RoundVoid(de) = leaf(&bench, "round-void").await else { panic!("a leaf") };
    assert_eq!((de.jurisdiction.as_str(), de.reason), ("DE", VoidReason::Suspended));
}

#[tokio::test]
async fn bets_are_refused_where_they_do_not_belong() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let other = bench.operator("other").await;
    let mt = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    let de = operator.session(&bench, "p2", "DE", "hilo-dice").await;
    let wheel = operator.session(&bench, "p3", "MT", "wheel").await;
    let foreign = other.session(&bench, "p4", "MT", "hilo-dice").await;
    let (round, commitment) = operator.round(&bench, "open", &["MT"]).await;
    let bets = format!("/v1/rounds/{round}/bets");
    let good = order(&commitment, "high");
    let cases = [
        (&de, good.clone(), "round-not-found"),
        (&foreign, good.clone(), "round-not-found"),
        (&wheel, good.clone(), "bet-invalid"),
        (&mt, order(&"00".repeat(32), "high"), "commitment-mismatch"),
        (&mt, order(&commitment, "sideways"), "bet-invalid"),
    ];
    for (n, (player, body, code)) in cases.into_iter().enumerate() {
        let answer = player.post(&bench, &bets, &format!("k{n}"), &body).await;
        assert_eq!(answer.code(), code, "case {n}: {answer:?}");
    }
    let keyless = Player { session: mt.session.clone(), token: mt.token.clone() };
    let answer = keyless.post(&bench, &bets, "not a key", &good).await;
    assert_eq!(answer.code(), "idempotency-key-missing");
    assert_eq!(bench.count("SELECT count(*) FROM ledger.bet").await, 0);
}

#[tokio::test]
async fn a_close_and_bets_at_once_agree_on_who_is_in() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let mut players = Vec::new();
    for n in 0..8 {
        players.push(operator.session(&bench, &format!("p{n}"), "MT", "hilo-dice").await);
    }
    let (round, commitment) = operator.round(&bench, "open", &["MT"]).await;
    let bets = format!("/v1/rounds/{round}/bets");
    players[0].post(&bench, &bets, "first", &order(&commitment, "high")).await.expect(201);
    let place = |n: usize| {
        let (player, bench, bets) = (&players[n], &bench, &bets);
        let body = order(&commitment, "high");
        async move { usize::from(player.post(bench, bets, "k", &body).await.status == 201) }
    };
    let before = async { tokio::join!(place(0), place(1), place(2)) };
    let after = async { tokio::join!(place(4), place(5), place(6)) };
    let (before, closed, after) =
        tokio::join!(before, operator.end(&bench, &round, "close", "close"), after);
    closed.expect(200);
    let accepted = before.0 + before.1 + before.2 + after.0 + after.1 + after.2;
    let settled = operator.end(&bench, &round, "settle", "settle").await.expect(200);
    assert_eq!(
        settled["bets"]["MT"]["count"].as_u64().unwrap(),
        u64::try_from(accepted + 1).unwrap()
    );
}
