//! The incidents of operators' wallets, each provoked on a whole cluster, and what its playbook looks at: the named metrics at
//! the writer's own admin listener. The wallet believes RSA signatures over the body, as Hub88-type wallets do.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use domicile_core::base64;
use domicile_tests::cluster::Cluster;
use domicile_tests::eventually::eventually;
use domicile_tests::meter::{ONE, thousandths};
use domicile_tests::player::Player;
use domicile_tests::purse;
use domicile_tests::topology::{Place, THREE_REGIONS};
use domicile_tests::wallet::fault::Fault;
use domicile_tests::wallet::{Trust, Wallet};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a metric may take to tell: it is counted every few seconds.
const TOLD_WITHIN: Duration = Duration::from_secs(40);
const STAKE: u64 = 1_000_000;
struct Scene {
    cluster: Cluster,
    wallet: Wallet,
    player: Player,
    plays: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_playbooks_metrics_tell_of_its_incident() {
    let scene = Scene::set().await;
    Box::pin(scene.calls_are_timed_and_traced()).await;
    Box::pin(scene.rollbacks_are_stuck()).await;
    Box::pin(scene.a_win_needs_a_person()).await;
    Box::pin(scene.the_wallet_is_down_and_comes_back()).await;
    let said = scene.cluster.cli(&["conservation"]);
    assert!(said.ends_with("CONSERVED\n") && !said.contains("NOT CONSERVED"), "{said}");
    assert_eq!(scene.wallet.store().violations(), Vec::<String>::new());
}

fn rsa() -> (Vec<u8>, Trust) {
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("PKCS #8");
    let text = base64::encode(der.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    (pem.into_bytes(), Trust::Rsa(pair.public_key().as_ref().to_vec()))
}

impl Scene {
    async fn set() -> Self {
        let places: &[Place] = THREE_REGIONS.get(..2).expect("two regions");
        let cluster = Cluster::start("incidents", places);
        let (key, trust) = rsa();
        let wallet = purse::start(&cluster, "purse", trust).await;
        let operator = cluster.operator("acme", &["MT"], "MT").await;
        let options = [
            "--signing",
            "rsa-sha256",
            "--timeout-ms",
            "2000",
            "--retry-first-ms",
            "50",
            "--retry-longest-ms",
            "200",
            "--breaker-failures",
            "8",
            "--breaker-pause-ms",
            "1000",
        ];
        purse::set(&cluster, "acme", &wallet, &key, &options);
        wallet.store().fund("p", 1_000_000_000_000);
        let opened = operator.session("p", "MT", "hilo-dice").await;
        let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
        let scene = Self { cluster, wallet, player, plays: AtomicU64::new(0) };
        // The writer takes the wallet up within a second.
        eventually("a play moves money at the wallet", TOLD_WITHIN, || async {
            scene.play().await;
            if scene.wallet.calls().is_empty() { Err("no call".to_owned()) } else { Ok(()) }
        })
        .await;
        scene
    }

    /// One play; the code it was refused with, or `won` or `lost`.
    async fn play(&self) -> String {
        let number = self.plays.fetch_add(1, Ordering::Relaxed);
        for _ in 0..3 {
            let session = self.player.session().await;
            let body = Player::play_body(&session, "high", STAKE, number);
            let key = format!("k{number}-{}", session["next_position"]);
            let answer = self.player.post("/v1/plays", &key, &body).await.expect("an answer");
            if answer.status.as_u16() == 201 {
                let won = answer.json()["payout_micro"] != 0;
                return if won { "won" } else { "lost" }.to_owned();
            }
            if answer.code() != "commitment-mismatch" {
                return answer.code();
            }
        }
        "commitment-mismatch".to_owned()
    }

    async fn play_until(&self, wanted: &str) {
        for _ in 0..64 {
            let said = self.play().await;
            assert!(["won", "lost"].contains(&&*said), "a play is refused: {said}");
            if said == wanted {
                return;
            }
        }
        unreachable!("64 plays and none {wanted}");
    }

    async fn tells(&self, name: &str, labels: &[&str], holds: impl Fn(u64) -> bool) {
        eventually(&format!("{name} {labels:?} tells"), TOLD_WITHIN, || async {
            let value = thousandths(&self.cluster, name, labels).await;
            if holds(value) { Ok(()) } else { Err(format!("it is {value} thousandths")) }
        })
        .await;
    }

    async fn drained(&self) {
        let listed = || async {
            let text = self
                .cluster
                .cli(&["wallet", "jobs", "list", "acme", "--status", "pending", "--json"]);
            let listed: Value = serde_json::from_str(&text).expect("JSON");
            listed["jobs"].as_array().expect("jobs").len()
        };
        eventually("nothing is pending", TOLD_WITHIN, || async {
            match listed().await {
                0 => Ok(()),
                pending => Err(format!("{pending} pending")),
            }
        })
        .await;
    }

    /// Every call is timed and traced; what comes of plays is counted.
    async fn calls_are_timed_and_traced(&self) {
        self.play_until("won").await;
        self.wallet.script("bet", &[Fault::answer_lost()]);
        assert_eq!(self.play().await, "stake-returned");
        self.drained().await;
        for endpoint in ["bet", "win", "rollback"] {
            let labels = [&*format!("endpoint=\"{endpoint}\""), "operator=\"acme\""];
            self.tells("wallet_call_latency_ms_count", &labels, |count| count >= ONE).await;
        }
        self.tells("rtp_actual_ppm", &["game=\"hilo-dice\""], |ppm| ppm > 0).await;
        let settled = ["kind=\"play\"", "to=\"settled\""];
        self.tells("round_state_transitions_total", &settled, |count| count >= ONE).await;
        let traces = self.wallet.traces();
        assert_eq!(traces.len(), self.wallet.calls().len(), "every call carries its trace");
        assert!(traces.iter().all(|trace| trace.starts_with("00-") && trace.len() == 55));
    }

    /// Playbook 1.
    async fn rollbacks_are_stuck(&self) {
        let stuck = vec![Fault::failing(); 400];
        self.wallet.script("bet", &[Fault::answer_lost()]);
        self.wallet.script("rollback", &stuck);
        assert_eq!(self.play().await, "stake-returned");
        let labels = ["endpoint=\"rollback\"", "operator=\"acme\""];
        self.tells("pending_wallet_jobs", &labels, |pending| pending >= ONE).await;
        self.tells("domicile_writer_wallet_oldest_seconds", &labels, |age| age >= 5 * ONE).await;
        let none = ["endpoint=\"rollback\"", "rs_status=\"none\""];
        self.tells("wallet_call_errors_total", &none, |count| count >= ONE).await;
        let listed = self.cluster.cli(&["wallet", "jobs", "list", "acme", "--status", "pending"]);
        assert!(listed.contains("rollback"), "{listed}");
        self.wallet.forget_scripts();
        self.drained().await;
        self.tells("pending_wallet_jobs", &labels, |pending| pending == 0).await;
    }

    /// A transaction that only a person can end.
    async fn a_win_needs_a_person(&self) {
        self.tells("circuit_breaker_state", &["operator=\"acme\""], |state| state == 0).await;
        self.wallet.script("win", &[Fault::says("RS_ERROR_WRONG_CURRENCY")]);
        self.play_until("won").await;
        let labels = ["endpoint=\"win\"", "operator=\"acme\""];
        self.tells("domicile_writer_wallet_dead_jobs", &labels, |dead| dead == ONE).await;
        let text = self.cluster.cli(&["wallet", "jobs", "list", "acme", "--json"]);
        let dead: Value = serde_json::from_str(&text).expect("JSON");
        let id = dead["jobs"][0]["id"].as_str().expect("a dead job").to_owned();
        self.cluster.cli(&["wallet", "jobs", "retry", &id, "--reason", "the wallet was mended"]);
        self.drained().await;
        self.tells("domicile_writer_wallet_dead_jobs", &labels, |dead| dead == 0).await;
    }

    /// Playbooks 5, 6 and 10: the breaker opens, bets are refused at once, winners wait, all drains on recovery.
    async fn the_wallet_is_down_and_comes_back(&self) {
        self.wallet.script("win", &[Fault::failing(); 3]);
        self.play_until("won").await;
        self.wallet.always(Some(Fault::failing()));
        let mut said = String::new();
        for _ in 0..40 {
            said = self.play().await;
            if said == "wallet-unavailable" {
                break;
            }
        }
        assert_eq!(said, "wallet-unavailable", "the breaker refuses bets at once");
        self.tells("circuit_breaker_state", &["operator=\"acme\""], |state| state > 0).await;
        let pending = |pending: u64| pending >= ONE;
        self.tells("pending_wallet_jobs", &["operator=\"acme\""], pending).await;
        self.wallet.forget_scripts();
        self.wallet.always(None);
        self.drained().await;
        self.tells("circuit_breaker_state", &["operator=\"acme\""], |state| state == 0).await;
        self.tells("pending_wallet_jobs", &["operator=\"acme\""], |pending| pending == 0).await;
        self.play_until("lost").await;
    }
}
