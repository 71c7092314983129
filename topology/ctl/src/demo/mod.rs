//! `domicile demo`: the main job, once, through the front doors.
//!
//! An operator and its players talk to the routers over HTTPS, without a certificate, like anybody outside. Every bundle
//! and opening they fetch is written to a file and checked offline against the keys of the published topology; what the
//! proof says is compared with what the player was told. Then the writer's region is killed under load: failover, return,
//! failback, as a drill with its report; the proofs from before must come again byte for byte. Both operators' players
//! play with money in their operators' wallets, also meanwhile; at the end wallets and ledger must agree to the micro-unit.
//! Any difference ends the demo with an error; how long a move took does not.

mod play;
mod summary;
pub(crate) mod wallets;

use crate::agents::Agents;
use crate::cli::DemoArgs;
use crate::credentials::{NewCredential, NewOperator, Writer};
use crate::down;
use crate::drill;
use crate::files;
use crate::layout::Layout;
use crate::operator::Operator;
use crate::outside::Outside;
use crate::status;
use crate::term::{self, Steps};
use crate::up::{self, Cluster, Local};
use crate::wait::{self, Look};
use anyhow::{Context, Result, anyhow, bail};
use domicile_core::games;
use domicile_core::ids::Jurisdiction;
use domicile_service::clock::{Clock, SystemClock};
use domicile_topology::Topology;
use play::{Player, Proven};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use wallets::Simulator;

/// The operator of the demo.
const OPERATOR: &str = "meridian";
/// Those whose players play with money in a wallet: the demo's and the drill's.
const LEDGER_OPERATORS: [&str; 2] = [OPERATOR, drill::OPERATOR];
/// How long every part may take to be well again after the last move.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);
/// Most jurisdictions that players are made for.
const PLAYERS_MAX: usize = 8;

/// The command.
pub(crate) async fn run(state: Option<&Path>, args: DemoArgs) -> Result<u8> {
    let topology = up::document(args.topology.as_deref())?;
    let fresh = std::env::temp_dir().join(format!("domicile-demo-{}", std::process::id()));
    let layout = Layout::locate(Some(state.unwrap_or(&fresh)), None)?;
    if layout.topology_path().exists() {
        bail!("{} holds a topology already; the demo starts a fresh one", layout.root().display());
    }
    let steps = Steps::start();
    let result = tokio::select! {
        result = whole(topology, &layout, &args, &steps) => result,
        error = interrupted() => Err(error),
    };
    if args.keep {
        term::note(format_args!(
            "\nstill up; `domicile down --purge --state {}` ends it",
            layout.root().display()
        ))?;
        return result.map(|()| 0);
    }
    Steps::heading("Cleaning up")?;
    let clean = down::all(&layout, &steps).await;
    if let Err(error) = result {
        term::note(format_args!("\nthe logs are kept in {}", layout.nodes().display()))?;
        return Err(error);
    }
    if !clean? {
        bail!("a process had to be killed; its logs are kept in {}", layout.nodes().display());
    }
    down::purge(&layout)?;
    Ok(0)
}

/// Ends when the person, or whoever runs us, wants to stop; what was started is stopped then.
async fn interrupted() -> anyhow::Error {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => return anyhow!(error).context("cannot listen for signals"),
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => anyhow!("interrupted"),
        _ = terminate.recv() => anyhow!("terminated"),
    }
}

async fn whole(topology: Topology, layout: &Layout, args: &DemoArgs, steps: &Steps) -> Result<()> {
    let began_unix_ms = SystemClock.now_unix_ms();
    let local = up::whole(topology, layout.clone(), steps).await?;
    Steps::heading("Rounds")?;
    let starting = wallets::start(&local.topology, layout);
    let simulators = steps.run("operators' wallets", starting).await?.1;
    let (players, proven) = rounds(&local, &simulators, args, steps).await?;
    Steps::heading("The writer's region dies under load, and comes back")?;
    // Beside the state folder, which is deleted at the end.
    let report = std::env::temp_dir().join(format!("domicile-demo-report-{}", std::process::id()));
    drill::demonstrate(layout, report).await?;
    Steps::heading("Result")?;
    let unchanged = unchanged(layout, &players, &proven);
    steps.run("the same proofs from after the failover", unchanged).await?;
    let outside = Outside::new(layout)?;
    let audit = steps.run("money is conserved", wallets::drained(layout)).await?.1;
    let money = wallets::compare(&simulators, &audit, &outside).await?;
    let report = healthy(&local).await?;
    term::say(summary::render(&report, &local.topology, &proven))?;
    term::say(format_args!("\n{money}"))?;
    wallets::reconcile(&simulators, layout, &outside, began_unix_ms).await?;
    if args.keep {
        up::addresses(&local)?;
    }
    term::note(format_args!("\ndone after {}", term::elapsed(steps.total())))
}

/// Every proof fetched before, byte for byte: a settled round's bundle never changes, wherever the writer is.
async fn unchanged(layout: &Layout, players: &[Player], proven: &[Proven]) -> Result<String> {
    let folder = proofs(layout);
    for proof in proven {
        let player = players.iter().find(|player| player.jurisdiction == proof.jurisdiction);
        player.context("a round without a player")?.same_proof(&folder, proof.round).await?;
    }
    Ok(format!("{} bundles, byte for byte", proven.len()))
}

/// The topology's state, once every part has settled after the moves.
async fn healthy(local: &Local) -> Result<status::Report> {
    let agents = Agents::new(&local.layout)?;
    let control = Cluster::connect(&local.topology, &local.layout)?;
    wait::until("a healthy topology", HEALTHY_WITHIN, || async {
        let report = status::observe(&local.topology, &agents, &control).await;
        if report.healthy { Look::Done(report) } else { Look::NotYet(report.problems.join("; ")) }
    })
    .await
}

/// Where the demo keeps the proofs.
fn proofs(layout: &Layout) -> PathBuf {
    layout.root().join("proofs")
}

/// The rounds of every player, then one round that they all share.
async fn rounds(
    local: &Local,
    simulators: &[Simulator],
    args: &DemoArgs,
    steps: &Steps,
) -> Result<(Vec<Player>, Vec<Proven>)> {
    let topology = &local.topology;
    let outside = Outside::new(&local.layout)?;
    let jurisdictions: Vec<Jurisdiction> =
        topology.jurisdictions.iter().take(PLAYERS_MAX).map(|policy| policy.code.clone()).collect();
    let registering = register(local, &outside, &jurisdictions);
    let operator = steps.run(format_args!("operator {OPERATOR}"), registering).await?.1;
    let connecting = connect(local, simulators, &jurisdictions);
    steps.run("their players' money in the wallets", connecting).await?;
    let folder = proofs(&local.layout);
    files::folder(&folder, files::MODE_FOLDER_PUBLIC)?;

    let mut players = Vec::new();
    for jurisdiction in &jurisdictions {
        let title = format!("a player in {jurisdiction} opens a session");
        players.push(
            steps.run(title, Player::open(topology, &outside, &operator, jurisdiction)).await?.1,
        );
    }
    let mut proven = Vec::new();
    for player in &mut players {
        for number in 1..=args.plays {
            let title = format!("{}: play {number}", player.jurisdiction);
            let round = steps.run(title, player.play(number)).await?.1;
            proven.push((player.jurisdiction.clone(), round));
        }
    }
    let shared = steps.run("one round for all of them", play::shared(&operator, &players)).await?.1;
    proven.extend(shared);
    let mut results = Vec::new();
    for (jurisdiction, round) in proven {
        let player = players.iter().find(|player| player.jurisdiction == jurisdiction);
        let player = player.context("a round without a player")?;
        let title = format!("{jurisdiction}: proof of {} {}", round.kind, round.round);
        results.push(steps.run(title, player.prove(topology, &folder, round)).await?.1);
    }
    Ok((players, results))
}

/// Sets the operators' wallets; the drill's operator is there before the drill, so that it has one.
async fn connect(
    local: &Local,
    simulators: &[Simulator],
    jurisdictions: &[Jurisdiction],
) -> Result<()> {
    let writer = Writer::current(&local.layout).await?;
    let new = new_operator(drill::OPERATOR, jurisdictions);
    let _credential: NewCredential = writer.post("/internal/v1/operators", &new).await?;
    for simulator in simulators {
        simulator.connect(&writer, &local.layout).await?;
    }
    Ok(())
}

fn new_operator(id: &str, jurisdictions: &[Jurisdiction]) -> NewOperator {
    NewOperator {
        id: id.into(),
        name: format!("The demo's {id}"),
        jurisdictions: jurisdictions.iter().map(ToString::to_string).collect(),
        games: games::ALL.iter().map(|game| game.code().to_owned()).collect(),
        allowed_origins: vec!["https://play.example".into()],
        launch_base_url: "https://play.example/launch".into(),
        reason: "the demo's own".into(),
    }
}

async fn register(
    local: &Local,
    outside: &Outside,
    jurisdictions: &[Jurisdiction],
) -> Result<(String, Operator)> {
    let new = new_operator(OPERATOR, jurisdictions);
    let writer = Writer::current(&local.layout).await?;
    let credential: NewCredential = writer.post("/internal/v1/operators", &new).await?;
    let preferred = &local.topology.failover.preferred_region;
    let routers = &local.topology.routers;
    let router = routers.iter().find(|router| router.region == *preferred).or(routers.first());
    let router = router.context("the topology has no router")?;
    let operator = Operator::new(outside.clone(), router.endpoint.to_string(), &credential)?;
    Ok((format!("key {}", credential.key_id), operator))
}
