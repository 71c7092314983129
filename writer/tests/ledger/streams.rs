//! Players watch timed rounds: in order, once, wherever they go on, and only those of their jurisdiction.

use crate::bench::Bench;
use crate::callers::{Operator, Player};
use crate::floor::{WINDOW_MS, bet, schedule};
use axum::body::Body;
use domicile_core::hex;
use domicile_core::seed::Seed;
use domicile_service::peer::Role;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

const WITHIN: Duration = Duration::from_secs(20);

/// One event as a client reads it.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: Option<u64>,
    name: String,
    data: Value,
}

struct Stream {
    body: Body,
    buffer: String,
}

impl Stream {
    async fn open(bench: &Bench, player: &Player, after: Option<u64>) -> Self {
        let (bearer, after) = (format!("Bearer {}", player.token), after.map(|id| id.to_string()));
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(after.as_deref().map(|after| ("last-event-id", after)));
        let path = "/v1/rounds/stream?game=hilo-dice&currency=EUR";
        let answer = bench.open((Role::Router, "peer-1"), "GET", path, &headers, b"").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { body: answer.into_body(), buffer: String::new() }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((text, rest)) = self.buffer.split_once("\n\n") {
                let (text, rest) = (text.to_owned(), rest.to_owned());
                self.buffer = rest;
                let field = |name: &str| {
                    let line = text.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|value| value.trim_start_matches(": ").to_owned())
                };
                let Some(name) = field("event") else { continue };
                let data = serde_json::from_str(&field("data").unwrap()).unwrap();
                return Some(Event { id: field("id").map(|id| id.parse().unwrap()), name, data });
            }
            let frame = tokio::time::timeout(WITHIN, self.body.frame()).await.expect("an event");
            let data = frame?.unwrap().into_data().unwrap();
            self.buffer.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    async fn until(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.name == name {
                return event;
            }
        }
    }
}

async fn scene() -> (Bench, Operator, Player) {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "MT", "hilo-dice").await;
    bench.feed(&bench.engine);
    (bench, operator, player)
}

fn round_of(event: &Event) -> Uuid {
    Uuid::parse_str(event.data["round"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_player_sees_each_round_open_close_and_settle() {
    let (bench, _operator, player) = scene().await;
    let mut stream = Stream::open(&bench, &player, None).await;
    schedule(&bench, "hilo-dice", WINDOW_MS, true).await;
    let engines = bench.floor(&bench.engine);
    let opened = stream.next().await.unwrap();
    assert_eq!(opened.name, "round-opened");
    let commitment = opened.data["commitment"].as_str().unwrap().to_owned();
    assert!(opened.data["closes_in_ms"].as_i64().unwrap() <= WINDOW_MS);
    let body = json!({
        "stake_micro": 1_000_000, "selection": "high", "client_seed": "cd".repeat(32),
        "commitment": commitment, "checkpoint_size": opened.data["checkpoint_size"],
    });
    let path = format!("/v1/rounds/{}/bets", round_of(&opened));
    player.post(&bench, &path, "k", &body).await.expect(201);
    let (closed, settled) = (stream.next().await.unwrap(), stream.next().await.unwrap());
    assert_eq!((closed.name.as_str(), settled.name.as_str()), ("round-closed", "round-settled"));
    assert_eq!((round_of(&closed), round_of(&settled)), (round_of(&opened), round_of(&opened)));
    assert!(closed.data["seed"].is_null());
    let seed = Seed::from_hex(settled.data["seed"].as_str().unwrap()).unwrap();
    assert_eq!(hex::encode(&seed.commitment()), commitment);
    assert!(settled.data["outcome"].is_string());
    assert!(opened.id < closed.id && closed.id < settled.id);

    // Anywhere else the stream goes on with what comes next.
    let mut again = Stream::open(&bench, &player, opened.id).await;
    assert_eq!(again.next().await.unwrap(), closed);
    assert_eq!(again.next().await.unwrap(), settled);
    let next = again.next().await.unwrap();
    assert_eq!((next.name.as_str(), next.id > settled.id), ("round-opened", true));
    engines.leave(Duration::ZERO).await;
}

#[tokio::test]
async fn streams_go_on_when_another_process_takes_the_table_over() {
    let (bench, _operator, player) = scene().await;
    schedule(&bench, "hilo-dice", 2_000, true).await;
    let first = bench.floor(&bench.engine);
    let mut stream = Stream::open(&bench, &player, None).await;
    let opened = stream.next().await.unwrap();
    let other = bench.next_engine();
    drop(first);
    let second = bench.floor(&other);
    let commitment = opened.data["commitment"].as_str().unwrap();
    bet(&bench, &player, round_of(&opened), commitment, "k").await;
    let mut seen = vec![opened];
    while seen.len() < 5 {
        seen.push(stream.next().await.unwrap());
    }
    let names: Vec<_> = seen.iter().map(|event| event.name.as_str()).collect();
    let [open, closed, settled] = ["round-opened", "round-closed", "round-settled"];
    assert_eq!(names, [open, closed, settled, open, closed]);
    assert!(seen.windows(2).all(|pair| pair[0].id < pair[1].id), "{seen:?}");
    second.leave(Duration::ZERO).await;
}

#[tokio::test]
async fn a_player_sees_no_round_of_another_jurisdiction() {
    let (bench, operator, player) = scene().await;
    let elsewhere = operator.session(&bench, "p2", "DE", "hilo-dice").await;
    let body = json!({
        "game": "hilo-dice", "currency": "EUR", "jurisdictions": ["MT"], "betting_ms": 1_000, "pause_ms": 0,
        "reason": "a test",
    });
    let path = "/internal/v1/operators/acme/schedules";
    bench.send(Role::Ctl, "POST", path, &[], body.to_string().as_bytes()).await.expect(200);
    let mut there = Stream::open(&bench, &elsewhere, None).await;
    let mut here = Stream::open(&bench, &player, None).await;
    let engines = bench.floor(&bench.engine);
    here.until("round-settled").await;
    schedule(&bench, "hilo-dice", WINDOW_MS, true).await;
    let seen = there.next().await.unwrap();
    assert_eq!(seen.name, "round-opened");
    let sql = "SELECT count(*) FROM ledger.round WHERE jurisdiction = 'DE' AND id = $1";
    let rows = bench.admin.query(sql, &[&round_of(&seen)]).await.unwrap();
    assert_eq!(rows[0].get::<_, i64>(0), 1, "the first one seen is open to the jurisdiction");
    engines.leave(Duration::ZERO).await;
}

#[tokio::test]
async fn a_stream_ends_with_its_session_and_when_the_writer_moves() {
    let (bench, operator, player) = scene().await;
    let other = operator.session(&bench, "p2", "MT", "hilo-dice").await;
    let mut revoked = Stream::open(&bench, &player, None).await;
    let mut moved = Stream::open(&bench, &other, None).await;
    let path = format!("/operator/v1/sessions/{}/revoke", player.session);
    operator.send(&bench, "POST", &path, &json!({})).await.expect(200);
    let last = revoked.next().await.unwrap();
    assert_eq!((last.name.as_str(), &last.data["reason"]), ("end", &json!("session-revoked")));
    assert!(revoked.next().await.is_none());
    let bearer = format!("Bearer {}", player.token);
    let headers = [("authorization", bearer.as_str())];
    let again = bench.send(Role::Router, "GET", "/v1/rounds/stream", &headers, b"").await;
    assert_eq!(again.code(), "session-revoked");
    bench.close();
    let last = moved.next().await.unwrap();
    assert_eq!(last.data["reason"], "writer-moved");
    assert!(moved.next().await.is_none());
}
