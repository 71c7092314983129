//! The command line: what can be said, and how each command explains itself.

use crate::admin::cli::{OperatorCommand, RevokeArgs, SessionCommand};
use crate::captcha::CaptchaCommand;
use crate::conservation::ConservationArgs;
use crate::loss::claim::LossCommand;
use crate::moves::cli::{Abandon, Conduct, Print, Resume, Verb};
use crate::operations::OperationsCommand;
use crate::reconcile::ReconcileArgs;
use crate::rounds::{RecoveryArgs, RoundsCommand};
use crate::wallet::WalletCommand;
use clap::{Args, Parser, Subcommand, ValueEnum};
use domicile_core::ids::{NodeId, RegionId};
use std::path::PathBuf;

/// Exit codes that mean the same for every command; `verify` adds its own.
const EXIT_CODES: &str =
    "Exit codes: 0 done · 1 failed, or not healthy · 64 the command line is wrong";

/// Domicile: rounds written once, proven locally.
#[derive(Debug, Parser)]
#[command(name = "domicile", version, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Cli {
    /// State folder of the local topology [default: /var/lib/domicile for root, else ~/.local/state/domicile]
    #[arg(long, value_name = "DIR", env = "DOMICILE_STATE", global = true)]
    pub(crate) state: Option<PathBuf>,
    /// Who acts: a person with a certificate from `domicile pki person` [default: the first person of the state folder]
    #[arg(long = "as", value_name = "NAME", env = "DOMICILE_AS", global = true)]
    pub(crate) person: Option<NodeId>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole path on a fresh topology: rounds, proofs checked offline, a region lost and back, a drill report
    Demo(DemoArgs),
    /// Start a whole topology on this machine; run again, it completes what is missing
    Up(UpArgs),
    /// Stop everything that `up` started
    Down(DownArgs),
    /// Show who does what, how far behind, and how long each log is
    Status(StatusArgs),
    /// Start processes of one node again: `start writer-mt`, `start reader-mt/agent`
    Start(NodeArgs),
    /// Stop processes of one node in order (SIGTERM, then SIGKILL after its time to drain)
    Stop(NodeArgs),
    /// Kill processes of one node at once (SIGKILL): a fault, for tests and drills
    Kill(NodeArgs),
    #[command(flatten)]
    Move(Verb<Conduct>),
    /// Print the plan of a verb, or what is missing for it; nothing is changed
    #[command(subcommand)]
    Plan(Verb<Print>),
    /// Go on with the plan that is under way, from the step where it stopped
    Resume(Resume),
    /// End a stopped plan where it stands, so that another can be made from what is observed then
    Abandon(Abandon),
    /// Rehearse a move of the writer with evidence, and write a signed report
    Drill(DrillArgs),
    /// Say which rounds and how much stake a forced failover has lost, by jurisdiction and operator
    LossStatement(LossArgs),
    /// Receipts of bets that a forced failover has lost
    #[command(subcommand)]
    Loss(LossCommand),
    /// Apply migrations through the agents: readers first, then the ledger
    Migrate(MigrateArgs),
    /// Check a topology document
    #[command(subcommand)]
    Topology(TopologyCommand),
    /// Certificates of the cluster's own authority
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Make the cluster's signing and sealing keys; print the topology with their public halves
    Keys(KeysArgs),
    /// Operators (licensees), their games and credentials
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Players' sessions
    #[command(subcommand)]
    Session(SessionCommand),
    /// The operations log: who did what, when and why
    #[command(subcommand)]
    Operations(OperationsCommand),
    /// Operators' wallets and the transactions with them
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// Timed rounds and their schedules
    #[command(subcommand)]
    Rounds(RoundsCommand),
    /// Say what became of rounds and wallet transactions that the writer found under way
    Recovery(RecoveryArgs),
    /// Captchas that operators' players answer before a session is opened
    #[command(subcommand)]
    Captcha(CaptchaCommand),
    /// Compare an operator's settlement file with the ledger
    Reconcile(ReconcileArgs),
    /// Judge whether money is conserved: stakes = payouts + returned + house + pending, over the whole ledger
    Conservation(ConservationArgs),
    /// Tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Check a proof bundle, or a drill's report, offline, step by step
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Leave the topology running and its data in place
    #[arg(long)]
    pub(crate) keep: bool,
    /// The topology document [default: three regions, jurisdictions MT, DE and GB, ports 7100-7199]
    #[arg(long, value_name = "FILE")]
    pub(crate) topology: Option<PathBuf>,
    /// Plays of each player, besides the shared round
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) plays: u32,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The topology document [default: three regions, jurisdictions MT, DE and GB, ports 7100-7199]
    #[arg(long, value_name = "FILE")]
    pub(crate) topology: Option<PathBuf>,
    /// Only make the folder of this node and start its processes; the cluster's steps are left to another `up`
    #[arg(long, value_name = "NODE")]
    pub(crate) only: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// Delete the state folder too: data, keys, logs
    #[arg(long)]
    pub(crate) purge: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// One JSON document, for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// Again every second, until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// A node (`writer-mt`) or one of its processes (`reader-mt/agent`, `ledger-mt/postgres`)
    pub(crate) node: String,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// What was applied, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `drill`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 every objective met · 1 not · 2 the cluster is not fit for a live drill · 3 called off · \
    64 the command line is wrong\n\nA live failover kills the processes of the writer's region that were started from \
    this state folder; where none were, it fences the former primary without breaking it."
)]
pub(crate) struct DrillArgs {
    /// What is rehearsed; a round trip is failover, rejoin and failback
    #[arg(value_enum)]
    pub(crate) kind: DrillKind,
    /// Only look and plan, or move the writer for real
    #[arg(long, value_enum)]
    pub(crate) mode: DrillMode,
    /// How often, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) cycles: u32,
    /// Where the first cycle goes [default: the other region that may write]
    #[arg(long, value_name = "REGION")]
    pub(crate) to: Option<RegionId>,
    /// Where the control plane's leader is when the region dies; unless as it is, the region's member dies too
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = EtcdLeader::AsIs)]
    pub(crate) etcd_leader: EtcdLeader,
    /// Where the report goes [default: `drills/` in the state folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// The report as JSON on standard output too
    #[arg(long)]
    pub(crate) json: bool,
    /// Ask nothing before a live drill
    #[arg(long, short)]
    pub(crate) yes: bool,
}

impl DrillArgs {
    /// One live round trip, nothing asked.
    pub(crate) fn round_trip(report: PathBuf) -> Self {
        let (kind, mode) = (DrillKind::RoundTrip, DrillMode::Live);
        let (etcd_leader, report) = (EtcdLeader::AsIs, Some(report));
        Self { kind, mode, cycles: 1, to: None, etcd_leader, report, json: false, yes: true }
    }
}

/// What is rehearsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DrillKind {
    Switchover,
    Failover,
    Failback,
    RoundTrip,
}

/// How far a drill goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DrillMode {
    DryRun,
    Live,
}

/// Where the control plane's leader is when a region is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EtcdLeader {
    AsIs,
    WithWriter,
    Elsewhere,
}

impl EtcdLeader {
    /// As it is typed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AsIs => "as-is",
            Self::WithWriter => "with-writer",
            Self::Elsewhere => "elsewhere",
        }
    }
}

impl DrillKind {
    /// As it is typed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::Failover => "failover",
            Self::Failback => "failback",
            Self::RoundTrip => "round-trip",
        }
    }
}

impl DrillMode {
    /// As it is typed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::DryRun => "dry-run",
            Self::Live => "live",
        }
    }
}

/// `loss-statement`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 zero rounds lost · 1 rounds are lost, or a node that may keep a tail does not answer · \
    64 the command line is wrong"
)]
pub(crate) struct LossArgs {
    /// One JSON document, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopologyCommand {
    /// Read the document strictly and report every finding with its line and remedy
    Check {
        /// The TOML document
        file: PathBuf,
        /// The findings as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make the authority, unless it is there
    Init {
        /// The cluster's name, part of every certificate
        #[arg(long)]
        cluster: String,
        /// Where the authority's key and certificate are kept
        #[arg(long, value_name = "DIR")]
        authority: PathBuf,
    },
    /// Issue or renew a certificate: cert.pem, key.pem, ca.pem
    Issue(IssueArgs),
    /// Issue or renew a person's certificate, which says who acts and in which role
    Person(PersonArgs),
    /// Have etcd enforce the roles in certificates
    #[command(
        after_help = "Makes etcd's users and what each role may change, and tells etcd to ask for them; done again, it corrects \
        what differs. `up` does it itself. Elsewhere, run it on the machine that has the authority, once every process was \
        started with a certificate whose common name is its role."
    )]
    Enforce,
}

#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    /// The cluster's name
    #[arg(long)]
    pub(crate) cluster: String,
    /// Where the authority is
    #[arg(long, value_name = "DIR")]
    pub(crate) authority: PathBuf,
    /// What the holder is
    #[arg(long, value_parser = ["agent", "ctl", "dr-lead", "etcd", "operator", "reader", "router", "test", "viewer", "writer"])]
    pub(crate) role: String,
    /// The holder's node
    #[arg(long)]
    pub(crate) node: String,
    /// A host name or address that clients connect to; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    /// Days it is valid
    #[arg(long, default_value_t = crate::pki::CERTIFICATE_DAYS, value_parser = clap::value_parser!(u64).range(1..=825))]
    pub(crate) days: u64,
    /// Where the three files go
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PersonArgs {
    /// The person's name, a lower-case slug; it stands in the operations log
    pub(crate) name: NodeId,
    /// What the person may do: look, administer operators too, or move the writer too
    #[arg(long, value_parser = ["viewer", "operator", "dr-lead"])]
    pub(crate) role: String,
    /// Days it is valid
    #[arg(long, default_value_t = crate::pki::CERTIFICATE_DAYS, value_parser = clap::value_parser!(u64).range(1..=825))]
    pub(crate) days: u64,
    /// Where the three files go [default: `operator/people/NAME` in the state folder, where `--as NAME` finds them]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    /// The topology document
    #[arg(long, value_name = "FILE")]
    pub(crate) topology: PathBuf,
    /// Where the private keys are kept
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Refuse tokens from now on: those of a session, of a player, or of an operator
    Revoke(RevokeArgs),
    /// Sign a token for a regulator: reads every round and opening of one jurisdiction, writes nothing
    Inspector(InspectorArgs),
}

/// What an inspector's token says.
#[derive(Debug, Args)]
pub(crate) struct InspectorArgs {
    /// The jurisdiction
    #[arg(long)]
    pub(crate) jurisdiction: String,
    /// Who it is for, as it appears in audit trails
    #[arg(long)]
    pub(crate) subject: String,
    /// Minutes it is valid, at most 60
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) minutes: u64,
    /// Why; kept in the operations log with who did it
    #[arg(long)]
    pub(crate) reason: String,
}

/// Check a proof bundle, or a drill's report, offline, step by step.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 verified · 1 a step failed · 2 not revealed yet: ask again after the round has \
    ended · 3 a file cannot be read · 64 the command line is wrong\n\nWithout --key or --topology there is nothing to \
    trust: a bundle cannot vouch for itself."
)]
pub(crate) struct VerifyArgs {
    /// The bundle, as the reader serves it
    #[arg(required_unless_present = "report", conflicts_with = "report")]
    pub(crate) file: Option<PathBuf>,
    /// The folder of a drill's report, instead of a bundle: checks its signature and both files
    #[arg(long, value_name = "DIR", conflicts_with_all = ["opening", "topology"])]
    pub(crate) report: Option<PathBuf>,
    /// The opening of one bet: also checks that the bet is in the round, and its payout
    #[arg(long, value_name = "FILE")]
    pub(crate) opening: Option<PathBuf>,
    /// A pinned verifier key, of the log or of receipts; may be repeated
    #[arg(long = "key", value_name = "VKEY", required_unless_present = "topology")]
    pub(crate) keys: Vec<String>,
    /// Take the pinned keys from a topology document
    #[arg(long, value_name = "FILE")]
    pub(crate) topology: Option<PathBuf>,
    /// The report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
