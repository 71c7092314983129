//! `make bench`: a real cluster of release builds beside the yardsticks, in one run on one machine.
//!
//! Yardstick and subject take turns (A B A B …), each figure is the median of short runs, and a run with a
//! single unexpected answer, or without a synchronous standby, is no run. The server's time on the CPU per
//! request is the figure that a busy machine disturbs least.
//! Deliberately absent: open-loop latency. Every p99 here is at saturation.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a benchmark prints figures and stops when one cannot be trusted"
)]
#![expect(clippy::doc_markdown, reason = "HAProxy is a name")]

mod cpu;
mod haproxy;
mod load;
mod pgbench;
mod proofs;
mod report;
mod rounds;
mod scene;
mod tokens;
mod wallets;
mod wire;

use futures_util::FutureExt;
use report::Report;
use scene::Scene;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// How long the cluster may take to stand.
const SCENE_WITHIN: Duration = Duration::from_mins(2);
/// How long the section of the writer may take.
const WRITER_WITHIN: Duration = Duration::from_mins(4);
/// How long each section of proofs may take.
const PROOFS_WITHIN: Duration = Duration::from_secs(90);

/// How long the section of wallets may take.
const WALLETS_WITHIN: Duration = Duration::from_mins(4);

#[tokio::main]
async fn main() {
    // `cargo bench` passes its own flags; a bare word chooses sections.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let chosen = |section: &str| wanted.is_empty() || wanted.iter().any(|word| word == section);
    println!("bench: starting a cluster of release builds");
    let mut report = Report::new();
    let mut scene =
        tokio::time::timeout(SCENE_WITHIN, Scene::set()).await.expect("the cluster stands");
    // The proofs that are read later are of rounds settled here.
    let writer = rounds::measure(&mut scene, &mut report, chosen("writer"));
    let mut missing = vec![section("writer", WRITER_WITHIN, writer).await];
    if chosen("reader") {
        let reader = proofs::at_the_reader(&scene, &mut report);
        missing.push(section("reader", PROOFS_WITHIN, reader).await);
    }
    if chosen("router") {
        let router = proofs::through_the_router(&scene, &mut report);
        missing.push(section("router", PROOFS_WITHIN, router).await);
    }
    if chosen("wallets") {
        let wallets = wallets::measure(&scene, &mut report);
        missing.push(section("wallets", WALLETS_WITHIN, wallets).await);
    }
    drop(scene);
    for reason in missing.iter().flatten() {
        report.note(reason.clone());
    }
    report.finish();
    assert!(missing.iter().all(Option::is_none), "a section is NOT RUN");
}

/// Runs a section to its end or its limit; why it is NOT RUN, if so. The others go on.
async fn section(
    name: &str,
    within: Duration,
    measuring: impl Future<Output = ()>,
) -> Option<String> {
    let measuring = AssertUnwindSafe(measuring).catch_unwind();
    let reason = match tokio::time::timeout(within, measuring).await {
        Ok(Ok(())) => return None,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
        }
        Err(_elapsed) => format!("not done after {} s", within.as_secs()),
    };
    println!("  {name}: NOT RUN: {reason}");
    Some(format!("{name}: NOT RUN: {reason}"))
}
