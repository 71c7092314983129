//! Where operators' wallets are and how they want to be asked.
//!
//! Invariant: a wallet's key is stored sealed, bound to its operator, and never read in clear by SQL.

use super::{WriteError, all_written, term};
use domicile_core::epoch::Epoch;
use domicile_core::ids::OperatorId;
use domicile_core::wallet::answer::Duplicate;
use domicile_postgres::{Query, Row, Tx};

const PUT: &str = concat!(
    "INSERT INTO ledger.wallet (operator_id, base_url, signing, key_id, key_sealed, duplicate, timeout_ms, ",
    "concurrency, breaker_failures, breaker_pause_ms, retry_first_ms, retry_longest_ms, give_up_after_s, revision) ",
    "SELECT $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 1 WHERE ",
    in_term!(),
    " ON CONFLICT (operator_id) DO UPDATE SET base_url = excluded.base_url, signing = excluded.signing, ",
    "key_id = excluded.key_id, key_sealed = excluded.key_sealed, duplicate = excluded.duplicate, ",
    "timeout_ms = excluded.timeout_ms, concurrency = excluded.concurrency, ",
    "breaker_failures = excluded.breaker_failures, breaker_pause_ms = excluded.breaker_pause_ms, ",
    "retry_first_ms = excluded.retry_first_ms, retry_longest_ms = excluded.retry_longest_ms, ",
    "give_up_after_s = excluded.give_up_after_s, revision = ledger.wallet.revision + 1"
);

const ALL: &str = "SELECT operator_id, base_url, signing, key_id, key_sealed, duplicate, timeout_ms, concurrency, \
     breaker_failures, breaker_pause_ms, retry_first_ms, retry_longest_ms, give_up_after_s, revision \
     FROM ledger.wallet ORDER BY operator_id LIMIT $1";

/// How requests to a wallet are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// HMAC over method, target, time and body.
    HmacSha256,
    /// RSA over the body.
    RsaSha256,
}

impl Signing {
    /// The name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::RsaSha256 => "rsa-sha256",
        }
    }

    /// Reads the ledger's text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::HmacSha256, Self::RsaSha256].into_iter().find(|signing| signing.as_str() == text)
    }
}

/// How a wallet is asked, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalletSettings {
    /// Whose wallet it is.
    pub operator: OperatorId,
    /// Its address, without a slash at the end.
    pub base_url: String,
    /// How requests are signed.
    pub signing: Signing,
    /// The name of our key at the wallet.
    pub key_id: String,
    /// What `RS_ERROR_DUPLICATE_TRANSACTION` means.
    pub duplicate: Duplicate,
    /// The longest call.
    pub timeout_ms: u32,
    /// Most bets under way; wins and rollbacks have half as many places of their own.
    pub concurrency: u32,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// How long it stays open before a probe.
    pub breaker_pause_ms: u32,
    /// The pause before a second attempt.
    pub retry_first_ms: u32,
    /// The longest pause between attempts.
    pub retry_longest_ms: u32,
    /// The age at which a win or rollback goes before a person.
    pub give_up_after_s: u32,
}

/// A wallet as stored.
#[derive(Debug, Clone)]
pub struct SealedWallet {
    /// How it is asked.
    pub settings: WalletSettings,
    /// The signing key, sealed.
    pub key_sealed: Vec<u8>,
    /// Grows with each change.
    pub revision: i64,
}

impl SealedWallet {
    fn from_row(row: &Row) -> Option<Self> {
        let number = |column: usize| u32::try_from(row.get::<_, i32>(column)).ok();
        Some(Self {
            settings: WalletSettings {
                operator: OperatorId::parse(row.get(0)).ok()?,
                base_url: row.get(1),
                signing: Signing::parse(row.get(2))?,
                key_id: row.get(3),
                duplicate: Duplicate::parse(row.get(5))?,
                timeout_ms: number(6)?,
                concurrency: number(7)?,
                breaker_failures: number(8)?,
                breaker_pause_ms: number(9)?,
                retry_first_ms: number(10)?,
                retry_longest_ms: number(11)?,
                give_up_after_s: number(12)?,
            },
            key_sealed: row.get(4),
            revision: row.get(13),
        })
    }
}

/// Sets an operator's wallet.
pub async fn put(
    tx: &Tx<'_>,
    epoch: Epoch,
    settings: &WalletSettings,
    key_sealed: &[u8],
) -> Result<(), WriteError> {
    let int = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let written = tx
        .execute(
            PUT,
            &[
                &term(epoch),
                &settings.operator.as_str(),
                &settings.base_url,
                &settings.signing.as_str(),
                &settings.key_id,
                &key_sealed,
                &settings.duplicate.as_str(),
                &int(settings.timeout_ms),
                &int(settings.concurrency),
                &int(settings.breaker_failures),
                &int(settings.breaker_pause_ms),
                &int(settings.retry_first_ms),
                &int(settings.retry_longest_ms),
                &int(settings.give_up_after_s),
            ],
        )
        .await?;
    all_written(written, 1)
}

/// Every wallet; a row that cannot be read is an error of its own operator only, and left out.
pub async fn all(
    on: &impl Query,
    limit: i64,
) -> Result<Vec<(String, Option<SealedWallet>)>, domicile_postgres::Error> {
    let rows = on.query(ALL, &[&limit]).await?;
    Ok(rows.iter().map(|row| (row.get(0), SealedWallet::from_row(row))).collect())
}
