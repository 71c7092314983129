//! The compared tables, a page at a time: keys of the node's own rows, those that the other side lacks, their whole rows.
//!
//! Invariant: names and key columns are fixed here; values come back as the server's own text and are quoted. Of what is
//! not published only keys and states cross between the nodes, read with the role of the rewind.

use serde_json::Value;

use super::Rows;
use crate::database::Session;
use crate::error::Error;

/// Rows compared at a time.
const PAGE_ROWS: usize = 5_000;
/// The name that leaves of lost rounds are kept under.
pub(super) const LEAVES: &str = "log.leaf";

/// A compared table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Round,
    Bet,
    Session,
    Request,
    WalletJob,
}

impl Table {
    /// Rounds first, so that bets are added to what is known of theirs.
    pub(super) const ALL: [Self; 5] =
        [Self::Round, Self::Bet, Self::Session, Self::Request, Self::WalletJob];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Round => "ledger.round",
            Self::Bet => "ledger.bet",
            Self::Session => "ledger.session",
            Self::Request => "ledger.request",
            Self::WalletJob => "ledger.wallet_job",
        }
    }

    /// Whether the replication role may read it.
    pub(super) const fn is_published(self) -> bool {
        matches!(self, Self::Round | Self::Bet)
    }

    const fn key(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Round | Self::Bet | Self::Session => &[("jurisdiction", "text"), ("id", "uuid")],
            Self::Request => &[("scope", "text"), ("key", "text")],
            Self::WalletJob => &[("id", "uuid")],
        }
    }

    const fn state(self) -> &'static str {
        match self {
            Self::Round | Self::WalletJob => "state",
            Self::Bet | Self::Session | Self::Request => "''",
        }
    }

    // What makes the row of the other side not good enough.
    const fn lacking(self) -> &'static str {
        match self {
            Self::Round => {
                "r.id is null or (r.state <> k.state and (r.state = 'open' or k.state in ('settled', 'voided')))"
            }
            Self::Bet | Self::Session => "r.id is null",
            Self::Request => "r.key is null",
            Self::WalletJob => "r.id is null or (r.state = 'pending' and k.state <> 'pending')",
        }
    }

    fn columns(self) -> String {
        let names: Vec<&str> = self.key().iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }

    pub(super) async fn exists(self, own: &Session) -> Result<bool, Error> {
        let sql = format!("select to_regclass('{}') is not null", self.name());
        Ok(own.optional("look for the ledger's tables", &sql).await?.unwrap_or(false))
    }

    /// Finds and writes down every row that the other side lacks.
    pub(super) async fn keep(
        self,
        own: &Session,
        other: &Session,
        out: &mut Rows,
    ) -> Result<(), Error> {
        let mut after: Option<Value> = None;
        loop {
            let page = self.page(own, after.as_ref()).await?;
            let Some(last) = page.last() else { return Ok(()) };
            let lacking = self.compare(other, &page).await?;
            if !lacking.is_empty() {
                for row in self.rows(own, &lacking).await? {
                    out.write(self.name(), &row)?;
                }
                if self == Self::Round {
                    for leaf in leaves(own, &self.recordset(&lacking)?).await? {
                        out.write(LEAVES, &leaf)?;
                    }
                }
            }
            after = Some(last.clone());
        }
    }

    async fn page(self, own: &Session, after: Option<&Value>) -> Result<Vec<Value>, Error> {
        let columns = self.columns();
        let from = match after {
            None => String::new(),
            Some(key) => format!("where ({columns}) > ({})", self.quoted(key)),
        };
        let sql = format!(
            "select coalesce(json_agg(k), '[]') from (select {columns}, {} as state from {} {from} \
             order by {columns} limit {PAGE_ROWS}) k",
            self.state(),
            self.name()
        );
        Ok(own.json("read the node's own rows", &sql).await?.unwrap_or_default())
    }

    async fn compare(self, other: &Session, keys: &[Value]) -> Result<Vec<Value>, Error> {
        let (columns, state) = (self.columns(), self.state());
        let sql = format!(
            "select coalesce(json_agg(k), '[]') from {} left join (select {columns}, {state} as state from {}) r \
             using ({columns}) where {}",
            self.recordset(keys)?,
            self.name(),
            self.lacking()
        );
        Ok(other.json("compare with the new primary", &sql).await?.unwrap_or_default())
    }

    async fn rows(self, own: &Session, keys: &[Value]) -> Result<Vec<Value>, Error> {
        let sql = format!(
            "select coalesce(json_agg(to_jsonb(r)), '[]') from {} join {} r using ({})",
            self.recordset(keys)?,
            self.name(),
            self.columns()
        );
        Ok(own.json("read the orphans", &sql).await?.unwrap_or_default())
    }

    fn quoted(self, key: &Value) -> String {
        let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
        let quoted =
            |(name, kind): &(&str, &str)| format!("'{}'::{kind}", text(name).replace('\'', "''"));
        self.key().iter().map(quoted).collect::<Vec<_>>().join(", ")
    }

    fn recordset(self, keys: &[Value]) -> Result<String, Error> {
        let text = serde_json::to_string(keys).map_err(|error| Error::step("name rows", error))?;
        let text = text.replace('\'', "''");
        let columns: Vec<String> =
            self.key().iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        Ok(format!("json_to_recordset('{text}') as k({}, state text)", columns.join(", ")))
    }
}

/// The leaves of rounds, in the log or on their way there.
async fn leaves(own: &Session, rounds: &str) -> Result<Vec<Value>, Error> {
    let leaf = "'jurisdiction', k.jurisdiction, 'subject', k.id, 'kind'";
    let sql = format!(
        "select coalesce(json_agg(f.leaf), '[]') from ( \
           select json_build_object({leaf}, s.kind, 'entry', convert_from(l.entry, 'UTF8')) as leaf from {rounds} \
           join log.subject s on s.jurisdiction = k.jurisdiction and s.subject = k.id \
           join log.leaf l on l.jurisdiction = s.jurisdiction and l.log_epoch = s.log_epoch and l.idx = s.idx \
           union all \
           select json_build_object({leaf}, p.kind, 'entry', p.entry) from {rounds} \
           join log.pending p on p.jurisdiction = k.jurisdiction and p.subject = k.id) f"
    );
    Ok(own.json("read the orphans' leaves", &sql).await?.unwrap_or_default())
}
