//! A session's seed chain: made, committed, closed.
//!
//! Invariants: the start is drawn from the operating system and leaves this process sealed only; a chain's
//! commit leaf is enqueued with the chain; its close leaf reveals the start, so it is enqueued by the
//! transaction after which no play can use the chain any more.

use crate::answer::Failure;
use crate::keys::{Keys, SeedOf};
use crate::ledger::WriteError;
use crate::ledger::chains::{self, NewChain, OpenChain};
use crate::limits;
use crate::pending::{self, PendingLeaf};
use domicile_core::epoch::Epoch;
use domicile_core::error::Code;
use domicile_core::ids::{ChainId, GameCode, Jurisdiction, SessionId};
use domicile_core::leaf::{ChainClose, ChainCommit, CloseReason, Leaf};
use domicile_core::limits::CHAIN_DEFAULT_LENGTH;
use domicile_core::lines::Text;
use domicile_core::seed::{Seed, chain_commitment};
use domicile_postgres::Tx;
use domicile_service::ids::IdSource;

/// Whose chain is made, and for what.
#[derive(Debug, Clone)]
pub struct ChainOrder {
    /// Where the session is.
    pub jurisdiction: Jurisdiction,
    /// The session.
    pub session: SessionId,
    /// The chain's number within the session, from 0.
    pub ordinal: i32,
    /// The game.
    pub game: GameCode,
    /// The game's parameters.
    pub params: String,
}

/// Draws a new chain: its row and its commit leaf.
pub fn create(
    order: ChainOrder,
    keys: &Keys,
    ids: &IdSource,
) -> Result<(NewChain, PendingLeaf), Failure> {
    let internal = |error: &dyn std::error::Error| Failure::because(Code::Internal, error);
    let id = ChainId(ids.uuid_v4());
    let start = Seed::new(ids.bytes());
    let length = CHAIN_DEFAULT_LENGTH;
    let commitment = chain_commitment(&start, length).map_err(|error| internal(&error))?;
    let leaf = Leaf::ChainCommit(ChainCommit {
        jurisdiction: order.jurisdiction.clone(),
        chain: id,
        game: order.game.clone(),
        params: Text::parse(&order.params).map_err(|error| internal(&error))?,
        length,
        commitment,
    });
    let chain = NewChain {
        jurisdiction: order.jurisdiction,
        id,
        session: order.session,
        ordinal: order.ordinal,
        game: order.game,
        params: order.params,
        length,
        commitment,
        seed_sealed: keys.seal_seed(SeedOf::Chain(id), &start)?,
    };
    Ok((chain, PendingLeaf::new(ids.uuid_v7(), id.0, &leaf)))
}

/// Whether the play at `position` is the one that commits the next chain.
pub const fn is_rollover(length: u32, position: u32) -> bool {
    position.saturating_add(limits::CHAIN_ROLLOVER_PLAYS) == length
        || (length <= limits::CHAIN_ROLLOVER_PLAYS && position == 0)
}

/// A chain that ends.
#[derive(Debug)]
pub struct Ended<'a> {
    /// The chain.
    pub id: ChainId,
    /// Where its commitment stands in the log.
    pub commit_index: u64,
    /// Plays it served.
    pub plays: u32,
    /// Its start.
    pub start: &'a Seed,
}

impl Ended<'_> {
    /// The chain's terminal leaf: it reveals every seed that was not played.
    pub fn leaf(
        &self,
        jurisdiction: Jurisdiction,
        reason: CloseReason,
        ids: &IdSource,
    ) -> PendingLeaf {
        let leaf = Leaf::ChainClose(ChainClose {
            jurisdiction,
            commit_index: self.commit_index,
            plays: self.plays,
            seed: *self.start.as_bytes(),
            reason,
        });
        PendingLeaf::new(ids.uuid_v7(), self.id.0, &leaf)
    }
}

/// Why a session's chains could not be closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// The ledger did not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A seed could not be opened.
    #[error("a chain's seed could not be opened")]
    Seed(Failure),
}

impl From<domicile_postgres::Error> for CloseError {
    fn from(error: domicile_postgres::Error) -> Self {
        Self::Write(error.into())
    }
}

/// Closes the open chains of a session whose commitment is sequenced; says how many. The others are left
/// to the sweep: a terminal leaf refers to its commitment by index.
pub async fn close_of_session(
    tx: &Tx<'_>,
    epoch: Epoch,
    (jurisdiction, session): (&Jurisdiction, SessionId),
    reason: CloseReason,
    (keys, ids): (&Keys, &IdSource),
) -> Result<usize, CloseError> {
    let mut closed = Vec::new();
    let mut leaves = Vec::new();
    for chain in chains::lock_open(tx, jurisdiction, session).await? {
        let OpenChain { id, plays, commit_index: Some(index), .. } = chain else { continue };
        let start =
            keys.open_seed(SeedOf::Chain(id), &chain.seed_sealed).map_err(CloseError::Seed)?;
        let ended = Ended { id, commit_index: index, plays, start: &start };
        leaves.push(ended.leaf(chain.jurisdiction, reason, ids));
        closed.push(id);
    }
    if closed.is_empty() {
        return Ok(0);
    }
    chains::close(tx, epoch, jurisdiction, &closed).await?;
    pending::enqueue(tx, epoch, &leaves).await?;
    Ok(closed.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_chain_is_committed_exactly_once_and_before_the_end() {
        for length in [1, 63, 64, 65, 512] {
            let rollovers: Vec<_> = (0..length).filter(|p| is_rollover(length, *p)).collect();
            assert_eq!(rollovers.len(), 1, "length {length}");
            assert_eq!(rollovers[0], length.saturating_sub(limits::CHAIN_ROLLOVER_PLAYS));
        }
    }
}
