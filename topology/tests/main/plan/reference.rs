//! The reference of plans is generated: the steps of each verb, what a step is, and every refusal.

use super::situation::{Change, alone, degraded, failover, healthy, outline, plan, switchover};
use domicile_topology::plan::{Action, Facts, Intent, RefusalCode};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// Each kind of step: what it does, and when it is done.
const STEPS: &[(&str, &str)] = &[
    ("checkpoint", "A checkpoint on the node, so that the stop or the promotion is short."),
    (
        "slot",
        "The replication slot that the returning node will stream from. Made before it stops, so that nothing it needs is removed.",
    ),
    (
        "record",
        "A change of the control record, by compare-and-set and together with the journal's entry. Refused where the record does not allow it.",
    ),
    (
        "demote",
        "The writer finishes what it has, the readers' connections end, Postgres stops cleanly and waits as a standby. Done when the end of its log is known.",
    ),
    ("await-replay", "The node has replayed up to that end."),
    (
        "await-lease-end",
        "No writer of an older epoch holds a lease. Nothing shortens this wait but the writer giving it back.",
    ),
    (
        "await-lease-enforced",
        "Every writer process there that holds a lease answers under it only, and its key says so. One that holds none is fenced by the next step.",
    ),
    (
        "promote",
        "The standby becomes primary. What its commits wait for is taken from the record before.",
    ),
    (
        "rejoin",
        "The node becomes a standby of the writer's: started as it is, else rewound once, else copied. What only it has is kept first.",
    ),
    (
        "sync",
        "Every commit waits for the standby; done when it has confirmed one that was written after that.",
    ),
    (
        "sync-off",
        "Commits wait for nobody. Before that the database sessions of every writer process that holds no lease are ended.",
    ),
    (
        "open-epoch",
        "The epoch is open in the ledger and the writer may log in. This is a commit like any other: with two copies it waits for the second.",
    ),
    (
        "await-writer",
        "The writer serves the epoch: its log gate has passed, or the bounded wait for the holders is over.",
    ),
    (
        "await-slots",
        "The readers' slots on the standby are ready. After the time-out the plan goes on and names those that are not.",
    ),
    (
        "subscriptions",
        "The reader follows the record; jurisdictions that are named are copied anew.",
    ),
    ("drop-slots", "The reader's slots on the writer's node are gone."),
];

fn verbs() -> Vec<(&'static str, Facts, Intent)> {
    let alone_there = || healthy().silent("ledger-mt");
    let reader = || super::situation::node("reader-gb");
    vec![
        ("switchover --to de-1", healthy(), switchover("de-1")),
        ("failover --to de-1, the standby promotable", alone_there(), failover("de-1", None)),
        (
            "failover --to de-1 --accept-data-loss, from one copy",
            degraded().silent("ledger-mt"),
            failover("de-1", Some("the region is lost")),
        ),
        ("rejoin ledger-mt", alone(), Intent::Rejoin { node: super::situation::node("ledger-mt") }),
        ("restore-durability", alone(), Intent::RestoreDurability),
        ("failback, after a failover", alone(), Intent::Failback),
        ("degrade", healthy(), Intent::Degrade { reason: "the standby is lost".into() }),
        (
            "degrade, after a switchover that broke before its epoch was open",
            healthy().status("ledger-mt", |status| status.epoch_open = None),
            Intent::Degrade { reason: "the standby is lost".into() },
        ),
        (
            "waive-reader reader-gb",
            healthy(),
            Intent::WaiveReader { node: reader(), reason: "its host is lost".into() },
        ),
        ("reader add reader-gb", healthy(), Intent::ReaderAdd { node: reader() }),
        ("reader reseed reader-gb", healthy(), Intent::ReaderReseed { node: reader() }),
        (
            "reader remove reader-gb, which is dead",
            healthy().silent("reader-gb"),
            Intent::ReaderRemove { node: reader() },
        ),
    ]
}

fn tag(action: &Action) -> String {
    let json = serde_json::to_value(action).unwrap();
    json["do"].as_str().unwrap().to_owned()
}

fn page() -> String {
    let mut page = String::from(
        "# Plans\n\nWhat `domicile plan …` prints and an executor runs. Why the order is as it is:\n\
         [Moving the writer](../explanation/moving-the-writer.md). This page is generated\n\
         (`DOMICILE_REGENERATE=1 cargo test -p domicile-topology`).\n\n\
         A plan names the control record it was made under, its steps, the expected pause of writes, what may be lost,\n\
         the jurisdictions the new region may not write for, and the readers to be copied anew. Under any other record it\n\
         is stale and is made again. When a step fails, the plan *stops* (run `domicile resume`), is *called off* (the\n\
         former primary takes writes again), or *goes on* (the step served one reader, or speed).\n\n## Verbs\n",
    );
    for (title, facts, intent) in verbs() {
        let plan = plan(&facts, &intent).unwrap();
        let steps = outline(&Ok(plan.clone()));
        let _infallible = write!(page, "\n### {title}\n\n");
        for (step, text) in plan.steps.iter().zip(steps) {
            let undo = serde_json::to_value(step.on_failure).unwrap();
            let undo = match undo.as_str().unwrap() {
                "call-off" => " (else called off)",
                "go-on" => " (else goes on)",
                _ => "",
            };
            let _infallible = writeln!(page, "1. {text}{undo}");
        }
    }
    page.push_str("\n## Steps\n\n| step | what it does |\n|---|---|\n");
    for (step, text) in STEPS {
        let _infallible = writeln!(page, "| `{step}` | {text} |");
    }
    page.push_str("\n## Refusals\n\nA refusal names everything that is missing at once.\n");
    for code in RefusalCode::ALL {
        let (meaning, remedy) = (code.meaning(), code.remedy());
        let _infallible = write!(page, "\n### {code}\n\n{meaning}\n\n**What to do:** {remedy}\n");
    }
    page
}

#[test]
fn the_reference_of_plans_is_the_present_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/plans.md");
    if std::env::var_os("DOMICILE_REGENERATE").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(committed == page(), "docs/reference/plans.md is not up to date: regenerate it");
}

#[test]
fn every_kind_of_step_is_described_and_used() {
    let described: BTreeSet<String> = STEPS.iter().map(|(step, _)| (*step).to_owned()).collect();
    let used: BTreeSet<String> = verbs()
        .iter()
        .flat_map(|(_, facts, intent)| plan(facts, intent).unwrap().steps)
        .map(|step| tag(&step.action))
        .collect();
    assert_eq!(described, used);
}
