//! What persons administer, on a whole cluster: who may do what, credentials rotated under load, sessions refused at every
//! door within seconds, a suspension that refunds at the wallet, and a log that cannot be rewritten unseen.

use crate::etcd_roles;
use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::tls::ClientTls;
use domicile_tests::cluster::{self, Cluster};
use domicile_tests::database;
use domicile_tests::eventually::eventually;
use domicile_tests::operator::Operator;
use domicile_tests::player::Player;
use domicile_tests::topology::{Place, THREE_REGIONS};
use domicile_tests::wallet::{KEY_ID, Wallet};
use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SECRET: &[u8] = b"what the wallet and the ledger share";
const FUNDS_MICRO: u64 = 10_000_000;
const STAKE_MICRO: u64 = 1_000_000;
/// How long a router may go on with a revoked token.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
/// More than two answers of the writer hold.
const GREAT_CUT: u64 = 25_000;
/// How long a refund may take.
const REFUNDED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn persons_administer_and_the_log_tells() {
    let places: &[Place] = THREE_REGIONS.get(..2).expect("two regions");
    let cluster = Cluster::start("admin", places);
    let operator = cluster.operator("acme", &["MT"], "MT").await;
    roles(&cluster).await;
    etcd_roles::refuse_what_a_role_may_not_change(&cluster).await;
    let operator = rotation(&cluster, &operator).await;
    revocation(&cluster, &operator).await;
    suspension(&cluster, &operator).await;
    moved_and_told(&cluster).await;
    tampering(&cluster).await;
}

fn json_of(cluster: &Cluster, arguments: &[&str]) -> Value {
    serde_json::from_str(&cluster.cli(arguments)).expect("JSON")
}

/// Runs a command that must be refused for the person's role.
fn lacks_role(cluster: &Cluster, arguments: &[&str], needed: &str) {
    let output = cluster.try_cli(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} went through");
    assert!(said.contains("role-insufficient") && said.contains(needed), "{said}");
}

async fn roles(cluster: &Cluster) {
    for (name, role) in [("vera", "viewer"), ("otto", "operator"), ("dora", "dr-lead")] {
        cluster.cli(&["pki", "person", name, "--role", role]);
    }
    let show = ["operator", "game", "show", "acme", "wheel", "--json"];
    let set = ["operator", "game", "set", "acme", "wheel", "--stake-max", "900", "--reason", "r"];
    let switchover = ["switchover", "--to", "de-1", "--yes"];
    let by = |name: &'static str, words: &[&'static str]| [&["--as", name], words].concat();
    cluster.cli(&by("vera", &show));
    lacks_role(cluster, &by("vera", &set), "operator");
    lacks_role(cluster, &by("vera", &switchover), "dr-lead");
    cluster.cli(&by("otto", &set));
    lacks_role(cluster, &by("otto", &switchover), "dr-lead");
    lacks_role(cluster, &by("otto", &["loss", "claim", "--refund", "--reason", "r"]), "dr-lead");
    cluster.cli(&by(
        "dora",
        &["operator", "game", "set", "acme", "wheel", "--stake-max", "none", "--reason", "r"],
    ));
    let inspect = ["token", "inspector", "--jurisdiction", "MT", "--subject", "mga-17"];
    let inspect = [&inspect[..], &["--minutes", "5", "--reason", "case 9"]].concat();
    lacks_role(cluster, &[&["--as", "otto"], &inspect[..]].concat(), "dr-lead");
    let token = cluster.cli(&[&["--as", "dora"], &inspect[..]].concat());
    assert!(token.starts_with("ey"), "a token");
    let entries = eventually("the token's entry is signed for", REFUNDED_WITHIN, || async {
        let told = json_of(cluster, &["operations", "list", "--json"]);
        let entries = told["entries"].as_array().cloned().unwrap_or_default();
        let last = entries.last().is_some_and(|e| e["entry"]["action"] == "token.inspector");
        if last { Ok(entries) } else { Err(told.to_string()) }
    })
    .await;
    let by_otto = entries.iter().find(|e| e["entry"]["actor"] == "spiffe://admin/operator/otto");
    assert_eq!(by_otto.expect("otto's entry")["entry"]["action"], "game.set");
    let given = &entries.last().expect("the token's entry")["entry"];
    assert_eq!((&given["subject"], &given["reason"]), (&"MT/mga-17".into(), &"case 9".into()));
    assert_eq!(given["actor"], "spiffe://admin/dr-lead/dora");
    assert!(given["after"].as_str().expect("a state").contains("5 minutes"), "{given}");
}

/// Signs all the time, first with the old credential and then with the new one: no request fails.
async fn rotation(cluster: &Cluster, old: &Operator) -> Operator {
    let enough = Arc::new(AtomicBool::new(false));
    let load = |operator: Operator, who: &'static str| {
        let enough = Arc::clone(&enough);
        tokio::spawn(async move {
            let mut sent = 0;
            while !enough.load(Ordering::Acquire) {
                operator.session(&format!("{who}-{sent}"), "MT", "hilo-dice").await;
                sent += 1;
            }
            sent
        })
    };
    let before = load(old.clone(), "before");
    let rotate = [
        "operator",
        "credential",
        "rotate",
        "acme",
        "--overlap-s",
        "600",
        "--reason",
        "leak",
        "--json",
    ];
    let rotated = json_of(cluster, &rotate);
    let new = Operator::new(cluster.outside(), cluster.router("MT"), "acme", &rotated);
    let after = load(new.clone(), "after");
    tokio::time::sleep(Duration::from_secs(3)).await;
    enough.store(true, Ordering::Release);
    assert!(before.await.expect("every request with the old credential") > 0);
    assert!(after.await.expect("every request with the new credential") > 0);

    let listed = json_of(cluster, &["operator", "credential", "list", "acme", "--json"]);
    let keys = listed["credentials"].as_array().expect("credentials");
    let former =
        keys.iter().find(|key| key["key_id"] != rotated["key_id"]).expect("the former one");
    let key = former["key_id"].as_str().expect("a key id");
    cluster.cli(&["operator", "credential", "revoke", key, "--reason", "leak", "--yes"]);
    eventually("the revoked credential is refused", Duration::from_secs(3), || async {
        let body =
            json!({ "player": "p", "game": "wheel", "currency": "EUR", "jurisdiction": "MT" });
        let body = body.to_string();
        let sent = old.send(Method::POST, "/operator/v1/sessions", body.as_bytes());
        let body = sent.await.expect("an answer").into_body();
        let said = String::from_utf8_lossy(&body).into_owned();
        if said.contains("operator-key-unknown") { Ok(()) } else { Err(said) }
    })
    .await;
    new
}

/// A revoked session is refused by both routers without asking anybody, and by the reader itself.
async fn revocation(cluster: &Cluster, operator: &Operator) {
    let opened = operator.session("leaver", "MT", "hilo-dice").await;
    let stays = operator.session("stays", "MT", "hilo-dice").await;
    let id = opened["session"].as_str().expect("a session");
    cluster.cli(&[
        "token",
        "revoke",
        "--operator",
        "acme",
        "--player",
        "leaver",
        "--reason",
        "r",
        "--yes",
    ]);
    let begun = Instant::now();
    for code in ["MT", "DE"] {
        let player = Player::new(cluster.outside(), cluster.router(code), &opened);
        let left = REFUSED_WITHIN.saturating_sub(begun.elapsed());
        eventually(&format!("the router of {code} refuses {id}"), left, || async {
            // Nobody behind the router knows this path: whoever refuses the token here is the router.
            let answer = player.get("/v1/nothing-there").await.expect("an answer");
            if answer.code() == "session-revoked" { Ok(()) } else { Err(answer.json().to_string()) }
        })
        .await;
    }
    let router = certificate_client(cluster, "router-mt/router");
    let reader = Player::new(router, cluster.reader("MT"), &opened);
    let left = REFUSED_WITHIN.saturating_sub(begun.elapsed());
    eventually("the reader refuses it", left, || async {
        let answer = reader.get("/v1/bets").await.expect("an answer");
        if answer.code() == "session-revoked" { Ok(()) } else { Err(answer.json().to_string()) }
    })
    .await;
    great_cut(cluster, operator).await;
    let other = Player::new(cluster.outside(), cluster.router("MT"), &stays);
    other.play(&other.session().await, "k", 1).await;

    cluster.kill("router-mt/router");
    cluster.start_unit("router-mt/router");
    let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
    eventually("a router that was started anew refuses it", REFUNDED_WITHIN, || async {
        let answer = player.get("/v1/nothing-there").await.map_err(|error| error.to_string())?;
        if answer.code() == "session-revoked" { Ok(()) } else { Err(answer.json().to_string()) }
    })
    .await;
}

/// More revocations at once than one answer holds, and one that began before them and commits last: no router stays behind.
async fn great_cut(cluster: &Cluster, operator: &Operator) {
    let opened = operator.session("late", "MT", "hilo-dice").await;
    let id = opened["session"].as_str().expect("a session");
    let late = database::connect(cluster, "ledger-mt").await;
    let insert = "INSERT INTO ledger.session_revocation (jurisdiction, session_id, revoked_at)";
    let one = format!("BEGIN; {insert} VALUES ('MT', '{id}', now() - interval '10 minutes')");
    late.batch_execute(&one).await.expect("a revocation under way");
    let many = format!(
        "{insert} SELECT 'MT', gen_random_uuid(), now() FROM generate_series(1, {GREAT_CUT})"
    );
    let ledger = database::connect(cluster, "ledger-mt").await;
    ledger.execute(&many, &[]).await.expect("a great cut");
    let routers = || cluster.topology().routers.iter();
    for router in routers() {
        eventually(&format!("{} knows the great cut", router.node), REFUSED_WITHIN, || async {
            let url = format!("http://{}/metrics", router.admin);
            let request = http::Request::get(url).body(bytes::Bytes::new()).expect("a request");
            let answer =
                cluster.outside().send(request).await.map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            let line =
                text.lines().find(|line| line.starts_with("domicile_router_revoked_sessions "));
            let known = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            if known.is_some_and(|known| known >= GREAT_CUT) {
                Ok(())
            } else {
                Err(format!("{line:?}"))
            }
        })
        .await;
    }
    late.batch_execute("COMMIT").await.expect("the late commit");
    for code in ["MT", "DE"] {
        let player = Player::new(cluster.outside(), cluster.router(code), &opened);
        eventually(&format!("the router of {code} refuses {id}"), REFUSED_WITHIN, || async {
            let answer = player.get("/v1/nothing-there").await.expect("an answer");
            if answer.code() == "session-revoked" { Ok(()) } else { Err(answer.json().to_string()) }
        })
        .await;
    }
}

fn certificate_client(cluster: &Cluster, unit: &str) -> HttpClient {
    let files = cluster::certificate(&cluster.state().join(format!("nodes/{unit}/tls")));
    HttpClient::new(&ClientTls::load(&files).expect("a certificate"), ClientLimits::default())
}

async fn wallet(cluster: &Cluster) -> Wallet {
    let folder = cluster.state().join("wallet");
    let authority = cluster.state().join("operator/authority").display().to_string();
    let out = folder.display().to_string();
    let name = cluster.topology().cluster.to_string();
    let issue = ["pki", "issue", "--cluster", &name, "--authority", &authority, "--role", "test"];
    let to = ["--node", "wallet", "--host", "127.0.0.1", "--out", &out];
    cluster.cli(&[&issue[..], &to[..]].concat());
    let wallet =
        Wallet::start(&cluster::certificate(&folder), &folder.join("journal"), SECRET).await;
    let key = folder.join("secret");
    std::fs::write(&key, SECRET).expect("write the secret");
    let key = key.display().to_string();
    let set =
        ["wallet", "set", "acme", "--url", &wallet.url, "--key-id", KEY_ID, "--key-file", &key];
    cluster.cli(&[&set[..], &["--duplicate", "conflict", "--reason", "its first"]].concat());
    wallet
}

/// A round with a bet is voided by the suspension, and the wallet has its stake back.
async fn suspension(cluster: &Cluster, operator: &Operator) {
    let wallet = wallet(cluster).await;
    wallet.store().fund("better", FUNDS_MICRO);
    let opened = operator.session("better", "MT", "hilo-dice").await;
    let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
    let session = player.session().await;
    let round = operator.open_round("hilo-dice", &["MT"]).await;
    let id = round["round"].as_str().expect("a round");
    let mut bet = Player::play_body(&session, "high", STAKE_MICRO, 5);
    bet["commitment"] = round["commitment"].clone();
    bet["checkpoint_size"] = Value::Null;
    let placed = player.post(&format!("/v1/rounds/{id}/bets"), "b", &bet).await.expect("an answer");
    assert!(placed.status.is_success(), "{}", placed.json());
    assert_eq!(wallet.store().balance("better"), i128::from(FUNDS_MICRO - STAKE_MICRO));

    let game = ["acme", "hilo-dice", "--reason", "incident 7", "--yes", "--json"];
    let suspend = [&["operator", "game", "suspend"], &game[..]].concat();
    let told = json_of(cluster, &suspend);
    assert_eq!(told["changed"], true, "{told}");
    json_of(cluster, &suspend);
    eventually("the wallet has the stake back", REFUNDED_WITHIN, || async {
        let balance = wallet.store().balance("better");
        if balance == i128::from(FUNDS_MICRO) { Ok(()) } else { Err(balance.to_string()) }
    })
    .await;
    assert_eq!(wallet.store().violations(), Vec::<String>::new());
    let body = Player::play_body(&session, "high", STAKE_MICRO, 6);
    let refused = player.post("/v1/plays", "p", &body).await.expect("an answer");
    assert_eq!(refused.code(), "game-suspended", "{}", refused.json());
    cluster.cli(&[&["operator", "game", "resume"], &game[..]].concat());
    eventually("the game is offered again", Duration::from_secs(3), || async {
        let answer = player.post("/v1/plays", "p2", &body).await.expect("an answer");
        if answer.status.is_success() { Ok(()) } else { Err(answer.json().to_string()) }
    })
    .await;
}

/// The log goes on across a move of the writer, and tells of it.
async fn moved_and_told(cluster: &Cluster) {
    cluster.cli(&["operations", "verify"]);
    let reason = "the link is cut";
    cluster.cli(&["--as", "dora", "degrade", "--reason", reason, "--yes"]);
    cluster.cli(&["--as", "dora", "restore-durability", "--yes"]);
    cluster.cli(&["--as", "dora", "switchover", "--to", "de-1", "--yes"]);
    let moved = eventually("the plans are signed for", REFUNDED_WITHIN, || async {
        let told = json_of(cluster, &["operations", "list", "--about", "plan.end", "--json"]);
        match told["entries"].as_array().map(Vec::as_slice) {
            Some([degraded, _restored, moved]) if degraded["entry"]["reason"] == reason => {
                Ok(moved["entry"].clone())
            }
            _ => Err(told.to_string()),
        }
    })
    .await;
    assert_eq!(moved["actor"], "spiffe://admin/dr-lead/dora");
    let statement = json_of(cluster, &["loss-statement", "--json"]);
    assert_eq!((&statement["epoch"], &statement["doubtful_epochs"]), (&2.into(), &json!([])));
    let after = moved["after"].as_str().expect("a state");
    assert!(after.contains("completed") && after.contains("dr-lead/dora ("), "{moved}");
    let audit = std::fs::read_to_string(cluster.state().join("operator/plans.jsonl"));
    assert!(audit.expect("the audit file").contains(r#""by":"dr-lead/dora ("#));
    let id = moved["id"].as_str().expect("an id");
    cluster.cli(&["operations", "show", id]);
    let verified = json_of(cluster, &["operations", "verify", "--json"]);
    assert_eq!(verified["verified"], true, "{verified}");
}

/// A row that a database administrator changes is found, and so is a log that was cut.
async fn tampering(cluster: &Cluster) {
    let ledger = database::connect(cluster, "ledger-de").await;
    let forge = "UPDATE log.leaf SET entry = convert_to(replace(convert_from(entry, 'UTF8'), 'otto', 'vera'), 'UTF8') \
         WHERE jurisdiction = 'XO' AND position('otto'::bytea IN entry) > 0";
    let changed = ledger.execute(forge, &[]).await.expect("change a row");
    assert!(changed > 0);
    let output = cluster.try_cli(&["operations", "verify", "--json"]);
    assert!(!output.status.success(), "a changed row went unseen");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["verified"], false);
    assert!(said["fault"].as_str().expect("a fault").contains("a row was changed"), "{said}");
}
