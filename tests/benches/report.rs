//! The table, and the same as JSON under `target/bench/`.

use crate::haproxy;
use crate::load::Run;
use domicile_service::clock::{Clock, SystemClock};
use domicile_tests::cluster::postgres_bin;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// One run and the time that its server spent on the CPU for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// What the callers saw.
    pub(crate) run: Run,
    /// Microseconds of the server's processes, all together.
    pub(crate) cpu_us: u64,
}

/// What rows are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Yardstick {
    per_s: f64,
    cpu_us: f64,
}

/// Collects what was measured and prints it as it comes.
pub(crate) struct Report {
    section: String,
    rows: Vec<Value>,
    notes: Vec<String>,
}

/// How to read the table; the first lines of what a quoted figure has to carry along.
const HONESTY: &str = "\
One machine for everything: load generator, servers, all Postgres nodes, etcd. Loopback, no WAN, one reader's jurisdiction
under load. Closed loop, so p99 is the queue at saturation. Each figure is the median of the runs; yardstick and subject took
turns. `cpu us` is the servers' time on the CPU per request (generator and pgbench excluded): the figure that a busy machine
disturbs least. pgbench speaks no HTTP and no TLS; Domicile's rows do, checks the token, and the reader has verified what it
serves. A played round also moves a seed chain, looks for a stored answer, draws, seals, signs a receipt, is sequenced into the
log and decoded for the readers; the yardstick's rows are inserted in tables of their own and nothing follows.";

impl Report {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { section: String::new(), rows: Vec::new(), notes: Vec::new() }
    }

    /// Begins a section.
    pub(crate) fn section(&mut self, title: &str) {
        title.clone_into(&mut self.section);
        println!("\n{title}");
        println!(
            "  {:<44} {:>7} {:>10} {:>9} {:>9} {:>8} {:>7} {:>7}",
            "", "callers", "per s", "p50 ms", "p99 ms", "cpu us", "rate", "cpu"
        );
    }

    /// The row that others are compared with.
    pub(crate) fn yardstick(
        &mut self,
        name: &str,
        callers: usize,
        samples: &[Sample],
    ) -> Yardstick {
        let own = Yardstick { per_s: rate(samples), cpu_us: cpu_per_request(samples) };
        self.row(name, callers, samples, own);
        own
    }

    /// A row with its ratios: rate over the yardstick's, time on the CPU over the yardstick's.
    pub(crate) fn row(
        &mut self,
        name: &str,
        callers: usize,
        samples: &[Sample],
        yardstick: Yardstick,
    ) {
        let (per_s, cpu_us) = (rate(samples), cpu_per_request(samples));
        let ms = |us: fn(&Sample) -> u32| median(samples.iter().map(|s| f64::from(us(s)) / 1000.0));
        let (p50_ms, p99_ms) = (ms(|s| s.run.p50_us), ms(|s| s.run.p99_us));
        let (rate_ratio, cpu_ratio) = (per_s / yardstick.per_s, cpu_us / yardstick.cpu_us);
        println!(
            "  {name:<44} {callers:>7} {per_s:>10.0} {p50_ms:>9.2} {p99_ms:>9.2} {cpu_us:>8.0} \
             {rate_ratio:>6.2}x {cpu_ratio:>6.2}x"
        );
        let runs: Vec<f64> = samples.iter().map(|sample| sample.run.per_s.round()).collect();
        self.rows.push(json!({
            "section": self.section, "name": name, "callers": callers, "per_s": per_s.round(),
            "runs_per_s": runs, "p50_ms": p50_ms, "p99_ms": p99_ms, "cpu_us": cpu_us,
            "rate_ratio": rate_ratio, "cpu_ratio": cpu_ratio,
        }));
    }

    /// Something to be said beside the figures.
    pub(crate) fn note(&mut self, text: String) {
        println!("  {text}");
        self.notes.push(text);
    }

    /// Prints where and how this was measured, and writes the JSON.
    pub(crate) fn finish(self) {
        let machine = machine();
        println!("\n{HONESTY}\n");
        for (what, value) in machine.as_object().into_iter().flatten() {
            println!("  {what:<10} {}", value.as_str().unwrap_or_default());
        }
        let at = SystemClock.now_unix_s();
        let all =
            json!({ "unix_s": at, "machine": machine, "rows": self.rows, "notes": self.notes });
        let target = std::env::current_exe().expect("our own path");
        let folder = target.ancestors().nth(3).expect("target").join("bench");
        std::fs::create_dir_all(&folder).expect("target/bench");
        let file = folder.join(format!("{at}.json"));
        std::fs::write(&file, format!("{all:#}\n")).expect("write the results");
        println!("  {:<10} {}", "written", file.display());
    }
}

fn rate(samples: &[Sample]) -> f64 {
    median(samples.iter().map(|sample| sample.run.per_s))
}

fn cpu_per_request(samples: &[Sample]) -> f64 {
    median(samples.iter().map(|sample| sample.cpu_us as f64 / sample.run.count as f64))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn machine() -> Value {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = read("/proc/cpuinfo", "model name");
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({
        "processor": format!("{cores} x {model}"),
        "memory": read("/proc/meminfo", "MemTotal"),
        "load": format!("{} after the last run", load.split(' ').next().unwrap_or_default()),
        "postgres": said(&postgres_bin().join("postgres"), "--version"),
        "haproxy": said(&haproxy::program(), "-v"),
        "rust": said(Path::new("rustc"), "--version"),
    })
}

fn read(file: &str, key: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
}

fn said(program: &Path, option: &str) -> String {
    let output = Command::new(program).arg(option).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or("not found").to_owned()
}
