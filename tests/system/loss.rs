//! Real loss, provoked on purpose: what was acknowledged with one copy dies with its region, and the loss statement names
//! exactly that, with its stake, once the region is back.

use domicile_tests::cluster::Cluster;
use domicile_tests::eventually::eventually;
use domicile_tests::player::Player;
use domicile_tests::topology::THREE_REGIONS;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Plays with one copy.
const PLAYS: u64 = 5;
/// The stake of each, as [`Player::play`] places it, micro-units.
const STAKE_MICRO: u64 = 1_000_000;
/// How long a node may take to return, keep its tail and be rewound.
const RETURNED_WITHIN: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn what_one_copy_loses_is_named_exactly() {
    let cluster = Cluster::start("loss", THREE_REGIONS);
    let operator = cluster.operator("acme", &["MT"], "MT").await;
    let opened = operator.session("unlucky", "MT", "hilo-dice").await;
    let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
    let session = player.session().await;
    let kept = player.play(&session, "kept", 1).await;

    kill(&cluster, &["ledger-de/agent", "ledger-de/postgres", "writer-de/writer"]);
    cluster.cli(&["degrade", "--reason", "the other region is away", "--yes"]);
    let mut lost = BTreeSet::new();
    for number in 0..PLAYS {
        let answer = player.play(&session, &format!("lost-{number}"), 2 + number).await;
        lost.insert(answer["round"].as_str().expect("a round").to_owned());
    }
    kill(&cluster, &["ledger-mt/agent", "ledger-mt/postgres", "writer-mt/writer"]);

    for unit in ["ledger-de/agent", "writer-de/writer"] {
        cluster.start_unit(unit);
    }
    let refused = cluster.try_cli(&["failover", "--to", "de-1", "--yes"]);
    assert_eq!(refused.status.code(), Some(2), "loss has to be accepted by a person");
    let reason = "the writer's region is lost";
    cluster.cli(&["failover", "--to", "de-1", "--accept-data-loss", reason, "--yes"]);
    assert_eq!(cluster.status()["record"]["beginning"], "forced");
    let statement = statement(&cluster);
    assert!(statement["silent"]["ledger-mt"].is_string(), "uncertain until it is back");

    cluster.start_unit("ledger-mt/agent");
    let statement = eventually("the tail is kept", RETURNED_WITHIN, || async {
        let statement = self::statement(&cluster);
        let silent = statement["silent"].as_object().is_none_or(|silent| !silent.is_empty());
        if silent { Err(statement.to_string()) } else { Ok(statement) }
    })
    .await;
    let named = statement["lost"].as_array().expect("rounds").iter();
    let named: BTreeSet<String> =
        named.map(|round| round["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(named, lost, "{statement:#}");
    assert!(!named.contains(kept["round"].as_str().expect("a round")));
    let total = &statement["totals"][0];
    assert_eq!((&total["jurisdiction"], &total["operator"]), (&"MT".into(), &"acme".into()));
    assert_eq!(
        (total["bets"].as_u64(), total["stake_micro"].as_u64()),
        (Some(PLAYS), Some(PLAYS * STAKE_MICRO))
    );
}

fn kill(cluster: &Cluster, units: &[&str]) {
    for unit in units {
        cluster.kill(unit);
    }
}

fn statement(cluster: &Cluster) -> Value {
    let output = cluster.try_cli(&["loss-statement", "--json"]);
    serde_json::from_slice(&output.stdout).expect("a statement in JSON")
}
