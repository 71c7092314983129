//! What persons administer, in which role, and what the operations log says of it.

use crate::bench::{Answer, Bench};
use crate::callers::{Operator, Player};
use domicile_core::checkpoint::Checkpoint;
use domicile_core::log::frontier::Frontier;
use domicile_core::log::leaf_hash;
use domicile_core::log::proof::{verify_consistency, verify_inclusion};
use domicile_core::operation::Operation;
use domicile_service::peer::Role;
use domicile_writer::admin::suspension;
use serde_json::{Value, json};
use std::time::Duration;

/// One request by a person.
async fn by(bench: &Bench, role: Role, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    bench.send_as((role, "anna"), method, path, &[], body.as_bytes()).await
}

async fn post(bench: &Bench, path: &str, body: Value) -> Answer {
    by(bench, Role::Operator, "POST", path, &body).await
}

/// The log's entries and checkpoint once it holds this many.
async fn entries(bench: &Bench, count: usize) -> (Vec<String>, Checkpoint) {
    let path = "/internal/v1/operations/entries";
    for _ in 0..500 {
        let page = json!({ "from": 0, "limit": 500 });
        let answer = by(bench, Role::Viewer, "POST", path, &page).await;
        if answer.status == 200 && answer.json()["entries"].as_array().unwrap().len() >= count {
            let answer = answer.json();
            let note = answer["checkpoint"].as_str().unwrap();
            let checkpoint = Checkpoint::open(note, &bench.keys).unwrap();
            let text = |entry: &Value| entry["entry"].as_str().unwrap().to_owned();
            return (answer["entries"].as_array().unwrap().iter().map(text).collect(), checkpoint);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the operations log does not come to {count} entries");
}

#[tokio::test]
async fn each_role_may_do_what_it_may_and_is_told_what_it_lacks() {
    let bench = Bench::new().await;
    bench.operator("acme").await;
    let game = "/internal/v1/operators/acme/games/hilo-dice";
    let record = json!({ "kind": "plan", "id": "p", "verb": "switchover", "outcome": "done",
        "actor": "anna", "sha256": "ab".repeat(32), "reason": "r" });
    let cases = [
        ("GET", "/internal/v1/operators", json!(null), 0),
        ("GET", game, json!(null), 0),
        ("POST", game, json!({ "enabled": true, "reason": "r" }), 1),
        ("POST", "/internal/v1/sessions/revoke", json!({ "operator": "acme", "reason": "r" }), 1),
        ("POST", "/internal/v1/operations", record, 2),
    ];
    let roles = [Role::Viewer, Role::Operator, Role::DrLead];
    for (method, path, body, needed) in cases {
        for (has, role) in roles.into_iter().enumerate() {
            let answer = by(&bench, role, method, path, &body).await;
            if has >= needed {
                assert!((200..300).contains(&answer.status), "{path}: {}", answer.json());
            } else {
                assert_eq!((answer.status, answer.code()), (403, "role-insufficient".into()));
                let detail = answer.json()["detail"].as_str().unwrap().to_owned();
                assert!(detail.contains(roles[needed].as_str()), "{detail}");
            }
        }
        for part in [Role::Router, Role::Agent, Role::Reader, Role::Test] {
            let answer = by(&bench, part, method, path, &body).await;
            if part == Role::Agent && path == "/internal/v1/operations" {
                answer.expect(201);
            } else {
                assert_eq!(answer.code(), "peer-forbidden", "{path} by {part:?}");
            }
        }
        assert!(by(&bench, Role::Ctl, method, path, &body).await.status < 300, "a machine's own");
    }
}

/// The operations log says why of everything.
#[tokio::test]
async fn a_change_without_a_reason_is_refused() {
    let bench = Bench::new().await;
    bench.operator("acme").await;
    let sha256 = "ab".repeat(32);
    let cases = [
        (
            "",
            json!({ "id": "b", "name": "b", "jurisdictions": ["MT"], "games": ["wheel"],
            "allowed_origins": [], "launch_base_url": "https://b.example" }),
        ),
        ("/acme", json!({ "enabled": false })),
        ("/acme/credentials", json!(null)),
        ("/acme/credentials/rotate", json!({ "overlap_s": 10 })),
        ("/../credentials/any/revoke", json!({})),
        ("/acme/games/wheel", json!({ "enabled": true })),
        ("/acme/games/wheel/suspend", json!({})),
        (
            "/acme/schedules",
            json!({ "game": "wheel", "currency": "EUR", "jurisdictions": ["MT"],
            "betting_ms": 1_000, "pause_ms": 0 }),
        ),
        (
            "/acme/wallet",
            json!({ "base_url": "https://wallet.example", "signing": "hmac-sha256",
            "key_id": "k", "key_b64": "AAAAAAAAAAAAAAAAAAAAAA==", "duplicate": "done" }),
        ),
        ("/acme/captcha", json!({ "secret": "s" })),
        ("/acme/captcha/off", json!({})),
        ("/../sessions/revoke", json!({ "operator": "acme" })),
        ("/../losses/claim", json!({ "receipt": "r" })),
        (
            "/../operations",
            json!({ "kind": "plan", "id": "p", "verb": "switchover", "outcome": "done",
            "actor": "anna", "sha256": sha256 }),
        ),
    ];
    for (path, body) in cases {
        let path = match path.strip_prefix("/..") {
            Some(path) => format!("/internal/v1{path}"),
            None => format!("/internal/v1/operators{path}"),
        };
        let answer = by(&bench, Role::DrLead, "POST", &path, &body).await;
        assert_eq!((answer.status, answer.code()), (400, "malformed-body".into()), "{path}");
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains("missing field `reason`"), "{path}: {detail}");
    }
    assert_eq!(bench.count("SELECT count(*) FROM ledger.operator").await, 1);
}

/// A refund is for good, and only a dr-lead is shown what may forbid it.
#[tokio::test]
async fn receipts_are_claimed_by_those_who_may_see_what_nodes_have_kept() {
    let bench = Bench::new().await;
    let body = json!({ "receipt": "none", "kept": null, "refund": true, "reason": "r" });
    for (role, code) in [(Role::Operator, "role-insufficient"), (Role::DrLead, "receipt-invalid")] {
        let answer = by(&bench, role, "POST", "/internal/v1/losses/claim", &body).await;
        assert_eq!(answer.code(), code, "{role:?}: {}", answer.json());
    }
}

#[tokio::test]
async fn terms_hold_at_once_and_what_began_keeps_its_parameters() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    let view = player.get(&bench).await.expect(200);
    let order = Player::order(&view, 1_000);
    player.post(&bench, "/v1/plays", "k0", &order).await.expect(201);
    let path = "/internal/v1/operators/acme/games/hilo-dice";
    let terms =
        json!({ "commission_ppm": 50_000, "stake_max_micro": 500, "reason": "new licence" });
    let set = post(&bench, path, terms).await.expect(200);
    assert_eq!((&set["terms"]["revision"], &set["changed"]), (&json!(1), &json!(true)));
    bench.clock.advance(Duration::from_secs(1));

    let refused = player.post(&bench, "/v1/plays", "k1", &order).await;
    assert_eq!((refused.status, refused.code()), (422, "game-limit".into()));
    assert!(player.post(&bench, "/v1/plays", "k0", &order).await.replayed, "what was done stays");
    player.post(&bench, "/v1/plays", "k2", &Player::order(&view, 500)).await.expect(201);
    let same = player.get(&bench).await.expect(200);
    assert_eq!(same["params"], view["params"], "a session keeps what its chain committed to");
    let later = operator.session(&bench, "p2", "MT", "hilo-dice").await;
    let later = later.get(&bench).await.expect(200);
    assert_eq!(later["params"], "low_weight=48,high_weight=48,commission_ppm=50000");

    let back = json!({ "stake_max_micro": null, "reason": "mistake" });
    post(&bench, path, back).await.expect(200);
    bench.clock.advance(Duration::from_secs(1));
    player.post(&bench, "/v1/plays", "k3", &order).await.expect(201);
    let shown = by(&bench, Role::Viewer, "GET", path, &json!(null)).await.expect(200);
    assert_eq!(shown["revisions"].as_array().unwrap().len(), 2);
    assert_eq!(shown["revisions"][1]["actor"], "spiffe://demo/operator/anna");
    assert_eq!(shown["revisions"][1]["reason"], "new licence");
    let absurd = json!({ "params": "low_weight=0", "reason": "r" });
    assert_eq!(post(&bench, path, absurd).await.code(), "game-parameters");
}

async fn bet(bench: &Bench, operator: &Operator, round: &str, commitment: &str) -> Player {
    let player = operator.session(bench, "p1", "MT", "hilo-dice").await;
    let order = json!({ "stake_micro": 7_000, "selection": "high", "client_seed": "ab".repeat(32),
        "commitment": commitment });
    player.post(bench, &format!("/v1/rounds/{round}/bets"), "k", &order).await.expect(201);
    player
}

#[tokio::test]
async fn a_suspension_voids_what_is_in_flight_and_takes_nothing_new() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let (round, commitment) = operator.round(&bench, "r1", &["MT", "DE"]).await;
    let player = bet(&bench, &operator, &round, &commitment).await;
    let path = "/internal/v1/operators/acme/games/hilo-dice";
    let why = json!({ "reason": "incident 7" });
    let answer = post(&bench, &format!("{path}/suspend"), why.clone()).await.expect(200);
    assert_eq!((&answer["rounds_voided"], &answer["rounds_left"]), (&json!(1), &json!(0)));
    let voided = "SELECT count(*) FROM ledger.bet WHERE payout_micro = stake_micro";
    assert_eq!(bench.count(voided).await, 1, "the stake goes back");
    bench.clock.advance(Duration::from_secs(1));
    let again = post(&bench, &format!("{path}/suspend"), why.clone()).await.expect(200);
    assert_eq!((&again["changed"], &again["rounds_voided"]), (&json!(false), &json!(0)));
    assert_eq!(suspension::sweep(&bench.engine).await.unwrap().voided, 0);

    let view = player.get(&bench).await.expect(200);
    let play = player.post(&bench, "/v1/plays", "k9", &Player::order(&view, 1_000)).await;
    assert_eq!((play.status, play.code()), (409, "game-suspended".into()));
    let open = json!({ "request_id": "r2", "game": "hilo-dice", "currency": "EUR", "jurisdictions": ["MT"] });
    let refused = operator.send(&bench, "POST", "/operator/v1/rounds", &open).await;
    assert_eq!(refused.code(), "game-suspended");
    post(&bench, &format!("{path}/resume"), why).await.expect(200);
    bench.clock.advance(Duration::from_secs(1));
    operator.send(&bench, "POST", "/operator/v1/rounds", &open).await.expect(201);
    player.post(&bench, "/v1/plays", "k10", &Player::order(&view, 1_000)).await.expect(201);
}

#[tokio::test]
async fn a_rotated_credential_overlaps_and_a_revoked_one_is_refused() {
    let bench = Bench::new().await;
    let old = bench.operator("acme").await;
    let works = async |operator: &Operator| {
        bench.clock.advance(Duration::from_secs(1));
        let body =
            json!({ "player": "p", "game": "wheel", "currency": "EUR", "jurisdiction": "MT" });
        operator.send(&bench, "POST", "/operator/v1/sessions", &body).await.status == 201
    };
    bench.clock.advance(Duration::from_secs(1));
    let path = "/internal/v1/operators/acme/credentials/rotate";
    let rotated = post(&bench, path, json!({ "overlap_s": 10, "reason": "leak" })).await;
    let new = Operator::from_answer(&rotated.expect(201));
    assert!(works(&old).await && works(&new).await, "both are good meanwhile");
    bench.clock.advance(Duration::from_secs(10));
    assert!(!works(&old).await && works(&new).await, "the former one has ended");
    let revoke = format!("/internal/v1/credentials/{}/revoke", new.key_id);
    post(&bench, &revoke, json!({ "reason": "leak" })).await.expect(200);
    assert!(!works(&new).await);
    let shown = by(&bench, Role::Viewer, "GET", "/internal/v1/operators/acme", &json!(null)).await;
    let shown = shown.expect(200);
    assert_eq!(shown["credentials"].as_array().unwrap().len(), 2);
    assert!(!shown.to_string().contains("secret"));
}

#[tokio::test]
async fn a_disabled_operator_is_refused_and_its_players_can_be_sent_away() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let (one, two) = (
        operator.session(&bench, "p1", "MT", "wheel").await,
        operator.session(&bench, "p2", "DE", "wheel").await,
    );
    let off = json!({ "enabled": false, "reason": "licence withdrawn" });
    post(&bench, "/internal/v1/operators/acme", off).await.expect(200);
    bench.clock.advance(Duration::from_secs(1));
    let body = json!({ "player": "p", "game": "wheel", "currency": "EUR", "jurisdiction": "MT" });
    let refused = operator.send(&bench, "POST", "/operator/v1/sessions", &body).await;
    assert_eq!(refused.code(), "operator-forbidden");

    let path = "/internal/v1/sessions/revoke";
    let player = json!({ "operator": "acme", "player": "p1", "reason": "r" });
    assert_eq!(post(&bench, path, player.clone()).await.expect(200)["sessions_revoked"], 1);
    assert_eq!(post(&bench, path, player).await.expect(200)["sessions_revoked"], 0);
    assert_eq!(one.get(&bench).await.code(), "session-revoked");
    two.get(&bench).await.expect(200);
    let all = json!({ "operator": "acme", "reason": "r" });
    assert_eq!(post(&bench, path, all).await.expect(200)["sessions_revoked"], 1);
    assert_eq!(two.get(&bench).await.code(), "session-revoked");
    let vague = json!({ "player": "p1", "reason": "r" });
    assert_eq!(post(&bench, path, vague).await.code(), "malformed-body");

    let feed = by(&bench, Role::Router, "GET", "/feed/v1/revocations", &json!(null)).await;
    let feed = feed.expect(200);
    let told: Vec<_> = feed["revoked"].as_array().unwrap().iter().map(|r| &r["session"]).collect();
    assert_eq!(told.len(), 2);
    assert!(told.contains(&&json!(one.session)) && told.contains(&&json!(two.session)));
    let person = by(&bench, Role::DrLead, "GET", "/feed/v1/revocations", &json!(null)).await;
    assert_eq!(person.code(), "peer-forbidden");
}

#[tokio::test]
async fn every_change_is_in_the_log_and_a_changed_row_is_found() {
    let bench = Bench::new().await;
    bench.operator("acme").await;
    let (_, first) = entries(&bench, 2).await;
    let path = "/internal/v1/operators/acme/games/wheel/suspend";
    post(&bench, path, json!({ "reason": "Prüfung" })).await.expect(200);
    let record = json!({ "kind": "drill", "id": "d1", "verb": "round-trip", "outcome": "met",
        "actor": "anna", "sha256": "cd".repeat(32), "reason": "r" });
    for _ in 0..2 {
        by(&bench, Role::DrLead, "POST", "/internal/v1/operations", &record).await.expect(201);
    }
    // An agent and the command that ran the plan: whoever comes first.
    for (role, sha256) in [(Role::Agent, "ab"), (Role::DrLead, "cd"), (Role::Agent, "ab")] {
        let record = json!({ "kind": "plan", "id": "auto-failover-2-0a", "verb": "failover",
            "outcome": "completed", "actor": "agent ledger-de", "sha256": sha256.repeat(32),
            "reason": "r" });
        by(&bench, role, "POST", "/internal/v1/operations", &record).await.expect(201);
    }
    let (texts, checkpoint) = entries(&bench, 5).await;
    assert_eq!(checkpoint.origin.to_string(), "demo/operations/1");
    let told: Vec<_> = texts.iter().map(|text| Operation::parse(text).unwrap()).collect();
    let actions: Vec<_> = told.iter().map(|told| told.action.as_str()).collect();
    let expected =
        ["operator.create", "credential.create", "game.suspend", "drill.end", "plan.end"];
    assert_eq!(actions, expected);
    assert_eq!(told[4].actor.as_str(), "spiffe://demo/agent/anna");
    assert_eq!(told[4].role.as_str(), "agent");
    assert!(told[4].after.as_str().contains("agent ledger-de"));
    let suspended = &told[2];
    assert_eq!(suspended.actor.as_str(), "spiffe://demo/operator/anna");
    assert_eq!(suspended.reason.as_str(), "Pr\\u00fcfung");
    assert!(suspended.after.as_str().contains(r#""suspended":true"#));
    assert!(texts.iter().all(|text| !text.contains("secret")));

    let root = |texts: &[String]| {
        let mut tree = Frontier::new();
        for text in texts {
            tree.push(leaf_hash(text.as_bytes()));
        }
        tree.root()
    };
    assert_eq!(root(&texts), checkpoint.root);
    let ask = json!({ "id": suspended.id, "from_size": first.size });
    let proof = by(&bench, Role::Viewer, "POST", "/internal/v1/operations/proof", &ask).await;
    let proof = proof.expect(200);
    let hashes = |name: &str| -> Vec<[u8; 32]> {
        let hex = |hash: &Value| domicile_core::hex::decode_32(hash.as_str().unwrap()).unwrap();
        proof[name].as_array().unwrap().iter().map(hex).collect()
    };
    let leaf = leaf_hash(texts[2].as_bytes());
    verify_inclusion(2, checkpoint.size, &leaf, &hashes("inclusion"), &checkpoint.root).unwrap();
    let path = hashes("consistency");
    verify_consistency(first.size, checkpoint.size, &first.root, &checkpoint.root, &path).unwrap();

    let forge = "UPDATE log.leaf SET entry = convert_to(replace(convert_from(entry, 'UTF8'), 'anna', 'otto'), 'UTF8') \
         WHERE jurisdiction = 'XO' AND idx = 2";
    bench.admin.batch_execute(forge).await.unwrap();
    let (forged, _) = entries(&bench, 5).await;
    assert_ne!(root(&forged), checkpoint.root, "who reads the log sees the forgery");
}
