//! Whether the cluster is fit for a drill: every check with its weight, a score of 100, and what a live drill needs.
//!
//! Pure: it judges what was observed. A check that cannot be made counts as not passed.

use super::evidence;
use super::report::{Check, Preflight};
use crate::status::Report;
use domicile_topology::document::Durability;
use domicile_topology::observed::{NodeKind, PostgresState};
use domicile_topology::plan::{Facts, Plan, Refusal};
use domicile_topology::record::Writes;

/// The checks of one moment. `planned` is what the planner says to the first move of the drill.
pub(crate) fn preflight(
    status: &Report,
    facts: &Facts,
    running: Option<&str>,
    planned: &Result<Plan, Refusal>,
) -> Preflight {
    let mut checks = standing(facts, running, planned);
    checks.extend(data(status, facts));
    checks.extend(services(status));
    let whole: u32 = checks.iter().map(|check| check.weight).sum();
    let passed: u32 = checks.iter().filter(|check| check.passed).map(|check| check.weight).sum();
    let score = (passed * 100).checked_div(whole).unwrap_or_default();
    let ready = checks.iter().all(|check| check.passed || !check.needed);
    Preflight { score, ready, checks }
}

fn standing(facts: &Facts, running: Option<&str>, planned: &Result<Plan, Refusal>) -> Vec<Check> {
    let record = &facts.record;
    let member = record.sync_member.as_ref().map_or("nobody", |member| member.node.as_str());
    let state =
        format!("durability {:?}, confirmed by {member}", record.durability).to_ascii_lowercase();
    let refused = planned.as_ref().err().map(ToString::to_string);
    vec![
        needed(
            "the planner accepts the first move",
            20,
            refused.is_none(),
            refused.unwrap_or_default(),
        ),
        needed("no other plan is under way", 10, running.is_none(), running.unwrap_or_default()),
        needed("writes are open", 5, record.writes == Writes::Open, format!("{:?}", record.writes)),
        check("two regions confirm every write", 10, record.durability == Durability::Two, state),
        check("a standby is promotable", 10, record.promotable, member),
    ]
}

fn data(status: &Report, facts: &Facts) -> Vec<Check> {
    let silent: Vec<String> = facts
        .nodes
        .iter()
        .filter(|(_, fact)| fact.status.is_none())
        .map(|(node, _)| node.to_string())
        .collect();
    let statuses = || facts.nodes.values().filter_map(|fact| fact.status.as_ref());
    let primary = statuses().find(|status| {
        status.kind == NodeKind::Ledger && status.postgres.state == PostgresState::Primary
    });
    let probe = primary.and_then(|status| status.probe);
    let seen =
        probe.map_or_else(|| "no probe".to_owned(), |probe| format!("{} ms", probe.latency_ms));
    let (mut slots, mut unready) = (0_u32, Vec::new());
    for standby in statuses().filter(|s| s.postgres.state == PostgresState::Standby) {
        for slot in standby.slots.iter().filter(|slot| slot.name.starts_with("sub_")) {
            slots += 1;
            unready.extend((!slot.ready).then(|| slot.name.clone()));
        }
    }
    let lagging: Vec<String> = statuses()
        .flat_map(|status| &status.subscriptions)
        .filter(|subscription| !(subscription.enabled && subscription.tables_ready))
        .map(|subscription| subscription.name.clone())
        .collect();
    let violations: Vec<String> = evidence::residency(facts)
        .into_iter()
        .flat_map(|held| {
            let of = held.jurisdiction;
            held.violations.into_iter().map(move |violation| format!("{of}: {violation}"))
        })
        .collect();
    let is_database = |problem: &&String| problem.contains("database");
    let database = status.problems.iter().find(is_database).cloned().unwrap_or_default();
    vec![
        check("every agent answers", 10, silent.is_empty(), silent.join(", ")),
        check("every database runs", 5, database.is_empty(), database),
        check("a real write is acknowledged", 10, probe.is_some_and(|probe| probe.ok), seen),
        check("every reader follows", 5, lagging.is_empty(), lagging.join(", ")),
        check(
            "every reader's slot on the standby is ready",
            5,
            slots > 0 && unready.is_empty(),
            if slots == 0 { "no slots".to_owned() } else { unready.join(", ") },
        ),
        needed("residency holds", 5, violations.is_empty(), violations.join("; ")),
    ]
}

fn services(status: &Report) -> Vec<Check> {
    let unready: Vec<String> = status
        .services
        .iter()
        .filter(|service| service.expected && !service.health.ready)
        .map(|service| format!("{}: {}", service.name, service.health.reason))
        .collect();
    vec![check("every service is ready", 5, unready.is_empty(), unready.join("; "))]
}

fn check(what: &str, weight: u32, passed: bool, seen: impl Into<String>) -> Check {
    Check { what: what.to_owned(), weight, needed: false, passed, seen: seen.into() }
}

fn needed(what: &str, weight: u32, passed: bool, seen: impl Into<String>) -> Check {
    Check { needed: true, ..check(what, weight, passed, seen) }
}
