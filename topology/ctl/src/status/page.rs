//! The page a person reads.

use super::{Database, Report};
use crate::term::{bytes, table};
use domicile_core::epoch::Lsn;
use domicile_topology::Topology;
use domicile_topology::observed::{NodeKind, NodeStatus, PostgresState};

/// Nothing to say in this cell.
const NONE: &str = "–";

/// The whole page.
pub(super) fn render(report: &Report, topology: &Topology) -> String {
    let mut paragraphs = vec![
        heading(report),
        table(
            &["database", "region", "role", "position", "behind", "slots", "write probe"],
            &databases(report),
        ),
        table(
            &["log", "writer's", "reader", "leaves", "checkpoint", "to publish"],
            &logs(report, topology),
        ),
        table(&["service", "region", "address", "state"], &services(report)),
    ];
    paragraphs.push(if report.problems.is_empty() {
        "✓ nothing is wrong".to_owned()
    } else {
        report.problems.iter().map(|problem| format!("✗ {problem}")).collect::<Vec<_>>().join("\n")
    });
    paragraphs.join("\n\n")
}

fn heading(report: &Report) -> String {
    let cluster =
        format!("Domicile `{}` · topology generation {}", report.cluster, report.generation);
    let Some(record) = &report.record else { return cluster };
    let standby = match &record.sync_member {
        Some(member) if record.promotable => format!("{} promotable", member.node),
        Some(member) => format!("{} not promotable", member.node),
        None => "no standby".to_owned(),
    };
    let word = |value: &dyn std::fmt::Debug| format!("{value:?}").to_ascii_lowercase();
    let plan = report.plan.as_ref().map(|plan| format!("\nplan {plan}")).unwrap_or_default();
    format!(
        "{cluster} · epoch {} (began by {}) · writes {} in {} ({}) · durability {} · {standby}{plan}",
        record.epoch,
        word(&record.beginning),
        word(&record.writes),
        record.writer_region,
        record.writer_node,
        word(&record.durability),
    )
}

/// A server's state in one word.
pub(super) const fn state(state: PostgresState) -> &'static str {
    match state {
        PostgresState::Absent => "absent",
        PostgresState::Stopped => "stopped",
        PostgresState::Starting => "starting",
        PostgresState::Primary => "primary",
        PostgresState::Standby => "standby",
        PostgresState::Unreachable => "unreachable",
    }
}

fn databases(report: &Report) -> Vec<Vec<String>> {
    let row = |database: &Database| {
        let Some(status) = &database.status else {
            let no_answer = ["no answer", NONE, NONE, NONE, NONE].map(str::to_owned);
            return [
                vec![database.node.to_string(), database.region.to_string()],
                no_answer.to_vec(),
            ]
            .concat();
        };
        let probe = status.probe.map(|probe| {
            if probe.ok {
                format!("✓ {} ms", probe.latency_ms)
            } else {
                format!("✗ {} ms", probe.latency_ms)
            }
        });
        vec![
            database.node.to_string(),
            database.region.to_string(),
            role(status),
            or_none(position(status)),
            or_none(behind(report, database, status)),
            or_none(slots(status)),
            or_none(probe),
        ]
    };
    report.databases.iter().map(row).collect()
}

fn role(status: &NodeStatus) -> String {
    match (status.kind, status.postgres.state) {
        (NodeKind::Reader, PostgresState::Primary) => "reader".to_owned(),
        (_, other) => state(other).to_owned(),
    }
}

fn position(status: &NodeStatus) -> Option<String> {
    let received = status.subscriptions.iter().filter_map(|s| s.received_lsn).max();
    if status.kind == NodeKind::Reader { received } else { status.postgres.lsn }
        .map(|lsn: Lsn| lsn.to_string())
}

/// A standby is behind what its primary has written; a reader what the primary has for its slots.
fn behind(report: &Report, database: &Database, status: &NodeStatus) -> Option<String> {
    let primary =
        report.databases.iter().filter_map(|other| other.status.as_ref()).find(|other| {
            other.kind == NodeKind::Ledger && other.postgres.state == PostgresState::Primary
        })?;
    if status.kind == NodeKind::Ledger {
        let member = primary
            .replication
            .iter()
            .find(|s| s.member.as_ref().is_some_and(|member| member.node == database.node))?;
        return Some(lag(member.lag_bytes, member.lag_ms, &member.sync_state));
    }
    let worst = status.subscriptions.iter().max_by_key(|s| s.lag_ms)?;
    let slot = primary.slots.iter().find(|slot| slot.name == worst.name);
    Some(lag(slot.and_then(|slot| slot.lag_bytes), worst.lag_ms, ""))
}

fn lag(lag_bytes: Option<u64>, lag_ms: Option<u64>, note: &str) -> String {
    let mut parts = vec![lag_bytes.map_or_else(|| NONE.to_owned(), bytes)];
    parts.extend(lag_ms.map(|lag_ms| format!("{lag_ms} ms")));
    parts.extend((!note.is_empty()).then(|| note.to_owned()));
    parts.join(", ")
}

fn slots(status: &NodeStatus) -> Option<String> {
    let (mut total, mut good) = (0_u32, 0_u32);
    let standby = status.postgres.state == PostgresState::Standby;
    for slot in status.slots.iter().filter(|slot| slot.name.starts_with("sub_")) {
        total += 1;
        good += u32::from(if standby { slot.ready } else { slot.active });
    }
    let word = if standby { "ready" } else { "active" };
    (total > 0).then(|| format!("{good}/{total} {word}"))
}

fn logs(report: &Report, topology: &Topology) -> Vec<Vec<String>> {
    let primary =
        report.databases.iter().filter_map(|database| database.status.as_ref()).find(|status| {
            status.kind == NodeKind::Ledger && status.postgres.state == PostgresState::Primary
        });
    let mut rows = Vec::new();
    for reader in &topology.readers {
        let held = report.databases.iter().find(|database| database.node == reader.node);
        for jurisdiction in &reader.jurisdictions {
            let at_writer = primary.and_then(|status| status.log.get(jurisdiction));
            let at_reader = held.and_then(|held| held.status.as_ref()?.log.get(jurisdiction));
            let waiting =
                at_writer.zip(at_reader).map(|(w, r)| w.size.saturating_sub(r.checkpoint_size));
            rows.push(vec![
                jurisdiction.to_string(),
                or_none(at_writer.map(|log| log.size)),
                reader.node.to_string(),
                or_none(at_reader.map(|log| log.size)),
                or_none(at_reader.map(|log| log.checkpoint_size)),
                or_none(waiting),
            ]);
        }
    }
    rows
}

fn services(report: &Report) -> Vec<Vec<String>> {
    let row = |service: &super::Service| {
        let state = match (service.health.ready, service.expected) {
            (true, _) => "✓ ready".to_owned(),
            (false, false) => format!("standing by ({})", service.health.reason),
            (false, true) => format!("✗ {}", service.health.reason),
        };
        vec![service.name.clone(), service.region.to_string(), service.address.clone(), state]
    };
    report.services.iter().map(row).collect()
}

fn or_none(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}
