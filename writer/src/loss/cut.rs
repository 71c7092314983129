//! The cut: before the first answer of an epoch that began by force, what a lost tail may have revealed is taken out of use.
//!
//! The ledger stands as of the fork, while players may hold answers of the lost tail, and with them the next seeds of their
//! chains. So every session with an open chain is revoked, published, and its chains are closed by the sweep like those of
//! any revoked session, which reveals the rest of their seeds. Operators open new sessions. Every shared round under way is
//! cut off: its seed may have been told, so it takes no bet, is never settled, and is voided ([`crate::floor::void_cut`]).
//! Every stake that was being asked for is undone. What goes back for these is withheld at operators' wallets: the lost
//! tail may have paid their wins there ([`crate::ledger::wallet_jobs::cut`]).
//! Invariants: once per epoch, by whichever process comes first; nothing is served before it is durable.

use crate::ledger::{floor, loss_claims, wallet_jobs};
use crate::limits;
use domicile_core::epoch::Epoch;
use domicile_postgres::Pool;
use domicile_service::telemetry;

/// Makes the cut, if nobody has in this epoch.
pub async fn make(pool: &Pool, epoch: Epoch) -> Result<(), String> {
    let chain = |error: domicile_postgres::Error| telemetry::chain(&error);
    let mut session = pool.session().await.map_err(chain)?;
    let tx = session.begin().await.map_err(chain)?;
    let revoked = loss_claims::cut(&tx, epoch).await.map_err(chain)?;
    let rounds = floor::cut(&tx, epoch).await.map_err(chain)?;
    // In this epoch's first process only: later ones find stakes that are asked for now.
    let stakes = match revoked {
        Some(_) => wallet_jobs::cut(&tx, epoch).await.map_err(|error| telemetry::chain(&error))?,
        None => 0,
    };
    tx.commit(limits::COMMIT_WAIT).await.map_err(|error| telemetry::chain(&error))?;
    if let Some(sessions) = revoked {
        tracing::warn!(%epoch, sessions, rounds, stakes, "after force, sessions of former epochs are revoked and rounds are cut off");
    }
    Ok(())
}
