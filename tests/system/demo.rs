//! The demo as a newcomer runs it: it ends well, and a planted fault turns it red.

use domicile_core::ids::NodeId;
use domicile_tests::cluster::binary;
use domicile_tests::database;
use domicile_tests::eventually::eventually;
use domicile_tests::topology::{THREE_REGIONS, document};
use domicile_topology::Topology;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a demo may take, from nothing to cleaned up.
const DEMO_WITHIN: Duration = Duration::from_mins(5);

/// Changes every leaf as it arrives at the replica: what a reader must never pass on.
const PLANT: &str = "CREATE FUNCTION public.planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     NEW.entry := NEW.entry || '\\x0a'::bytea; RETURN NEW; END $$; \
     CREATE TRIGGER planted BEFORE INSERT ON log.leaf FOR EACH ROW EXECUTE FUNCTION public.planted(); \
     ALTER TABLE log.leaf ENABLE ALWAYS TRIGGER planted";

struct Demo {
    state: PathBuf,
    topology: Topology,
    command: Command,
}

fn demo(name: &str) -> Demo {
    let state = std::env::temp_dir().join(format!("domicile-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&state).expect("make the demo's folder");
    let text = document(name, THREE_REGIONS).text;
    let file = state.join("given.toml");
    std::fs::write(&file, &text).expect("write the topology");
    let mut command = Command::new(binary("domicile"));
    command.args(["demo", "--plays", "1", "--topology"]).arg(&file).arg("--state").arg(&state);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Demo { state, topology: Topology::parse(&text).expect("a topology"), command }
}

async fn ended(command: Command) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::from(command);
    let running = command.kill_on_drop(true).output();
    let output =
        tokio::time::timeout(DEMO_WITHIN, running).await.expect("in time").expect("run it");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_well_and_cleans_up() {
    let demo = demo("demo-good");
    let (code, text) = ended(demo.command).await;
    assert_eq!(code, Some(0), "{text}");
    for code in ["MT", "DE", "GB"] {
        let proven = text
            .lines()
            .any(|line| line.contains(&format!(" {code} ")) && line.contains("✓ verified"));
        assert!(proven, "no verified proof of {code}:\n{text}");
    }
    for operator in ["meridian", "drill"] {
        let equal = |line: &&str| line.starts_with(operator) && line.ends_with("✓ equal");
        let rows: Vec<_> = text.lines().filter(equal).collect();
        assert_eq!(rows.len(), 1, "one row for the euros of {operator}:\n{text}");
        let reconciled = format!("domicile reconcile --operator {operator}");
        assert!(text.contains(&reconciled), "{operator} is not reconciled:\n{text}");
    }
    let matches = text.lines().filter(|line| *line == "MATCH").count();
    assert_eq!(matches, 2, "both settlement files match:\n{text}");
    assert!(!demo.state.join("nodes").exists(), "the demo leaves something behind");
    let _removed = std::fs::remove_dir_all(&demo.state);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_fault_turns_the_demo_red() {
    let demo = demo("demo-bad");
    let node = NodeId::parse("reader-gb").expect("a node");
    let address = demo.topology.reader(&node).expect("GB's reader").postgres.clone();
    let running = tokio::spawn(ended(demo.command));
    eventually("the fault is planted", Duration::from_mins(2), || async {
        let replica = database::open(&demo.state, &node, &address).await?;
        replica.batch_execute(PLANT).await.map_err(|error| error.to_string())
    })
    .await;
    let (code, text) = running.await.expect("the demo's task");
    assert!(code.is_some_and(|code| code != 0), "a false replica went unnoticed:\n{text}");
    assert!(text.contains("GB"), "the demo does not say where it failed:\n{text}");
    let _removed = std::fs::remove_dir_all(&demo.state);
}
