//! The published known-answer vectors in `testdata/`, which other verifiers check themselves against.
//!
//! They were computed by an independent implementation; this test holds ours to them.

#![cfg(test)]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use domicile_core::{
    games, hex,
    ids::{GameCode, Jurisdiction, RoundId},
    money::Micro,
    operator_auth::{Credentials, SignedRequest},
    outcome::{Draws, play_context, round_context},
    record::{self, BetRecord},
    seed::{self, Seed},
};
use serde_json::Value;

fn vectors(file: &str) -> Vec<Value> {
    let json: Value = serde_json::from_str(file).unwrap();
    json["vectors"].as_array().unwrap().clone()
}

fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector[key].as_str().unwrap_or_else(|| panic!("{key} is not a text in {vector}"))
}

fn bytes(vector: &Value, key: &str) -> [u8; 32] {
    hex::decode_32(text(vector, key)).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn position(vector: &Value) -> u32 {
    u32::try_from(number(&vector["position"])).unwrap()
}

fn context(vector: &Value, game: &GameCode) -> String {
    let (params, round) = (text(vector, "params"), RoundId::parse(text(vector, "round")).unwrap());
    if text(vector, "kind") == "play" {
        let (client_seed, record) = (bytes(vector, "client_seed"), bytes(vector, "record"));
        return play_context(game, params, round, position(vector), &client_seed, &record);
    }
    let bets: Vec<_> = vector["bets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bets| {
            let jurisdiction = Jurisdiction::parse(text(bets, "jurisdiction")).unwrap();
            (jurisdiction, number(&bets["count"]), bytes(bets, "root"))
        })
        .collect();
    round_context(game, params, round, bets.iter().map(|(j, count, root)| (j, *count, root)))
}

#[test]
fn outcomes_and_payouts() {
    let vectors = vectors(include_str!("../testdata/outcomes.json"));
    for vector in &vectors {
        let code = GameCode::parse(text(vector, "game")).unwrap();
        let (game, params) = (games::game(&code).unwrap(), text(vector, "params"));
        assert_eq!(context(vector, &code), text(vector, "context"));
        let seed = Seed::new(bytes(vector, "seed"));
        if text(vector, "kind") == "round" {
            assert_eq!(seed.commitment(), bytes(vector, "commitment"));
        }
        let mut draws = Draws::new(&seed, text(vector, "context").as_bytes());
        for draw in vector["draws"].as_array().unwrap() {
            assert_eq!(draws.below(number(&draw["below"])), Ok(number(&draw["value"])));
        }
        let mut draws = Draws::new(&seed, text(vector, "context").as_bytes());
        let outcome = game.outcome(params, &mut draws).unwrap();
        assert_eq!(outcome, text(vector, "outcome"), "{vector}");
        for payout in vector["payouts"].as_array().unwrap() {
            let stake = Micro::new(number(&payout["stake_micro"])).unwrap();
            let paid = game.payout(params, stake, text(payout, "selection"), &outcome).unwrap();
            assert_eq!(paid.get(), number(&payout["payout_micro"]), "{payout} of {vector}");
        }
    }
    for game in games::ALL {
        assert!(vectors.iter().any(|v| text(v, "game") == game.code()), "{}", game.code());
    }
}

#[test]
fn draws() {
    for vector in vectors(include_str!("../testdata/draws.json")) {
        let seed = Seed::new(bytes(&vector, "seed"));
        let mut draws = Draws::new(&seed, text(&vector, "context").as_bytes());
        for value in vector["values"].as_array().unwrap() {
            assert_eq!(draws.below(number(&vector["below"])), Ok(number(value)), "{vector}");
        }
    }
}

#[test]
fn chains() {
    for vector in vectors(include_str!("../testdata/chains.json")) {
        let start = Seed::new(bytes(&vector, "start"));
        let length = u32::try_from(number(&vector["length"])).unwrap();
        let commitment = bytes(&vector, "commitment");
        assert_eq!(seed::chain_commitment(&start, length), Ok(commitment));
        for play in vector["plays"].as_array().unwrap() {
            let revealed = seed::chain_seed(&start, length, position(play)).unwrap();
            assert_eq!(revealed.as_bytes(), &bytes(play, "seed"));
            assert!(seed::verify_chain(&revealed, position(play), &commitment));
        }
    }
}

#[test]
fn records() {
    for vector in vectors(include_str!("../testdata/records.json")) {
        let record = BetRecord::parse(text(&vector, "record")).unwrap().encode();
        assert_eq!(record, text(&vector, "record"));
        let commitment = record::commitment(&record, &bytes(&vector, "salt"));
        assert_eq!(commitment, bytes(&vector, "commitment"));
    }
}

#[test]
fn operator_signatures() {
    for vector in vectors(include_str!("../testdata/operator_auth.json")) {
        let secret = STANDARD.decode(text(&vector, "secret_base64")).unwrap();
        let (method, path) = (text(&vector, "method"), text(&vector, "path"));
        let (timestamp_unix_s, body) = (number(&vector["timestamp"]), text(&vector, "body"));
        let body = body.as_bytes();
        let request = SignedRequest { method, path, timestamp_unix_s, body };
        assert_eq!(request.canonical(), text(&vector, "canonical"));
        let signature = request.sign(&secret);
        assert_eq!(signature, text(&vector, "signature"));
        let timestamp = timestamp_unix_s.to_string();
        let headers = Credentials::parse(Some("key"), Some(&timestamp), Some(&signature)).unwrap();
        assert_eq!(headers.verify(&secret, method, path, body, timestamp_unix_s), Ok(()));
    }
}
