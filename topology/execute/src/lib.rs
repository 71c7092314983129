//! The executor of plans: typed steps over a durable journal, every effect through a node's own agent.
//!
//! Invariants: a plan made under another control record is refused; before an effect its step is in the journal; a
//! change of the control record and its entry are one transaction; each step is repeated safely, so that a plan whose
//! executor was killed anywhere goes on with [`Executor::resume`]; one executor at a time, and one that lost the lock
//! writes nothing. Deliberately absent: connections to databases and files of nodes, and any choice of steps – that is
//! the planner's.

mod abandoned;
pub mod audit;
mod calls;
mod crash;
mod ended;
mod entry;
mod error;
mod executor;
mod journal;
mod live;
mod observe;
mod precondition;
mod progress;
mod run;
mod side_by_side;
mod step;
mod supersede;
mod world;

pub use abandoned::abandoned;
pub use calls::{AgentCalls, LOOK_TIMEOUT_MS, chain};
pub use crash::CRASH_POINT_VARIABLE;
pub use ended::Ended;
pub use entry::{Entry, Happened, History, Learnt, Outcome};
pub use error::{ExecuteError, StepError};
pub use executor::{Executor, Finished, PrimaryDead};
pub use journal::{Answer, EtcdJournal, HeldJournal, Journal, Write};
pub use live::LiveWorld;
pub use observe::observe;
pub use progress::{Progress, Report, What};
pub use world::{Call, World, WorldError};
