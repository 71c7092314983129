//! The operations that move the writer: drain, demote, promote, rejoin, and what a second observer is asked.
//!
//! Like every operation of an agent, each is idempotent and answers with what it observed afterwards.

use crate::member::Member;
use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::ids::{BetId, Jurisdiction, NodeId, OperatorId, RoundId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// `POST /v1/checkpoint`: no parameters. Shortens the stop or the promotion that follows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointRequest {}

/// What `checkpoint` observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointAnswer {
    /// The control file's latest checkpoint afterwards.
    pub checkpoint_lsn: Lsn,
}

/// `POST /v1/slot`: makes the slot that a future standby will stream from. Works on a standby too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRequest {
    /// Who will stream from it.
    pub member: Member,
}

/// What `slot` observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotAnswer {
    /// Made now; false: it was there.
    pub created: bool,
}

/// `POST /v1/demote`: the primary finishes what is in flight, stops cleanly and becomes a standby in waiting.
///
/// Refused unless the control record names this node, at this epoch, with writes closing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoteRequest {
    /// The epoch that ends.
    pub epoch: Epoch,
    /// The node that will be primary.
    pub source: NodeId,
    /// What this node will present itself as.
    pub member: Member,
    /// How long the writer may take to finish, milliseconds. Later nothing is changed and the answer is a timeout.
    pub drain_timeout_ms: u64,
}

/// What `demote` observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoteAnswer {
    /// Demoted now; false: it was.
    pub demoted: bool,
    /// The end of the write-ahead log: the shutdown checkpoint. The new primary must have replayed it.
    pub end_lsn: Lsn,
    /// The timeline it ended on.
    pub timeline: u32,
    /// Writer processes that said nothing while the others finished, frozen or cut off: their sessions were ended.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub silent_writers: BTreeSet<String>,
}

/// `POST /v1/demote/undo`: the move is called off before the new epoch; the node is primary again.
///
/// Refused unless the control record still names this node at this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoDemoteRequest {
    /// The epoch that goes on.
    pub epoch: Epoch,
}

/// What `demote/undo` observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoDemoteAnswer {
    /// Started as primary again now; false: it ran as primary.
    pub restored: bool,
}

/// `POST /v1/promote`: the standby becomes primary of the epoch that the control record gives it.
///
/// What its commits wait for (a member, or nobody) is taken from the record and in force before the promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// The new epoch; it must be the control record's, and the record must name this node.
    pub epoch: Epoch,
}

/// What `promote` observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromoteAnswer {
    /// Promoted now; false: it was primary.
    pub promoted: bool,
    /// The new timeline.
    pub timeline: u32,
    /// Where the new timeline begins.
    pub begin_lsn: Lsn,
}

/// `POST /v1/rejoin`: a ledger node that the record does not name becomes a standby of the one it does.
///
/// A node that stopped cleanly (demoted) starts; one that went another way is rewound, exactly once, or cloned. Before
/// anything of a diverged tail is thrown away it is extracted and kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejoinRequest {}

/// How a node came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejoined {
    /// It streams already.
    Unchanged,
    /// Started as it was.
    Started,
    /// Rewound to where the histories part.
    Rewound,
    /// Copied anew.
    Cloned,
}

/// What `rejoin` observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejoinAnswer {
    /// How.
    pub how: Rejoined,
    /// The node it follows.
    pub source: NodeId,
    /// What it presents itself as, for `sync` and for the control record.
    pub member: Member,
    /// What was kept of a tail that the new history does not have.
    pub orphans: Option<OrphanTail>,
}

/// `GET /v1/orphans`: every tail kept on this node, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphansAnswer {
    /// The tails.
    pub tails: Vec<OrphanTail>,
}

/// Rows of a returned primary that the new history lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanTail {
    /// The epoch the node last wrote in.
    pub epoch: Epoch,
    /// Where the histories part.
    pub fork_lsn: Lsn,
    /// Where the kept copy lies on the node, with every row, one JSON object a line.
    pub file: String,
    /// Rounds that the new history lacks, has in an earlier state, or has without a bet: the first of them …
    pub rounds: Vec<OrphanRound>,
    /// … and how many more there are. Only the file names those.
    #[serde(default)]
    pub unnamed_rounds: u64,
    /// All rounds, added up.
    #[serde(default)]
    pub totals: Vec<OrphanTotal>,
    /// Rows kept, by table.
    #[serde(default)]
    pub rows: BTreeMap<String, u64>,
    /// Tables that could not be compared: what is lost of them is not known.
    #[serde(default)]
    pub uncompared: Vec<String>,
}

/// What a jurisdiction's and operator's part of an orphan tail comes to, per currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanTotal {
    /// The jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// The operator.
    pub operator: OperatorId,
    /// The currency.
    pub currency: String,
    /// Rounds.
    pub rounds: u64,
    /// Bets that the new history lacks.
    pub bets: u64,
    /// Their stakes, micro-units of the currency.
    pub stake_micro: u64,
}

/// `POST /v1/orphans/bet`: what is kept of one bet, to match its receipt with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrphanBetRequest {
    /// Whose it is.
    pub jurisdiction: Jurisdiction,
    /// Its round.
    pub round: RoundId,
    /// The bet.
    pub bet: BetId,
}

/// What `orphans/bet` found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OrphanBetAnswer {
    /// The rows; `None` when this node keeps no such bet.
    pub found: Option<OrphanBet>,
}

/// What the kept rows say about one bet. Binary values are as Postgres writes them in JSON, `\\x` and hexadecimal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrphanBet {
    /// Its private record, the exact text.
    pub record: String,
    /// The salt of the record's commitment.
    pub salt: String,
    /// Its round, where that is an orphan too.
    pub ground: Option<OrphanGround>,
    /// The leaf of an instant play, or the one that settled its round.
    pub leaf: Option<String>,
    /// The transaction that took its stake at the operator's wallet, as its row.
    pub wallet: Option<serde_json::Value>,
}

/// Asks for the wins that tails have asked wallets for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrphanWinsRequest {
    /// The bets; [`super::limits::MAX_WIN_BETS`] at most.
    pub bets: Vec<BetId>,
}

/// What `orphans/wins` found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanWinsAnswer {
    /// The wins.
    pub wins: Vec<OrphanWin>,
    /// Whether wallet transactions of some tail could not be compared, so that there may be more.
    pub is_partial: bool,
}

/// A win that a tail has asked a wallet for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrphanWin {
    /// The bet.
    pub bet: BetId,
    /// The transaction.
    pub id: String,
    /// How it stood: `done` where the wallet had said so.
    pub state: String,
    /// How much.
    pub amount_micro: i64,
}

/// What a bet was placed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrphanGround {
    /// `play` or `round`.
    pub kind: String,
    /// The game.
    pub game: String,
    /// Its parameters.
    pub params: String,
    /// The state in the tail.
    pub state: String,
}

/// One round of an orphan tail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanRound {
    /// Whose it is.
    pub jurisdiction: Jurisdiction,
    /// The round or play.
    pub id: RoundId,
    /// The operator.
    pub operator: OperatorId,
    /// The currency of its stakes.
    pub currency: String,
    /// Its state in the orphan tail.
    pub state: String,
    /// Its bets that the new history lacks.
    pub bets: u32,
    /// Their stakes, micro-units of the currency.
    pub stake_micro: u64,
}

/// `GET /v1/alive`: answered at once, whatever the node's Postgres does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliveAnswer {
    /// The node whose agent answers.
    pub node: NodeId,
    /// How long its Postgres, which is to be primary, has written nothing to its log, milliseconds: a few beats when it
    /// works, and ever longer when it is frozen, its disk hangs, or it does not come up. `None` when it is no primary.
    #[serde(default)]
    pub quiet_ms: Option<u64>,
}

/// `POST /v1/observe`: what this node can see of another one: the second observer's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObserveRequest {
    /// The ledger node in doubt.
    pub node: NodeId,
}

/// What `observe` found within its short time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObserveAnswer {
    /// Its agent answered.
    pub agent_reachable: bool,
    /// Rows from it arrive here; `None` when this node does not stream from it.
    pub stream_alive: Option<bool>,
    /// What its agent says of its Postgres, as in [`AliveAnswer`].
    #[serde(default)]
    pub quiet_ms: Option<u64>,
}

/// `POST /v1/slots/drop`: drops a reader's slots on the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropSlotsRequest {
    /// The reader.
    pub reader: NodeId,
}

/// What `slots/drop` observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropSlotsAnswer {
    /// The slots dropped now.
    pub dropped: Vec<String>,
}
