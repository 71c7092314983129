//! `kill -9` under load of each part in turn: nothing acknowledged is lost or doubled, retried requests get
//! their first answer, and the log goes on consistently. The judges are those of the chaos experiments, and the
//! last act shows that they see: one row taken away, and they find it.

use domicile_chaos::experiment::{Experiment, Stage, Step};
use domicile_chaos::fault::Fault;
use domicile_chaos::load::Traffic;
use domicile_chaos::observe::{LogPositions, observe};
use domicile_chaos::report::Word;
use domicile_chaos::run;
use domicile_chaos::system::{Programs, System};
use domicile_oracles::{History, Limits, Oracle, judge};
use domicile_tests::cluster::{self, Cluster};
use domicile_tests::database;
use domicile_tests::player::Player;
use domicile_tests::topology::{Place, THREE_REGIONS};
use http::StatusCode;
use std::path::Path;

/// Operations that must be acknowledged before and after each fault.
pub(crate) const OPERATIONS: u64 = 40;
/// How long they, and the way back to a whole system, may take, in milliseconds.
pub(crate) const WITHIN_MS: u64 = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_part_loses_nothing_and_doubles_nothing() {
    let places: &[Place] = THREE_REGIONS.get(..2).expect("two regions");
    let cluster = Cluster::start("kills", places);
    let programs =
        Programs { domicile: cluster::binary("domicile"), postgres_bin: cluster::postgres_bin() };
    let system = System::open(programs, cluster.state()).expect("the system");
    let checkpoint = checkpoint(&cluster).await;
    let mut last = String::new();
    for unit in [
        "writer-mt/writer",
        "ledger-mt/postgres",
        "reader-mt/reader",
        "router-mt/router",
        "ledger-mt/agent",
    ] {
        last = unit.replace('/', "-");
        let folder = cluster.state().join("chaos").join(&last);
        let report = run::run(&system, &kill(unit), 1, &last, &folder).await.expect("a run");
        let (word, reason) = report.result();
        assert_eq!(word, Word::Passed, "after kill -9 of {unit}: {reason}\n{report:#?}");
    }
    log_extends(&cluster, &checkpoint).await;
    a_row_taken_away_is_found(&cluster, &system, &last).await;
}

/// The fault as an experiment: killed under load, started again unless its supervisor does, and everything is whole.
fn kill(unit: &str) -> Experiment {
    let steps = vec![
        Step::Inject { fault: Fault::KillUnit { unit: unit.to_owned() } },
        Step::Heal,
        Step::Acknowledged { more: OPERATIONS, within_ms: WITHIN_MS },
        Step::Redundant { within_ms: WITHIN_MS },
    ];
    experiment("kill", format!("{unit} is killed"), steps)
}

/// Steps under load, judged by every oracle.
pub(crate) fn experiment(name: &str, title: String, steps: Vec<Step>) -> Experiment {
    Experiment {
        name: name.to_owned(),
        title,
        stage: Stage::Manual,
        suites: Vec::new(),
        traffic: Traffic::default(),
        warm_up: OPERATIONS,
        repeat: 1,
        steps,
        oracles: Oracle::ALL.to_vec(),
        limits: Limits::default(),
    }
}

async fn a_row_taken_away_is_found(cluster: &Cluster, system: &System, operator: &str) {
    let reader = database::connect(cluster, "reader-mt").await;
    let one = "DELETE FROM ledger.bet WHERE ctid = (SELECT ctid FROM ledger.bet WHERE operator_id = $1 LIMIT 1)";
    assert_eq!(reader.execute(one, &[&operator]).await.expect("a row less"), 1);
    let path = cluster.state().join("chaos").join(operator).join("history.jsonl");
    let history = History::parse(&text_of(&path)).expect("a history");
    let seen = observe(system, operator, &LogPositions::now(system)).await.expect("the nodes");
    let verdicts = judge(&history, &seen, &Limits::default()).verdicts;
    let lost = verdicts.iter().find(|verdict| verdict.oracle == Oracle::C1).expect("a verdict");
    assert!(lost.violations.iter().any(|text| text.contains("reader-mt")), "{verdicts:#?}");
}

fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the history")
}

async fn log_text(cluster: &Cluster, path: &str) -> String {
    let url = format!("{}/log/MT{path}", cluster.router("MT").trim_end_matches('/'));
    let request = http::Request::get(url).body(bytes::Bytes::new()).expect("a request");
    let response = cluster.outside().send(request).await.expect("an answer");
    let text = String::from_utf8_lossy(response.body()).into_owned();
    assert_eq!(response.status(), StatusCode::OK, "{path}: {text}");
    text
}

/// The first checkpoint of the run: made by one play.
async fn checkpoint(cluster: &Cluster) -> String {
    let operator = cluster.operator("first", &["MT"], "MT").await;
    let opened = operator.session("first", "MT", "hilo-dice").await;
    let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
    let session = player.session().await;
    let answer = player.play(&session, "first", 1).await;
    assert_eq!(
        player.proof(answer["round"].as_str().expect("a round")).await.status,
        StatusCode::OK
    );
    log_text(cluster, "/checkpoint").await
}

/// The log of now extends the log of then, as proven by the reader and checked here.
async fn log_extends(cluster: &Cluster, then: &str) {
    use domicile_core::checkpoint::Checkpoint;
    use domicile_core::log::proof::verify_consistency;
    use domicile_core::note::VerifierKey;
    let keys = &cluster.topology().log_keys;
    let key = keys.iter().find(|key| key.jurisdiction.as_str() == "MT").expect("MT's log key");
    let key = VerifierKey::parse(&key.vkey).expect("a verifier key");
    let old = Checkpoint::open(then, std::slice::from_ref(&key)).expect("the checkpoint of then");
    let text = log_text(cluster, &format!("/consistency?from={}", old.size)).await;
    let (head, note) = text.split_once("\n\n").expect("a blank line");
    let new = Checkpoint::open(note, std::slice::from_ref(&key)).expect("the checkpoint of now");
    let path: Vec<_> = head
        .lines()
        .skip(1)
        .map(|line| domicile_core::base64::decode_32(line).expect("a base64 hash"))
        .collect();
    assert!(new.size > old.size);
    verify_consistency(old.size, new.size, &old.root, &new.root, &path)
        .expect("the log extends itself");
}
