//! The operations log across what happens to the cluster by itself: a failover that an agent conducted is in it once, though
//! its executor was killed; and what a region took with it is named.

use domicile_tests::cluster::Cluster;
use domicile_tests::eventually::eventually;
use domicile_tests::topology::{THREE_REGIONS, document};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the agents may take for a failover.
const MOVED_WITHIN: Duration = Duration::from_mins(1);
/// How long two copies may take to be back, and what waited for them to be signed.
const BACK_WITHIN: Duration = Duration::from_mins(2);
/// How long an entry may take to be pinned; an agent enters what its command did not after half a minute.
const PINNED_WITHIN: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_did_and_what_was_lost_is_in_the_log() {
    let text = document("entered", THREE_REGIONS).text.replace("\"manual\"", "\"automatic\"");
    let cluster = Cluster::start_document("entered", &text);
    cluster.operator("acme", &["MT"], "MT").await;
    fails_over_by_itself(&cluster).await;
    loses_changes(&cluster).await;
    cluster.cli(&["operations", "verify"]);
}

/// The region dies, and so does the agent that moves the writer, as soon as the record says that it has begun.
async fn fails_over_by_itself(cluster: &Cluster) {
    lose(cluster, "mt");
    eventually("the record names the other region", MOVED_WITHIN, || async {
        let record = &cluster.status()["record"];
        if record["writer_region"] == "de-1" { Ok(()) } else { Err(record.to_string()) }
    })
    .await;
    cluster.kill("ledger-de/agent");
    cluster.start_unit("ledger-de/agent");
    // While the other region is away nothing can take the place of the plan that its executor left.
    eventually("the plan is gone on with to its end", BACK_WITHIN, || async {
        let status = cluster.status();
        let is_over = status["record"]["epoch"] == 2 && status["plan"].is_null();
        if is_over { Ok(()) } else { Err(format!("{}: {}", status["plan"], status["problems"])) }
    })
    .await;
    bring_back(cluster, "mt");
    let plans = eventually("both plans are entered", BACK_WITHIN, || async {
        let plans = plans(cluster);
        let is_in = |verb: &str| plans.keys().any(|plan| plan.starts_with(verb));
        let both = is_in("auto-failover-2-") || is_in("auto-failover-1-");
        if both && is_in("auto-restore-durability-") {
            Ok(plans)
        } else {
            Err(format!("{plans:?}"))
        }
    })
    .await;
    for (plan, entries) in &plans {
        assert_eq!(entries.len(), 1, "{plan} is entered once");
        let entry = &entries[0];
        let by = entry["actor"].as_str().expect("an actor");
        assert!(by.starts_with("spiffe://entered/agent/ledger-"), "{by}");
        let after: Value =
            serde_json::from_str(entry["after"].as_str().expect("a state")).expect("JSON");
        assert_eq!(after["outcome"], "completed", "{plan}: {after}");
        assert!(after["actor"].as_str().expect("a name").starts_with("agent ledger-"), "{after}");
    }
    assert_eq!(entries(cluster, "log.cut").len(), 0, "nothing was lost");
}

/// A change with one copy, which its region takes with it.
async fn loses_changes(cluster: &Cluster) {
    lose(cluster, "mt");
    cluster.cli(&["degrade", "--reason", "the other region is away", "--yes"]);
    // The plan's end, entered by the command.
    pinned(cluster, 1).await;
    let set = ["operator", "game", "set", "acme", "wheel", "--stake-max", "900", "--reason", "r"];
    cluster.cli(&set);
    pinned(cluster, 2).await;
    lose(cluster, "de");
    for unit in ["ledger-mt/agent", "writer-mt/writer"] {
        cluster.start_unit(unit);
    }
    let reason = "the writer's region is lost";
    cluster.cli(&["failover", "--to", "mt-1", "--accept-data-loss", reason, "--yes"]);
    bring_back(cluster, "de");
    let cut = eventually("the loss is entered", BACK_WITHIN, || async {
        entries(cluster, "log.cut").pop().ok_or_else(|| cluster.status()["problems"].to_string())
    })
    .await;
    let reason = cut["reason"].as_str().expect("a reason");
    assert!(reason.contains("game.set acme/wheel"), "{cut}");
    assert_eq!(cut["actor"], "spiffe://entered/agent/ledger-mt");
    assert_eq!(entries(cluster, "log.cut").len(), 1);
    eventually("the plan whose entry was lost is entered anew", BACK_WITHIN, || async {
        let plans = entries(cluster, "plan.end");
        let degraded = |entry: &&Value| {
            entry["subject"].as_str().is_some_and(|plan| plan.starts_with("degrade-"))
        };
        let count = plans.iter().filter(degraded).count();
        if count == 1 { Ok(()) } else { Err(format!("{count} of {plans:?}")) }
    })
    .await;
}

/// Waits until so many entries that no checkpoint covers are pinned.
async fn pinned(cluster: &Cluster, entries: u32) {
    let ledgers = &cluster.topology().ledgers;
    let ledger = ledgers.iter().find(|ledger| ledger.node.as_str() == "ledger-de");
    let url = format!("http://{}/metrics", ledger.expect("the ledger").admin);
    eventually(&format!("{entries} entries are pinned"), PINNED_WITHIN, || async {
        let request = http::Request::get(&url).body(bytes::Bytes::new()).expect("a request");
        let answer = cluster.outside().send(request).await.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        let name = "domicile_agent_operations_uncovered ";
        let line = text.lines().find(|line| line.starts_with(name)).map(ToOwned::to_owned);
        let count = line.as_ref().and_then(|line| line.strip_prefix(name)?.parse::<u32>().ok());
        if count == Some(entries) { Ok(()) } else { Err(format!("{line:?}")) }
    })
    .await;
}

fn lose(cluster: &Cluster, place: &str) {
    for unit in ["ledger-{}/agent", "ledger-{}/postgres", "writer-{}/writer"] {
        cluster.kill(&unit.replace("{}", place));
    }
}

fn bring_back(cluster: &Cluster, place: &str) {
    for unit in ["ledger-{}/agent", "writer-{}/writer"] {
        cluster.start_unit(&unit.replace("{}", place));
    }
}

/// The log's signed entries about something; none while it cannot be read.
fn entries(cluster: &Cluster, about: &str) -> Vec<Value> {
    let output = cluster.try_cli(&["operations", "list", "--about", about, "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let entries = told["entries"].as_array().cloned().unwrap_or_default();
    entries.into_iter().map(|entry| entry["entry"].clone()).collect()
}

/// The plans that agents made, each with its entries.
fn plans(cluster: &Cluster) -> BTreeMap<String, Vec<Value>> {
    let mut plans: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in entries(cluster, "plan.end") {
        let plan = entry["subject"].as_str().expect("a plan").to_owned();
        if plan.starts_with("auto-") {
            plans.entry(plan).or_default().push(entry);
        }
    }
    plans
}
