//! Closed-loop load: so many callers, each on a connection of its own, each with one request at a time.

use crate::cpu::Processes;
use crate::report::Sample;
use crate::wire::{Answer, Connection, Target};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// How long connecting and the last answers may take beyond a run's own time.
const BEYOND: Duration = Duration::from_secs(15);

/// What one caller sends, and what it makes of the answers.
pub(crate) trait Caller: Send + 'static {
    /// What it has to ask before the clock starts.
    fn opening(&self) -> Option<Vec<u8>> {
        None
    }

    /// The next request; none when there is nothing left to ask.
    fn request(&mut self) -> Option<Vec<u8>>;

    /// Takes the answer to it; says whether it counts. Panics at an answer that must not be.
    fn answer(&mut self, answer: &Answer<'_>) -> bool;
}

/// What a run showed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Counted answers per second.
    pub(crate) per_s: f64,
    /// Half of the answers came within this time.
    pub(crate) p50_us: u32,
    /// All but one in a hundred came within this time.
    pub(crate) p99_us: u32,
    /// How many were counted.
    pub(crate) count: usize,
}

impl Run {
    /// From the latencies of everything counted within `elapsed`.
    pub(crate) fn of(mut latencies_us: Vec<u32>, count: usize, elapsed: Duration) -> Self {
        assert!(!latencies_us.is_empty(), "a run without a single answer is no run");
        latencies_us.sort_unstable();
        let at = |percent: usize| latencies_us[(latencies_us.len() - 1) * percent / 100];
        let per_s = count as f64 / elapsed.as_secs_f64();
        Self { per_s, p50_us: at(50), p99_us: at(99), count }
    }
}

/// Runs the callers for `time` and hands them back; `servers` are watched from when all are connected.
/// Ends within a bounded time, or with a panic.
pub(crate) async fn run<C: Caller>(
    target: &Target,
    callers: Vec<C>,
    time: Duration,
    servers: &Processes,
) -> (Sample, Vec<C>) {
    tokio::time::timeout(time + BEYOND, unbounded(target, callers, time, servers))
        .await
        .unwrap_or_else(|_late| panic!("NOT RUN: callers still wait {BEYOND:?} after the run"))
}

async fn unbounded<C: Caller>(
    target: &Target,
    callers: Vec<C>,
    time: Duration,
    servers: &Processes,
) -> (Sample, Vec<C>) {
    let start = Arc::new(Barrier::new(callers.len() + 1));
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        let (target, start) = (target.clone(), Arc::clone(&start));
        tasks.spawn(async move {
            let mut connection = target.open().await;
            if let Some(request) = caller.opening() {
                caller.answer(&connection.exchange(&request).await);
            }
            // Once to say that it is connected, once more to begin.
            start.wait().await;
            start.wait().await;
            let (latencies, last) = call(&mut caller, connection, Instant::now() + time).await;
            (caller, latencies, last)
        });
    }
    tokio::select! {
        _ = start.wait() => {}
        Some(early) = tasks.join_next() => {
            let cause = early.err().expect("no caller ends before the start");
            std::panic::resume_unwind(cause.into_panic());
        }
    }
    let before_us = servers.used_us();
    start.wait().await;
    let started = Instant::now();
    let (mut callers, mut latencies, mut end) = (Vec::new(), Vec::new(), started);
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.unwrap_or_else(|cause| std::panic::resume_unwind(cause.into_panic()));
        let (caller, of_one, last) = ended;
        callers.push(caller);
        latencies.extend(of_one);
        end = end.max(last);
    }
    let cpu_us = servers.used_us() - before_us;
    let count = latencies.len();
    (Sample { run: Run::of(latencies, count, end - started), cpu_us }, callers)
}

/// Latencies in microseconds, and when the last answer came.
async fn call<C: Caller>(
    caller: &mut C,
    mut connection: Connection,
    deadline: Instant,
) -> (Vec<u32>, Instant) {
    let mut latencies = Vec::new();
    let mut sent = Instant::now();
    while sent < deadline {
        let Some(request) = caller.request() else { break };
        sent = Instant::now();
        let counts = caller.answer(&connection.exchange(&request).await);
        let took = sent.elapsed();
        sent += took;
        if counts {
            latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
    }
    (latencies, sent)
}
