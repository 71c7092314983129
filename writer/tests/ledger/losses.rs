//! What a forced move cuts off goes back at operators' wallets on a person's word only: the lost tail may have paid it.

use crate::wallet::fault::Fault;
use crate::wallets::{Scene, on_round};
use domicile_writer::ledger::{floor, wallet_jobs};
use domicile_writer::wallet::worker;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn what_a_forced_move_undoes_is_withheld_until_a_person_lets_it_go() {
    let scene = Scene::new(json!({})).await;
    let (player, order) = scene.player().await;
    let (round, commitment) = scene.operator.round(&scene.bench, "open", &["MT"]).await;
    for side in ["low", "high"] {
        let path = format!("/v1/rounds/{round}/bets");
        player.post(&scene.bench, &path, side, &on_round(&commitment, side)).await.expect(201);
    }
    // A stake that is being asked for when its writer is gone.
    scene.wallet.script("bet", &[Fault::late(Duration::from_millis(600))]);
    let before = scene.wallet.calls().len();
    let (closed, ()) = tokio::join!(player.post(&scene.bench, "/v1/plays", "k", &order), async {
        while scene.wallet.calls().len() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        scene.bench.close();
    });
    assert_eq!(closed.code(), "writer-draining");

    let next = scene.bench.next_engine();
    scene.bench.admin.batch_execute("UPDATE ledger.round_engine SET opened_in = 0").await.unwrap();
    let mut session = next.hands.session().await.unwrap();
    let tx = session.begin().await.unwrap();
    assert_eq!(floor::cut(&tx, next.epoch).await.unwrap(), 1);
    assert_eq!(wallet_jobs::cut(&tx, next.epoch).await.unwrap(), 1);
    tx.commit(WITHIN).await.unwrap();
    drop(session);
    tokio::spawn(worker::run(Arc::downgrade(&next)));
    scene.operator.end(&scene.bench, &round, "void", "void").await.expect(200);
    scene.drained().await;
    let withheld = "call = 'rollback' AND state = 'dead' AND answer = 'withheld' AND attempts = 0";
    assert_eq!(scene.jobs(withheld).await, 3);
    assert!(scene.wallet.calls().iter().all(|(call, _)| call != "rollback"));
    let again = player.post(&scene.bench, "/v1/plays", "k", &order).await;
    assert_eq!(again.code(), "stake-returned", "and is not taken again");

    let path = "/internal/v1/operators/acme/wallet/jobs";
    let dead = scene.ctl("POST", path, &json!({ "state": "dead" })).await.expect(200);
    for job in dead["jobs"].as_array().unwrap() {
        let path = format!("/internal/v1/wallet-jobs/{}/retry", job["id"].as_str().unwrap());
        scene.ctl("POST", &path, &json!({ "reason": "nothing was paid" })).await.expect(200);
    }
    scene.drained().await;
    assert_eq!(scene.jobs("call = 'rollback' AND state = 'done'").await, 3);
    scene.assert_conserved().await;
}
