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
mod wire;

use report::Report;
use scene::Scene;

#[tokio::main]
async fn main() {
    // `cargo bench` passes its own flags; a bare word chooses sections.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let chosen = |section: &str| wanted.is_empty() || wanted.iter().any(|word| word == section);
    println!("bench: starting a cluster of release builds");
    let mut report = Report::new();
    let mut scene = Scene::set().await;
    // The proofs that are read later are of rounds settled here.
    rounds::measure(&mut scene, &mut report, chosen("writer")).await;
    if chosen("reader") {
        proofs::at_the_reader(&scene, &mut report).await;
    }
    if chosen("router") {
        proofs::through_the_router(&scene, &mut report).await;
    }
    drop(scene);
    report.finish();
}
