//! Operators' credentials: issued, rotated with an overlap, withdrawn at once.
//!
//! Invariants: a secret is drawn here, stored sealed and told once; what is entered into the operations log names the
//! key and never the secret. Every writer process goes by a change within the age of its directory.

use super::operators::not_written;
use crate::answer::{Acknowledged, Failure, Handled, Reply, Verdict};
use crate::directory::seal_context;
use crate::engine::Engine;
use crate::ledger::WriteError;
use crate::ledger::{operator_desk, operators};
use crate::limits;
use crate::operations::{self, Entry, MadeBy};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domicile_core::error::Code;
use domicile_core::ids::OperatorId;
use domicile_postgres::Tx;
use serde_json::json;
use zeroize::Zeroizing;

/// Adds a credential; the others stay as they are, or end after `overlap_s`.
pub async fn add(
    engine: &Engine,
    operator: &OperatorId,
    overlap_s: Option<u64>,
    by: &MadeBy,
) -> Handled {
    if overlap_s.is_some_and(|overlap| !limits::OVERLAP_S.contains(&overlap)) {
        return Err(Failure::with(Code::MalformedBody, "overlap_s is 1-604800"));
    }
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    if !operators::exists(&tx, operator).await? {
        tx.rollback().await?;
        drop(session);
        return engine.acknowledge(Err(Failure::new(Code::NotFound))).await;
    }
    if let Some(overlap_s) = overlap_s {
        let end_unix_s = engine.clock.now_unix_s().saturating_add(overlap_s);
        let ending = operator_desk::end_credentials(&tx, engine.epoch, operator, end_unix_s);
        let ending = ending.await?;
        let after = Some(json!({ "ending": ending, "not_after_unix_s": end_unix_s }));
        let (action, subject) = ("credential.rotate", operator.as_str());
        let entry = Entry { by, action, subject, before: None, after };
        operations::append(engine, &tx, entry).await?;
    }
    let verdict = issue(engine, &tx, operator, by).await?;
    let durable = operations::commit(engine, tx).await?;
    Ok(Acknowledged::new(&durable, verdict))
}

/// Draws, stores and enters a credential; the answer tells its secret.
pub(super) async fn issue(
    engine: &Engine,
    tx: &Tx<'_>,
    operator: &OperatorId,
    by: &MadeBy,
) -> Result<Verdict, Failure> {
    let key_id = format!("key-{}", engine.ids.uuid_v4().simple());
    let secret = Zeroizing::new(engine.ids.bytes::<32>());
    let sealed = engine.keys.seal(&seal_context(&key_id), &*secret)?;
    let now = engine.clock.now_unix_s();
    operators::insert_credential(tx, engine.epoch, (&key_id, operator), &sealed, now)
        .await
        .map_err(not_written)?;
    let after = Some(json!({ "key_id": key_id }));
    let (action, subject) = ("credential.create", operator.as_str());
    operations::append(engine, tx, Entry { by, action, subject, before: None, after }).await?;
    let secret_b64 = Zeroizing::new(STANDARD.encode(*secret));
    let answer = json!({ "operator": operator, "key_id": key_id, "secret_b64": *secret_b64 });
    Ok(Ok(Reply::json(201, &answer)?))
}

/// Withdraws a credential at once.
pub async fn revoke(engine: &Engine, key_id: &str, by: &MadeBy) -> Handled {
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let verdict = match operators::revoke_credential(&tx, engine.epoch, key_id).await {
        Ok(()) => {
            let after = Some(json!({ "revoked": true }));
            let (action, subject) = ("credential.revoke", key_id);
            operations::append(engine, &tx, Entry { by, action, subject, before: None, after })
                .await?;
            Reply::json(200, &json!({ "key_id": key_id, "revoked": true }))
        }
        Err(WriteError::Shortfall) => Err(Failure::new(Code::NotFound)),
        Err(WriteError::Database(error)) => return Err(error.into()),
    };
    let durable = operations::commit(engine, tx).await?;
    engine.directory.forget_credential(key_id);
    Ok(Acknowledged::new(&durable, verdict))
}
