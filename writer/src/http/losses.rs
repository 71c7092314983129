//! Receipts of lost bets are handed in, by operators and by the cluster's own command line.

use super::admin::by;
use super::{Incoming, Operation, parse};
use crate::answer::{Failure, Handled, Reply};
use crate::change::{self, Once};
use crate::engine::Engine;
use crate::ledger::loss_claims;
use crate::ledger::requests::RequestId;
use crate::limits;
use crate::loss::{Claim, Claimant};
use crate::operations;
use domicile_core::error::Code;
use domicile_core::ids::{Jurisdiction, RequestKey};
use domicile_topology::agent_api::OrphanBet;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

/// What an operator sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileBody {
    /// Makes the request repeatable.
    pub(super) request_id: Option<RequestKey>,
    /// The signed receipt.
    pub(super) receipt: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimBody {
    receipt: String,
    kept: Option<OrphanBet>,
    #[serde(default)]
    refund: bool,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListBody {
    #[serde(default)]
    filed: bool,
    after: Option<After>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    jurisdiction: Jurisdiction,
    bet: Uuid,
}

pub(super) async fn handle(engine: &Engine, operation: Operation, incoming: &Incoming) -> Handled {
    match operation {
        Operation::ClaimLoss => claim(engine, incoming).await,
        Operation::ListLosses => list(engine, &parse(&incoming.body)?).await,
        _ => Err(Failure::new(Code::NotFound)),
    }
}

/// A person's claim: looked at anew each time, and decided once by its own row.
async fn claim(engine: &Engine, incoming: &Incoming) -> Handled {
    let body: ClaimBody = parse(&incoming.body)?;
    let by = by(incoming, &body.reason)?;
    let claim = Claim::new(engine, body.receipt, Claimant::Person(by))?;
    let claim = Claim { kept: body.kept, refund: body.refund, ..claim };
    let key = engine.ids.uuid_v7().to_string();
    let (method, path) = (incoming.head.method.as_str(), incoming.head.uri.path());
    let id = RequestId::new("loss".to_owned(), key, method, path, &incoming.body);
    carry_out(engine, &Once { id, repeatable: false }, &claim).await
}

/// Honours the receipt, and lets the wallets' worker know.
pub(super) async fn carry_out(engine: &Engine, once: &Once, claim: &Claim) -> Handled {
    let handled = change::execute(engine, once, claim).await;
    operations::told(engine);
    engine.money.wake();
    handled
}

async fn list(engine: &Engine, body: &ListBody) -> Handled {
    let after = body.after.as_ref();
    let after = after.map_or(("", Uuid::nil()), |after| (after.jurisdiction.as_str(), after.bet));
    let session = engine.hands.session().await?;
    let claims = loss_claims::list(&*session, body.filed, after, limits::LOSS_LIST_CLAIMS).await?;
    drop(session);
    engine.acknowledge(Reply::json(200, &json!({ "claims": claims }))).await
}
