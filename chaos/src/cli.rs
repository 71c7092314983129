//! The command line.

use clap::{Args, Parser, Subcommand};
use domicile_chaos::crash::Share;
use domicile_chaos::delay::RELAY;
use domicile_chaos::suite::Options;
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes: 0 passed · 1 a promise was broken · 2 NOT RUN: nothing is proven · 64 the command \
                          line is wrong";

/// Does things to a running Domicile, and judges from outside whether it kept what it promised.
#[derive(Parser)]
#[command(name = "domicile-chaos", version, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the experiments
    List,
    /// Say what this machine can do to a system, each thing tried
    Doctor,
    /// Run one experiment
    Run(RunArgs),
    /// Run every experiment of a suite
    Suite(SuiteArgs),
    /// Kill the command of every plan before and after each of its steps, go on with it, and judge
    CrashPoints(CrashArgs),
    /// Judge recorded runs again and write their page
    Report {
        /// The folder that `run` or `suite` wrote
        folder: PathBuf,
    },
    /// Hold each packet for a while: started by this program itself, with a TUN device as standard input
    #[command(name = RELAY, hide = true)]
    Relay {
        /// How long, in milliseconds
        #[arg(long)]
        one_way_ms: u64,
    },
    /// Judge one history against what was observed
    Check {
        /// One event per line, as the recorder writes them
        #[arg(long, value_name = "FILE")]
        history: PathBuf,
        /// What every node holds, as JSON
        #[arg(long, value_name = "FILE")]
        observations: PathBuf,
    },
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// Its name, or a file
    pub(crate) experiment: String,
    /// How often its steps are done, in one run judged as a whole [default: as the file says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeat: Option<u32>,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args)]
pub(crate) struct SuiteArgs {
    /// Its name, such as `smoke`
    pub(crate) suite: String,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args)]
pub(crate) struct CrashArgs {
    /// Every N-th point, beginning at the one that K chooses; another K, such as of a commit, chooses others
    #[arg(long, value_name = "K/N", default_value = "0/1")]
    pub(crate) share: Share,
    /// No further point begins after this many seconds; the rest is not reached
    #[arg(long, value_name = "S", default_value_t = 14_400)]
    within_s: u64,
    /// A topology with manual failover that is up already; it stays up [default: one is brought up and deleted after it]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where the report and the histories are; what it says has passed is not tried again
    #[arg(long, value_name = "DIR", default_value = "target/chaos/crash-points")]
    out: PathBuf,
}

impl CrashArgs {
    pub(crate) fn into_options(self) -> Options {
        Options { seed: 1, state: self.state, out: self.out, within_s: self.within_s }
    }
}

#[derive(Args)]
pub(crate) struct Place {
    /// What chance there is comes from this number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A topology that is up already; it stays up [default: one is brought up for the run and deleted after it]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where histories and reports go; must be new or empty [default: target/chaos/<pid>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Make regions hosts in network namespaces where an experiment asks for it; needs root
    #[arg(long)]
    pub(crate) netns: bool,
    /// No further experiment begins after this many seconds
    #[arg(long, value_name = "S", default_value_t = 480)]
    within_s: u64,
}

impl Command {
    /// Whether the program has to run in a router's namespace.
    pub(crate) fn wants_namespaces(&self) -> bool {
        match self {
            Self::Run(args) => args.place.netns,
            Self::Suite(args) => args.place.netns,
            _ => false,
        }
    }
}

impl Place {
    pub(crate) fn into_options(self) -> Options {
        let out = self
            .out
            .unwrap_or_else(|| PathBuf::from(format!("target/chaos/{}", std::process::id())));
        Options { seed: self.seed, state: self.state, out, within_s: self.within_s }
    }
}
