//! What can be said about moving the writer. The same verbs act, and print only, after `plan`.

use clap::{Args, Subcommand};
use domicile_core::ids::{NodeId, RegionId};
use domicile_topology::plan::Intent;

/// Exit codes of every verb.
const EXIT_CODES: &str = "Exit codes: 0 done · 1 failed; `resume` goes on · 2 refused: what is missing is printed · \
    3 called off, the writer is where it was · 64 the command line is wrong";

/// Everything that moves the writer or changes who holds what.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb<C: Args> {
    /// Move the writer to another region, both alive; nothing is lost and no request fails
    #[command(after_help = EXIT_CODES)]
    Switchover(To<C>),
    /// Move the writer away from a region that does not answer
    #[command(after_help = EXIT_CODES)]
    Failover(Failover<C>),
    /// Bring the writer back to the preferred region, restoring redundancy first if need be
    #[command(after_help = EXIT_CODES)]
    Failback(Only<C>),
    /// Make a returned ledger node a standby again: as it is, rewound, or copied anew
    #[command(after_help = EXIT_CODES)]
    Rejoin(Node<C>),
    /// Readers: add, copy anew, remove
    #[command(subcommand)]
    Reader(Reader<C>),
    /// Acknowledge with one copy until redundancy is back; outside the no-loss claim
    #[command(after_help = EXIT_CODES)]
    Degrade(Degrade<C>),
    /// Have a second region confirm every write again, and make it promotable
    #[command(after_help = EXIT_CODES)]
    RestoreDurability(Only<C>),
    /// Let this epoch's logs go on without the word of a reader that is gone
    #[command(after_help = EXIT_CODES)]
    WaiveReader(Waive<C>),
}

/// `reader`.
#[derive(Debug, Subcommand)]
pub(crate) enum Reader<C: Args> {
    /// Give a reader of the topology its data
    #[command(after_help = EXIT_CODES)]
    Add(Node<C>),
    /// Delete a reader's rows and copy them anew
    #[command(after_help = EXIT_CODES)]
    Reseed(Node<C>),
    /// Take a reader's slots away, so that it holds up nobody
    #[command(after_help = EXIT_CODES)]
    Remove(Node<C>),
}

#[derive(Debug, Args)]
pub(crate) struct Only<C: Args> {
    #[command(flatten)]
    conduct: C,
}

#[derive(Debug, Args)]
pub(crate) struct To<C: Args> {
    /// The region that is to write
    #[arg(long, value_name = "REGION")]
    to: RegionId,
    #[command(flatten)]
    conduct: C,
}

#[derive(Debug, Args)]
pub(crate) struct Failover<C: Args> {
    /// The region that is to write
    #[arg(long, value_name = "REGION")]
    to: RegionId,
    /// Go on although acknowledged writes may be lost, and why; kept in the journal and the report
    #[arg(long, value_name = "REASON")]
    accept_data_loss: Option<String>,
    /// A reader that the new writer's log need not be checked against; may be repeated
    #[arg(long = "waive-reader", value_name = "NODE", requires = "accept_data_loss")]
    waived_readers: Vec<NodeId>,
    #[command(flatten)]
    conduct: C,
}

#[derive(Debug, Args)]
pub(crate) struct Node<C: Args> {
    /// The node
    node: NodeId,
    #[command(flatten)]
    conduct: C,
}

#[derive(Debug, Args)]
pub(crate) struct Degrade<C: Args> {
    /// Why; kept in the journal
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    conduct: C,
}

#[derive(Debug, Args)]
pub(crate) struct Waive<C: Args> {
    /// The reader
    node: NodeId,
    /// Why; kept in the journal
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    conduct: C,
}

/// How a verb is carried out.
#[derive(Debug, Clone, Args)]
pub(crate) struct Conduct {
    /// Print the plan and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The plan, and what came of it, as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Ask nothing, also where a typed confirmation is wanted
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// How a plan is printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Print {
    /// The plan, or the refusal, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `resume`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Resume {
    /// What came of it, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `abandon`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Abandon {
    /// The plan, as `domicile status` names it
    pub(crate) plan: String,
    /// Why; kept in the journal
    #[arg(long)]
    pub(crate) reason: String,
    /// Ask nothing
    #[arg(long, short)]
    pub(crate) yes: bool,
}

impl<C: Args> Verb<C> {
    /// What is wanted, and how.
    pub(crate) fn into_parts(self) -> (Intent, C) {
        match self {
            Self::Switchover(To { to, conduct }) => (Intent::Switchover { to }, conduct),
            Self::Failover(Failover { to, accept_data_loss, waived_readers, conduct }) => {
                let waived_readers = waived_readers.into_iter().collect();
                (Intent::Failover { to, accept_data_loss, waived_readers }, conduct)
            }
            Self::Failback(Only { conduct }) => (Intent::Failback, conduct),
            Self::Rejoin(Node { node, conduct }) => (Intent::Rejoin { node }, conduct),
            Self::Reader(Reader::Add(Node { node, conduct })) => {
                (Intent::ReaderAdd { node }, conduct)
            }
            Self::Reader(Reader::Reseed(Node { node, conduct })) => {
                (Intent::ReaderReseed { node }, conduct)
            }
            Self::Reader(Reader::Remove(Node { node, conduct })) => {
                (Intent::ReaderRemove { node }, conduct)
            }
            Self::Degrade(Degrade { reason, conduct }) => (Intent::Degrade { reason }, conduct),
            Self::RestoreDurability(Only { conduct }) => (Intent::RestoreDurability, conduct),
            Self::WaiveReader(Waive { node, reason, conduct }) => {
                (Intent::WaiveReader { node, reason }, conduct)
            }
        }
    }
}
