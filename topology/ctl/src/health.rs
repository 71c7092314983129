//! Whether a process is ready, in its own words.

use crate::unit::Unit;
use crate::wait::{self, Look};
use anyhow::Result;
use bytes::Bytes;
use domicile_execute::{LOOK_TIMEOUT_MS, chain};
use domicile_service::client::HttpClient;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a process says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Health {
    /// It takes requests and every check passes.
    pub(crate) ready: bool,
    /// Why not; empty when ready.
    pub(crate) reason: String,
    /// Whether it answers at all.
    pub(crate) answers: bool,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// It takes requests.
    Ready,
    /// It runs and stands by.
    Answers,
}

/// A service's `/readyz`.
#[derive(Deserialize)]
struct Report {
    ready: bool,
    #[serde(default)]
    checks: BTreeMap<String, Check>,
}

#[derive(Deserialize)]
struct Check {
    ok: bool,
    detail: String,
}

/// etcd's `/health`.
#[derive(Deserialize)]
struct EtcdHealth {
    health: String,
}

/// Asks the process once.
pub(crate) async fn look(client: &HttpClient, unit: &Unit) -> Health {
    let url = match &unit.admin {
        Some(admin) => format!("http://{admin}/readyz"),
        None => format!("https://{}/health", unit.address),
    };
    let request = match http::Request::get(&url).body(Bytes::new()) {
        Ok(request) => request,
        Err(error) => return Health::silent(error.to_string()),
    };
    match client.within_ms(LOOK_TIMEOUT_MS).send(request).await {
        Ok(answer) => read(answer.body()),
        Err(error) => Health::silent(chain(&error)),
    }
}

impl Health {
    fn silent(reason: String) -> Self {
        Self { ready: false, reason, answers: false }
    }
}

/// Waits until the process has reached the goal.
pub(crate) async fn reach(
    client: &HttpClient,
    unit: &Unit,
    goal: Goal,
    limit: Duration,
) -> Result<()> {
    wait::until(format_args!("{} ready", unit.name), limit, || async {
        let health = look(client, unit).await;
        if health.ready || (goal == Goal::Answers && health.answers) {
            Look::Done(())
        } else {
            Look::NotYet(health.reason)
        }
    })
    .await
}

fn read(body: &[u8]) -> Health {
    if let Ok(report) = serde_json::from_slice::<Report>(body) {
        let failing = report.checks.iter().filter(|(_, check)| !check.ok);
        let reasons: Vec<String> =
            failing.map(|(name, check)| format!("{name}: {}", check.detail)).collect();
        return Health { ready: report.ready, reason: reasons.join("; "), answers: true };
    }
    match serde_json::from_slice::<EtcdHealth>(body) {
        Ok(etcd) if etcd.health == "true" => {
            Health { ready: true, reason: String::new(), answers: true }
        }
        _ => Health::silent("it answers, but not with a health report".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_says_in_its_own_words_why_it_is_not_ready() {
        let body = br#"{"ready":false,"checks":{"lag":{"ok":false,"detail":"9 s behind"},"tls":{"ok":true,"detail":""}}}"#;
        assert_eq!(
            read(body),
            Health { ready: false, reason: "lag: 9 s behind".into(), answers: true }
        );
        assert!(read(br#"{"health":"true"}"#).ready);
        assert!(!read(br#"{"health":"false"}"#).ready);
        assert!(!read(b"<html>").ready);
    }
}
