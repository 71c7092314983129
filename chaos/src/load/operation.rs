//! One operation with its key: sent, recorded, and sent again until it is decided.

use super::{Caller, Shared};
use crate::digest;
use crate::http::{Answer, Silence};
use crate::recorder::Intent;
use anyhow::Result;
use bytes::Bytes;
use domicile_oracles::history::{Acknowledged, Kind, Outcome};
use http::{Request, StatusCode};
use std::time::Duration;

/// Pause before an operation is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Attempts of one operation, at most.
const ATTEMPTS_MAX: u32 = 1_200;

/// The decided answer.
pub type Body = serde_json::Value;

/// How an operation ended for its client.
pub(super) enum Decided {
    /// With the answer.
    Acknowledged(Body),
    /// With a refusal for good.
    Refused,
    /// Not at all.
    Open,
}

/// Sends the operation until it is decided.
pub(super) async fn decide(
    caller: &Caller,
    shared: &Shared,
    intent: &Intent,
    build: impl Fn(&str) -> Result<Request<Bytes>>,
) -> Result<Decided> {
    for _ in 0..ATTEMPTS_MAX {
        shared.recorder.invoke(intent)?;
        let answer = caller.send(&build).await?;
        let outcome = classify(intent.kind, &answer);
        let decided = match (&outcome, &answer) {
            (Outcome::Acknowledged(_), Ok(answer)) => Some(Decided::Acknowledged(answer.json())),
            (Outcome::Refused(code), Ok(answer)) if final_refusal(answer.status, code) => {
                Some(Decided::Refused)
            }
            _ => None,
        };
        shared.recorder.outcome(intent, outcome)?;
        if let Some(decided) = decided {
            return Ok(decided);
        }
        if !shared.undecided_may_go_on() {
            break;
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
    Ok(Decided::Open)
}

/// Whether sending the same again is pointless. Limits, misdirection and everything the API calls unavailable pass.
fn final_refusal(status: StatusCode, code: &str) -> bool {
    code == "chain-exhausted"
        || (status.is_client_error() && !matches!(status.as_u16(), 408 | 421 | 429))
}

/// What an answer means, by the API's documentation.
fn classify(kind: Kind, answer: &Result<Answer, Silence>) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(Silence::NotSent(reason)) => return Outcome::Refused(format!("not-sent: {reason}")),
        Err(Silence::Broken(reason)) => return Outcome::Unknown(reason.clone()),
    };
    if answer.status.is_success() {
        return Outcome::Acknowledged(acknowledged(kind, answer));
    }
    let body = answer.json();
    let code = body.get("code").and_then(Body::as_str).unwrap_or_default().to_owned();
    let undone =
        answer.status.is_client_error() || answer.status == StatusCode::SERVICE_UNAVAILABLE;
    if undone && !code.is_empty() && code != "outcome-unknown" {
        Outcome::Refused(code)
    } else {
        Outcome::Unknown(format!("{} {code}", answer.status.as_u16()))
    }
}

fn acknowledged(kind: Kind, answer: &Answer) -> Acknowledged {
    let body = answer.json();
    let (prefix, id, fields) = match kind {
        Kind::Play => ("bet", "bet", &digest::PLAY[..]),
        Kind::Bet => ("bet", "bet", &digest::BET[..]),
        Kind::Open => ("round", "round", &digest::ROUND[..]),
        Kind::Close => ("closed", "round", &digest::CLOSED[..]),
        Kind::Settle => ("settled", "round", &digest::SETTLED[..]),
    };
    let named = body.get(id).and_then(Body::as_str).unwrap_or("nothing");
    let replayed = answer.headers.contains_key("domicile-replayed");
    // A stored answer tells the epoch it was first given in, the header the one that gives it now.
    let told = || body.get("epoch").and_then(Body::as_u64).filter(|_| !replayed);
    Acknowledged {
        effect: format!("{prefix}/{named}"),
        digest: digest::fields(&body, fields),
        body_sha256: digest::sha256(&answer.body),
        epoch: answer.number("domicile-epoch").or_else(told),
        node: None,
        replayed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(status: u16, body: &Body) -> Answer {
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers: http::HeaderMap::new(), body: body.to_string().into() }
    }

    #[test]
    fn an_answer_means_what_its_documentation_says() {
        let problem =
            |status, code: &str| classify(Kind::Play, &Ok(answer(status, &json!({"code": code}))));
        assert_eq!(problem(503, "writer-draining"), Outcome::Refused("writer-draining".into()));
        assert!(matches!(problem(503, "outcome-unknown"), Outcome::Unknown(_)));
        assert!(matches!(problem(504, "outcome-unknown"), Outcome::Unknown(_)));
        assert!(matches!(problem(502, "upstream-unavailable"), Outcome::Unknown(_)));
        assert!(matches!(problem(500, "internal"), Outcome::Unknown(_)));
        assert!(matches!(problem(503, ""), Outcome::Unknown(_)), "a proxy's page says nothing");
        let broken = Err(Silence::Broken("reset".into()));
        assert!(matches!(classify(Kind::Play, &broken), Outcome::Unknown(_)));
        let told = classify(Kind::Play, &Ok(answer(201, &json!({"bet": "b", "epoch": 3}))));
        let Outcome::Acknowledged(told) = told else { panic!("{told:?}") };
        assert_eq!((told.effect.as_str(), told.epoch), ("bet/b", Some(3)));
    }

    #[test]
    fn what_passes_is_sent_again() {
        assert!(final_refusal(StatusCode::CONFLICT, "commitment-mismatch"));
        assert!(final_refusal(StatusCode::SERVICE_UNAVAILABLE, "chain-exhausted"));
        assert!(!final_refusal(StatusCode::TOO_MANY_REQUESTS, "too-many-requests"));
        assert!(!final_refusal(StatusCode::SERVICE_UNAVAILABLE, "writer-unavailable"));
    }
}
