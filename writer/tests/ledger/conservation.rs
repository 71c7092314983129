//! Whether the ledger's money is conserved, judged over a real ledger into which mistakes are planted.

use crate::bench::Bench;
use crate::callers::Player;
use crate::wallets::Scene;
use domicile_service::peer::Role;
use serde_json::{Value, json};

async fn judged(bench: &Bench) -> Value {
    let path = "/internal/v1/conservation";
    let mut body = json!({});
    for _ in 0..20 {
        let asked = body.to_string();
        let answer = bench.send(Role::Ctl, "POST", path, &[], asked.as_bytes()).await.expect(200);
        if answer["judgement"].is_object() {
            return answer;
        }
        body = json!({ "audit": answer["audit"] });
    }
    panic!("the check does not end");
}

/// A played, a settled, a voided and an open round of an operator with a wallet; plays of one without.
async fn ledger() -> Scene {
    let scene = Scene::new(json!({})).await;
    let (player, order) = scene.player().await;
    for n in 0..6 {
        player.post(&scene.bench, "/v1/plays", &format!("k{n}"), &order).await.expect(201);
    }
    for (name, verbs) in
        [("settled", &["close", "settle"][..]), ("voided", &["void"]), ("open", &[])]
    {
        let (round, commitment) = scene.operator.round(&scene.bench, name, &["MT"]).await;
        let path = format!("/v1/rounds/{round}/bets");
        let mut bet = order.clone();
        bet["commitment"] = commitment.into();
        bet.as_object_mut().unwrap().remove("checkpoint_size");
        player.post(&scene.bench, &path, name, &bet).await.expect(201);
        for verb in verbs {
            let key = format!("{name}-{verb}");
            scene.operator.end(&scene.bench, &round, verb, &key).await.expect(200);
        }
    }
    let plain = scene.bench.operator("plain").await;
    let player = plain.session(&scene.bench, "p2", "DE", "hilo-dice").await;
    let view = player.get(&scene.bench).await.expect(200);
    let order = Player::order(&view, 2_000_000);
    player.post(&scene.bench, "/v1/plays", "p", &order).await.expect(201);
    scene.drained().await;
    scene
}

/// What is planted, and what undoes it.
const MISTAKES: [(&str, &str, &str); 8] = [
    (
        "paid otherwise than its round says",
        "UPDATE ledger.bet SET payout_micro = payout_micro + 1 WHERE id = (SELECT min(id::text)::uuid FROM ledger.bet \
         WHERE payout_micro IS NOT NULL)",
        "UPDATE ledger.bet SET payout_micro = payout_micro - 1 WHERE id = (SELECT min(id::text)::uuid FROM ledger.bet \
         WHERE payout_micro IS NOT NULL)",
    ),
    (
        "paid before its round ended",
        "UPDATE ledger.bet SET payout_micro = 5 WHERE payout_micro IS NULL",
        "UPDATE ledger.bet SET payout_micro = NULL WHERE payout_micro = 5",
    ),
    (
        "the wallet's stake is not the bet's",
        "UPDATE ledger.wallet_job SET amount_micro = amount_micro + 1 WHERE call = 'bet'",
        "UPDATE ledger.wallet_job SET amount_micro = amount_micro - 1 WHERE call = 'bet'",
    ),
    (
        "its win or rollback is not its payout",
        "UPDATE ledger.wallet_job SET amount_micro = amount_micro + 1 WHERE call <> 'bet'",
        "UPDATE ledger.wallet_job SET amount_micro = amount_micro - 1 WHERE call <> 'bet'",
    ),
    (
        "its rollback is missing",
        "UPDATE ledger.wallet_job SET reference = id WHERE call = 'rollback'",
        "",
    ),
    ("taken without a bet", "UPDATE ledger.wallet_job SET bet_id = id WHERE call = 'bet'", ""),
    (
        "no stake was taken from the wallet",
        "UPDATE ledger.wallet SET set_at = now() - interval '1 day'; DELETE FROM ledger.wallet_job",
        "",
    ),
    ("its round is not there", "DELETE FROM ledger.round WHERE kind = 'play'", ""),
];

#[tokio::test]
async fn a_sound_ledger_conserves_money_and_planted_mistakes_are_named() {
    let scene = ledger().await;
    let bench = &scene.bench;
    let sound = judged(bench).await;
    assert_eq!(sound["holds"], true, "{sound}");
    let lines = sound["judgement"]["lines"].as_array().unwrap();
    let of = |operator: &str, jurisdiction: &str| {
        let line = lines.iter().find(|line| {
            line["account"]["operator"] == operator
                && line["account"]["jurisdiction"] == jurisdiction
        });
        line.unwrap().clone()
    };
    let (acme, plain) = (of("acme", "MT"), of("plain", "DE"));
    assert_eq!((acme["bets"].clone(), acme["stakes_micro"].clone()), (json!(9), json!(9_000_000)));
    assert_eq!(
        (&acme["returned_micro"], &acme["pending_micro"]),
        (&json!(1_000_000), &json!(1_000_000))
    );
    assert_eq!(acme["wallet_taken_micro"], 9_000_000);
    assert_eq!(plain["wallet_taken_micro"], 0);
    for (what, plant, heal) in MISTAKES {
        bench.admin.batch_execute(plant).await.unwrap();
        let broken = judged(bench).await;
        assert_eq!(broken["holds"], false, "{what}: {broken}");
        let named = broken["judgement"]["breaks"].as_array().unwrap();
        assert!(named.iter().any(|named| named["what"] == what), "{what}: {named:?}");
        if !heal.is_empty() {
            bench.admin.batch_execute(heal).await.unwrap();
            assert_eq!(judged(bench).await["holds"], true, "{what} is healed");
        }
    }
}

#[tokio::test]
async fn a_check_is_told_under_its_id_only() {
    let scene = Scene::new(json!({})).await;
    let answer = scene
        .ctl("POST", "/internal/v1/conservation", &json!({ "audit": uuid::Uuid::from_u128(7) }))
        .await;
    assert_eq!(answer.status, 404);
}
