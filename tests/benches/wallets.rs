//! What wallets cost: rounds settled per second where each stake is taken at a wallet first, by how long the wallet takes to
//! answer; and what one operator's slow wallet costs the others.
//!
//! The wallets are the tests' simulator in this process, its journal not synced: what is measured is the ledger, which
//! commits an intent, asks, and commits the round with the stake's result.

use crate::load;
use crate::report::{Report, Sample};
use crate::rounds::PlayCaller;
use crate::scene::{Scene, Seat, seat};
use domicile_tests::purse;
use domicile_tests::wallet::fault::Fault;
use domicile_tests::wallet::{Trust, Wallet};
use std::time::Duration;

/// How long a wallet takes to answer, milliseconds.
const ANSWERS_MS: [u64; 3] = [0, 5, 50];
/// Operators with a wallet of their own.
const OPERATORS: [usize; 3] = [1, 4, 16];
/// Callers of the one operator whose wallet gets slower.
const CALLERS: usize = 64;
/// Callers of each of several operators.
const CALLERS_EACH: usize = 4;
/// How long the slow wallet among several takes, milliseconds.
const SLOW_MS: u64 = 300;
const RUNS: usize = 3;
const RUN_TIME: Duration = Duration::from_secs(2);
const SECRET: &[u8] = b"what the bench and its wallets share";

/// Measures both.
pub(crate) async fn measure(scene: &Scene, report: &mut Report) {
    let (fast, slow) = (wallet(scene, "fast").await, wallet(scene, "slow").await);
    slow.always(Some(Fault::slow(Duration::from_millis(SLOW_MS))));
    let seats = operator(scene, "purse", &fast, CALLERS).await;
    report.section("Rounds settled with stakes taken at a wallet");
    let own = median(scene, &scene.seats[..CALLERS]).await;
    let yardstick = report.yardstick("POST /v1/plays, no wallet", CALLERS, &own);
    for ms in ANSWERS_MS {
        let answers = Duration::from_millis(ms);
        fast.always((ms > 0).then(|| Fault::slow(answers)));
        let samples = median(scene, &seats).await;
        report.row(&format!("the wallet answers in {ms} ms"), CALLERS, &samples, yardstick);
    }
    fast.always(None);
    report.section("Operators with wallets, alone and beside one whose wallet is slow");
    let beside = operator(scene, "slow-purse", &slow, CALLERS).await;
    let mut many: Vec<Seat> = Vec::new();
    for count in OPERATORS {
        for number in many.len() / CALLERS_EACH..count {
            let id = format!("purse-{number}");
            many.extend(operator(scene, &id, &fast, CALLERS_EACH).await);
        }
        let alone = median(scene, &many).await;
        let yardstick = report.yardstick(&format!("{count} operators alone"), many.len(), &alone);
        let mut samples = Vec::new();
        for _ in 0..RUNS {
            let (sample, _slow) = tokio::join!(once(scene, &many), once(scene, &beside));
            samples.push(sample);
        }
        let title = format!("{count} operators, another's wallet takes {SLOW_MS} ms");
        report.row(&title, many.len(), &samples, yardstick);
    }
    for wallet in [&fast, &slow] {
        let wrong = wallet.store().violations();
        assert!(wrong.is_empty(), "NOT RUN: {wrong:?}");
    }
}

async fn median(scene: &Scene, seats: &[Seat]) -> Vec<Sample> {
    let mut samples = Vec::new();
    for _ in 0..RUNS {
        samples.push(once(scene, seats).await);
    }
    samples
}

async fn once(scene: &Scene, seats: &[Seat]) -> Sample {
    let target = scene.writer();
    let players: Vec<_> = seats.iter().map(|seat| PlayCaller::new(&target, seat)).collect();
    let cpu = scene.processes(&["writer-mt/writer", "ledger-mt/postgres"]);
    load::run(&target, players, RUN_TIME, &cpu).await.0
}

async fn wallet(scene: &Scene, name: &str) -> Wallet {
    let wallet = purse::start(&scene.cluster, name, Trust::Hmac(SECRET.to_vec())).await;
    wallet.store().grant(1_000_000_000_000_000);
    wallet.store().unsynced();
    wallet
}

/// An operator with this wallet, and sessions of its players.
async fn operator(scene: &Scene, id: &str, wallet: &Wallet, players: usize) -> Vec<Seat> {
    let operator = scene.cluster.operator(id, &["MT"], "MT").await;
    purse::set(&scene.cluster, id, wallet, SECRET, &["--concurrency", "256"]);
    // Every process of the writer knows of it within this time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut seats = Vec::new();
    for number in 0..players {
        let opened = operator.session(&format!("{id}-{number}"), "MT", "hilo-dice").await;
        seats.push(seat(&opened));
    }
    seats
}
