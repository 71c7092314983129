//! What protects sessions: limits of play that two requests at once cannot pass, and a captcha before a session is opened.

use crate::bench::{Answer, Bench, j};
use crate::callers::{Operator, Player};
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::post;
use domicile_core::claims::PlayerSession;
use domicile_core::ids::{GameCode, OperatorId, PlayerRef, RoundId, SessionId};
use domicile_core::money::Currency;
use domicile_service::drain::{Drain, DrainLimits};
use domicile_service::listener::{Listener, ListenerLimits};
use domicile_service::peer::Role;
use domicile_service::tls::{ClientAuth, ServerTls};
use domicile_writer::engine::Engine;
use domicile_writer::ledger::requests::RequestId;
use domicile_writer::order::Order;
use domicile_writer::player::Player as Caller;
use domicile_writer::{bet, play};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const STAKE: u64 = 1_000_000;

async fn limited(bench: &Bench, operator: &Operator, limits: &Value) -> (Player, Value) {
    let body = json!({
        "player": "p1", "game": "hilo-dice", "currency": "EUR", "jurisdiction": "MT", "limits": limits,
    });
    let answer = operator.send(bench, "POST", "/operator/v1/sessions", &body).await.expect(201);
    let player = Player {
        session: answer["session"].as_str().unwrap().to_owned(),
        token: answer["token"].as_str().unwrap().to_owned(),
    };
    let view = player.get(bench).await.expect(200);
    (player, view)
}

/// A bet on an open round: its payout is nothing yet, so all of its stake counts as lost.
fn on_round(commitment: &str, stake_micro: u64) -> Value {
    json!({
        "stake_micro": stake_micro, "selection": "low", "client_seed": "cd".repeat(32), "commitment": commitment,
    })
}

#[tokio::test]
async fn stake_and_time_are_limited_and_shown() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let limits = json!({ "stake_micro": STAKE, "time_s": 100, "loss_micro": 50 * STAKE });
    let (player, view) = limited(&bench, &operator, &limits).await;
    assert_eq!(view["limits"]["stake_micro"], STAKE);
    assert_eq!(view["limits"]["lost_micro"], 0);
    assert!(view["limits"]["play_until_unix_s"].is_u64());
    let dear = player.post(&bench, "/v1/plays", "dear", &Player::order(&view, STAKE + 1)).await;
    assert_eq!((dear.status, dear.code()), (403, "stake-limit".into()));
    let order = Player::order(&view, STAKE);
    let answer = player.post(&bench, "/v1/plays", "k", &order).await.expect(201);
    let lost = i64::try_from(STAKE).unwrap() - answer["payout_micro"].as_i64().unwrap();
    assert_eq!(player.get(&bench).await.expect(200)["limits"]["lost_micro"], lost);
    bench.clock.advance(Duration::from_secs(100));
    let late = player.post(&bench, "/v1/plays", "late", &order).await;
    assert_eq!((late.status, late.code()), (403, "time-limit".into()));
    let again = player.post(&bench, "/v1/plays", "k", &order).await;
    assert!(again.replayed, "what was answered before is answered again");
    let malformed = json!({
        "player": "p1", "game": "hilo-dice", "currency": "EUR", "jurisdiction": "MT", "limits": { "loss_micro": 0 },
    });
    let refused = operator.send(&bench, "POST", "/operator/v1/sessions", &malformed).await;
    assert_eq!(refused.code(), "malformed-body");
    let unlimited = operator.session(&bench, "p2", "MT", "hilo-dice").await;
    assert!(unlimited.get(&bench).await.expect(200).get("limits").is_none());
}

#[tokio::test]
async fn a_loss_limit_counts_plays_and_open_bets_and_gives_room_again() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let (player, _) = limited(&bench, &operator, &json!({ "loss_micro": 2 * STAKE })).await;
    let (round, commitment) = operator.round(&bench, "r", &["MT"]).await;
    let path = format!("/v1/rounds/{round}/bets");
    for n in 0..2 {
        let order = on_round(&commitment, STAKE);
        player.post(&bench, &path, &format!("b{n}"), &order).await.expect(201);
    }
    let refused = player.post(&bench, &path, "b2", &on_round(&commitment, 1)).await;
    assert_eq!((refused.status, refused.code()), (403, "loss-limit".into()));
    operator.end(&bench, &round, "void", "void").await.expect(200);
    let view = player.get(&bench).await.expect(200);
    assert_eq!(view["limits"]["lost_micro"], 0, "a voided round's stakes are not lost");
    player.post(&bench, "/v1/plays", "p", &Player::order(&view, STAKE)).await.expect(201);
}

fn caller(player: &Player) -> Caller {
    let session = PlayerSession {
        operator: OperatorId::parse("acme").unwrap(),
        player: PlayerRef::parse("p1").unwrap(),
        session: SessionId::parse(&player.session).unwrap(),
        game: GameCode::parse("hilo-dice").unwrap(),
        currency: Currency::parse("EUR").unwrap(),
    };
    Caller { jurisdiction: j("MT"), session }
}

/// A bet at one of several writers, until it is decided.
async fn decided(engine: Arc<Engine>, caller: Caller, round: RoundId, n: u64, body: String) -> u16 {
    let path = format!("/v1/rounds/{round}/bets");
    for _ in 0..100 {
        let key = format!("k{n}");
        let request = RequestId::new(caller.request_scope(), key, "POST", &path, body.as_bytes());
        let order = Order::parse(body.as_bytes()).unwrap();
        let response = match bet::bet(&engine, &caller, request, round, order).await {
            Ok(acknowledged) => acknowledged.into_response(),
            Err(failure) => failure.into_response(),
        };
        if response.status().as_u16() < 500 {
            return response.status().as_u16();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("bet {n} is not decided");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_at_once_cannot_pass_a_loss_limit() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let (player, _) = limited(&bench, &operator, &json!({ "loss_micro": 5 * STAKE })).await;
    let (round, commitment) = operator.round(&bench, "r", &["MT"]).await;
    let round = RoundId::parse(&round).unwrap();
    let engines = [Arc::clone(&bench.engine), bench.next_engine()];
    let body = on_round(&commitment, STAKE).to_string();
    let mut bets = tokio::task::JoinSet::new();
    for n in 0..24_u64 {
        let engine = Arc::clone(&engines[usize::try_from(n % 2).unwrap()]);
        bets.spawn(decided(engine, caller(&player), round, n, body.clone()));
    }
    let mut answers = BTreeMap::<u16, u32>::new();
    while let Some(status) = bets.join_next().await {
        *answers.entry(status.unwrap()).or_default() += 1;
    }
    assert_eq!(answers, BTreeMap::from([(201, 5), (403, 19)]));
    let staked = "SELECT coalesce(sum(stake_micro), 0)::bigint FROM ledger.bet";
    assert_eq!(bench.count(staked).await, i64::try_from(5 * STAKE).unwrap());
    // The door of plays is the same one.
    let view = player.get(&bench).await.expect(200);
    let order = Order::parse(Player::order(&view, 1).to_string().as_bytes()).unwrap();
    let request =
        RequestId::new(caller(&player).request_scope(), "p".into(), "POST", "/v1/plays", b"");
    let refused = play::play(&bench.engine, &caller(&player), request, order).await.unwrap();
    assert_eq!(refused.into_response().status().as_u16(), 403);
}

/// What a siteverify address was asked, and what it says.
#[derive(Default)]
struct Site {
    forms: Mutex<Vec<String>>,
    says: Mutex<String>,
}

async fn site(bench: &Bench, site: &Arc<Site>) -> (String, Drain) {
    let files = bench.ca.issue_with("captcha", Vec::new());
    let tls = ServerTls::load(&files, ClientAuth::None).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(any, Some(tls), ListenerLimits::default()).await.unwrap();
    let url = format!("https://127.0.0.1:{}/siteverify", listener.local_addr().port());
    let answer = |State(site): State<Arc<Site>>, form: String| async move {
        site.forms.lock().unwrap().push(form);
        let says = site.says.lock().unwrap().clone();
        if says.is_empty() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        says
    };
    let app = Router::new().route("/siteverify", post(answer)).with_state(Arc::clone(site));
    let drain = Drain::new(DrainLimits::default());
    let draining = drain.clone();
    tokio::spawn(async move { listener.serve_app(app, &draining).await });
    (url, drain)
}

async fn open(bench: &Bench, operator: &Operator, id: &str, response: Option<&str>) -> Answer {
    let mut body = json!({
        "request_id": id, "player": "p1", "game": "hilo-dice", "currency": "EUR", "jurisdiction": "MT",
    });
    if let Some(response) = response {
        body["captcha"] = json!({ "response": response, "remote_ip": "192.0.2.1" });
    }
    operator.send(bench, "POST", "/operator/v1/sessions", &body).await
}

async fn set(bench: &Bench, path: &str, body: &Value) -> Answer {
    let path = format!("/internal/v1/operators/acme/captcha{path}");
    bench.send(Role::Ctl, "POST", &path, &[], body.to_string().as_bytes()).await
}

#[tokio::test]
async fn an_operator_that_wants_a_captcha_gets_no_session_without_a_right_answer() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    open(&bench, &operator, "before", None).await.expect(201);
    let asked = Arc::<Site>::default();
    let (url, _drain) = site(&bench, &asked).await;
    let says = |text: &str| text.clone_into(&mut asked.says.lock().unwrap());
    let captcha =
        json!({ "secret": "s3cret&", "siteverify_url": url, "timeout_ms": 500, "reason": "r" });
    set(&bench, "", &captcha).await.expect(200);
    assert_eq!(open(&bench, &operator, "none", None).await.code(), "captcha-refused");
    assert!(asked.forms.lock().unwrap().is_empty(), "without an answer nobody is asked");
    says(r#"{"success":true,"hostname":"play.example"}"#);
    open(&bench, &operator, "right", Some("t k")).await.expect(201);
    let form = asked.forms.lock().unwrap()[0].clone();
    assert!(form.starts_with("secret=s3cret%26&response=t%20k&remoteip=192.0.2.1&"), "{form}");
    assert!(open(&bench, &operator, "right", Some("t k")).await.replayed);
    assert_eq!(asked.forms.lock().unwrap().len(), 1, "a repetition asks nobody");
    says(r#"{"success":false,"error-codes":["timeout-or-duplicate"]}"#);
    let wrong = open(&bench, &operator, "wrong", Some("t")).await;
    assert_eq!((wrong.status, wrong.code()), (403, "captcha-refused".into()));
    // Nobody can tell: refused, unless the operator chose otherwise.
    says("");
    let begun = std::time::Instant::now();
    let silent = open(&bench, &operator, "silent", Some("t")).await;
    assert_eq!((silent.status, silent.code()), (503, "captcha-unavailable".into()));
    assert!(begun.elapsed() < Duration::from_secs(3), "the wait is bounded");
    let mut open_when_away = captcha.clone();
    open_when_away["admit_when_unavailable"] = true.into();
    set(&bench, "", &open_when_away).await.expect(200);
    open(&bench, &operator, "silent", Some("t")).await.expect(201);
    says(r#"{"success":false}"#);
    assert_eq!(open(&bench, &operator, "no", Some("t")).await.status, 403, "a no is a no");
    set(&bench, "/off", &json!({ "reason": "r" })).await.expect(200);
    open(&bench, &operator, "after", None).await.expect(201);
    let sealed =
        "SELECT count(*) FROM ledger.captcha WHERE position('s3cret'::bytea IN secret_sealed) > 0";
    assert_eq!(bench.count(sealed).await, 0, "the secret is stored sealed");
}
