//! Which requests had their effect, and the answer each one got.
//!
//! Invariants: one row per (scope, key), written in the transaction of the effect; the stored answer is
//! returned byte for byte. Answers hold tokens and receipts, so they are sealed under the master key,
//! bound to their scope and key.

use super::{WriteError, all_written, term};
use crate::answer::{Failure, Reply, Verdict};
use crate::keys::Keys;
use domicile_core::epoch::Epoch;
use domicile_core::error::Code;
use domicile_postgres::{Row, Session, Tx};
use sha2::{Digest, Sha256};
use std::cmp::Ordering;

const FIND: &str =
    "SELECT body_hash, status, response FROM ledger.request WHERE scope = $1 AND key = $2";

const RECORD: &str = concat!(
    "INSERT INTO ledger.request (scope, key, body_hash, status, response, created_at) ",
    "SELECT i.*, now() FROM unnest($2::text[], $3::text[], $4::bytea[], $5::int[], $6::bytea[]) i WHERE ",
    in_term!(),
    " ON CONFLICT DO NOTHING"
);

/// What makes two requests the same one.
#[derive(Debug, Clone)]
pub struct RequestId {
    /// Whose keys these are: `op:<operator>`, `sess:<session>` or `sig:<operator>`.
    pub scope: String,
    /// The caller's key.
    pub key: String,
    /// Hash over method, path and body.
    pub body_hash: [u8; 32],
}

impl RequestId {
    /// Binds a key to the request it came with.
    pub fn new(scope: String, key: String, method: &str, path: &str, body: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(method).chain_update(b"\n").chain_update(path);
        let body_hash = hash.chain_update(b"\n").chain_update(body).finalize().into();
        Self { scope, key, body_hash }
    }

    fn seal_context(&self) -> String {
        format!("answer:{}:{}", self.scope, self.key)
    }
}

/// The answer an earlier request got.
#[derive(Debug)]
pub struct StoredAnswer {
    body_hash: Vec<u8>,
    status: i32,
    sealed: Vec<u8>,
}

impl StoredAnswer {
    /// Reads the three columns `body_hash, status, response` starting at `column`; `None` where they are null.
    pub fn from_row(row: &Row, column: usize) -> Option<Self> {
        Some(Self {
            body_hash: row.get::<_, Option<Vec<u8>>>(column)?,
            status: row.get::<_, Option<i32>>(column + 1)?,
            sealed: row.get::<_, Option<Vec<u8>>>(column + 2)?,
        })
    }

    /// The answer for a repetition: the stored bytes, or `reused` for a different request under the key.
    pub fn replay(&self, request: &RequestId, keys: &Keys, reused: Code) -> Verdict {
        if self.body_hash != request.body_hash {
            return Err(Failure::new(reused));
        }
        let opened = keys.open(&request.seal_context(), &self.sealed)?;
        Ok(Reply {
            status: u16::try_from(self.status).unwrap_or(200),
            body: opened.to_vec().into(),
            replayed: true,
        })
    }
}

/// A request and its answer, ready to be stored.
#[derive(Debug)]
pub struct NewRequest {
    id: RequestId,
    status: i32,
    sealed: Vec<u8>,
}

impl NewRequest {
    /// Seals the answer.
    pub fn new(id: RequestId, reply: &Reply, keys: &Keys) -> Result<Self, Failure> {
        let sealed = keys.seal(&id.seal_context(), &reply.body)?;
        Ok(Self { id, status: i32::from(reply.status), sealed })
    }

    /// The order in which keys are taken: whoever takes several does so in it, and no two wait for each other.
    pub fn order(&self, other: &Self) -> Ordering {
        (&self.id.scope, &self.id.key).cmp(&(&other.id.scope, &other.id.key))
    }
}

/// Looks up the answer of an earlier request.
pub async fn find(
    session: &Session,
    request: &RequestId,
) -> Result<Option<StoredAnswer>, domicile_postgres::Error> {
    let row = session.query_opt(FIND, &[&request.scope, &request.key]).await?;
    Ok(row.and_then(|row| StoredAnswer::from_row(&row, 0)))
}

/// Stores requests with their answers; a key that is taken is a shortfall.
pub async fn record<'a>(
    tx: &Tx<'_>,
    epoch: Epoch,
    requests: impl Iterator<Item = &'a NewRequest> + Clone,
) -> Result<(), WriteError> {
    let scopes: Vec<_> = requests.clone().map(|request| request.id.scope.as_str()).collect();
    let keys: Vec<_> = requests.clone().map(|request| request.id.key.as_str()).collect();
    let hashes: Vec<_> = requests.clone().map(|request| &request.id.body_hash[..]).collect();
    let statuses: Vec<_> = requests.clone().map(|request| request.status).collect();
    let answers: Vec<_> = requests.map(|request| request.sealed.as_slice()).collect();
    let written =
        tx.execute(RECORD, &[&term(epoch), &scopes, &keys, &hashes, &statuses, &answers]).await?;
    all_written(written, scopes.len())
}
