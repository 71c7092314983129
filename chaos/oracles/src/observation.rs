//! What exists after a run, as looked up on every node by somebody who needs no service for it.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Something that an operation brought about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// Its name, such as `bet/0198…`.
    pub effect: String,
    /// SHA-256 over the same fields that the client hashed.
    pub digest: String,
    /// What it shows of the key that asked for it.
    pub tag: Option<String>,
    /// Whose it is.
    pub jurisdiction: String,
}

/// One log on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldLog {
    /// Index and leaf hash (hex), in the order of the index.
    pub leaves: Vec<(u64, String)>,
    /// Leaves whose hash is not the hash of their bytes.
    pub leaves_altered: u64,
    /// Every checkpoint's note.
    pub checkpoints: Vec<String>,
}

/// What a node is allowed to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holder {
    /// All jurisdictions.
    Ledger,
    /// These only.
    Reader(BTreeSet<String>),
}

impl Holder {
    /// Whether a row of this jurisdiction belongs here.
    pub fn may_hold(&self, jurisdiction: &str) -> bool {
        match self {
            Self::Ledger => true,
            Self::Reader(own) => own.contains(jurisdiction),
        }
    }
}

/// One node, after the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// The node.
    pub node: String,
    /// What it may hold.
    pub holder: Holder,
    /// The effects of the run's operations found here; one that is there twice is listed twice.
    pub effects: Vec<Effect>,
    /// Every jurisdiction found in any row of any table.
    pub jurisdictions: BTreeSet<String>,
    /// The logs, by `jurisdiction/log epoch`.
    pub logs: BTreeMap<String, HeldLog>,
    /// The epochs opened, with their writer's node; empty on readers.
    pub epochs: Vec<(u64, String)>,
    /// What the database server wrote during the run.
    pub server_log: Vec<String>,
}

/// A bet as a ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stake {
    /// The bet.
    pub bet: String,
    /// The currency.
    pub currency: String,
    /// The jurisdiction.
    pub jurisdiction: String,
    /// What was staked.
    pub stake_micro: i64,
    /// What was paid, once it was.
    pub payout_micro: Option<i64>,
    /// Where its round stands.
    pub round: String,
}

/// A transaction as the wallet has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booked {
    /// `bet`, `win` or `rollback`.
    pub call: String,
    /// Its id.
    pub id: String,
    /// The stake that a win or rollback ends.
    pub reference: Option<String>,
    /// The ledger's bet.
    pub bet: String,
    /// The currency.
    pub currency: String,
    /// How much.
    pub amount_micro: i64,
    /// How often its money moved.
    pub times: u32,
}

/// The wallet of the run's operator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wallet {
    /// Every transaction.
    pub entries: Vec<Booked>,
    /// By currency: what players were given to play with.
    pub given_micro: BTreeMap<String, i128>,
    /// By currency: what players have.
    pub balances_micro: BTreeMap<String, i128>,
    /// What it was asked for and no ledger may ask for.
    pub violations: Vec<String>,
    /// Transactions that the ledger has not done with it.
    pub pending: u64,
}

/// The run's money.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Every bet, by ledger node.
    pub ledgers: BTreeMap<String, Vec<Stake>>,
    /// The operator's wallet, where it has one.
    pub wallet: Option<Wallet>,
}

/// Every node of the final epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observations {
    /// One per node.
    pub nodes: Vec<Observation>,
    /// Nodes that could not be looked at, and why. Nothing about them is judged as kept.
    pub unseen: BTreeMap<String, String>,
    /// The run's money.
    #[serde(default)]
    pub money: Money,
}
