//! The tail of a former primary: rounds and bets that the new history lacks, found by comparison and kept.
//!
//! Invariants: rows are compared by primary key, whole tables of them, because nothing in a row tells on which side of
//! the fork it was committed; a row that the new primary has in a later state is no orphan; what is found is on disk, for
//! its owner's eyes only, before the data it came from is touched; too many to keep is an error, not a loss.
//! Deliberately absent: judging what becomes of them.

use std::path::PathBuf;

use domicile_core::epoch::{Epoch, Lsn};
use domicile_topology::agent_api::{OrphanRound, OrphanTail, OrphansAnswer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Agent;
use crate::database::Session;
use crate::error::Error;
use crate::memory::{private_folder, replace};

/// Rows compared at a time.
const PAGE_ROWS: usize = 5_000;
/// The most orphans of a kind that are kept; beyond it the node is left as it is, for a person.
const MAX_ORPHANS: usize = 100_000;
/// The most tails a node answers with.
const MAX_TAILS: usize = 1_000;

/// The key of a row; the state of a round, empty for a bet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    jurisdiction: String,
    id: String,
    state: String,
}

/// A kept tail.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    tail: OrphanTail,
    rounds: Vec<Value>,
    bets: Vec<Value>,
}

/// The compared tables. Names and key columns are fixed here; values come back as the server's own text.
#[derive(Debug, Clone, Copy)]
enum Table {
    Round,
    Bet,
}

impl Table {
    const fn name(self) -> &'static str {
        match self {
            Self::Round => "ledger.round",
            Self::Bet => "ledger.bet",
        }
    }

    const fn state(self) -> &'static str {
        match self {
            Self::Round => "state",
            Self::Bet => "''",
        }
    }

    // What makes the row of the other side not good enough.
    const fn lacking(self) -> &'static str {
        match self {
            Self::Round => {
                "r.id is null or (r.state <> k.state and (r.state = 'open' or k.state in ('settled', 'voided')))"
            }
            Self::Bet => "r.id is null",
        }
    }
}

impl Agent {
    /// Finds and keeps what only this node has. `None` when there is nothing.
    pub(crate) async fn keep_orphans(
        &self,
        own: &Session,
        other: &Session,
        epoch: Epoch,
        fork: Option<Lsn>,
    ) -> Result<Option<OrphanTail>, Error> {
        let step = "look for the ledger's tables";
        let sql = "select to_regclass('ledger.bet') is not null";
        if !own.optional(step, sql).await?.unwrap_or(false) {
            return Ok(None);
        }
        let rounds = orphans(own, other, Table::Round).await?;
        let bets = orphans(own, other, Table::Bet).await?;
        if rounds.is_empty() && bets.is_empty() {
            return Ok(None);
        }
        let fork_lsn = fork.unwrap_or(Lsn(0));
        let folder = self.orphan_folder();
        let name = format!("{epoch}-{:016x}.json", fork_lsn.0);
        let file = folder.join(&name);
        let kept = Kept {
            tail: OrphanTail {
                epoch,
                fork_lsn,
                file: file.to_string_lossy().into_owned(),
                rounds: summary(own, &rounds, &bets).await?,
            },
            rounds: whole_rows(own, Table::Round, &rounds).await?,
            bets: whole_rows(own, Table::Bet, &bets).await?,
        };
        let failed = |error| Error::step("keep the orphans", error);
        let bytes = serde_json::to_vec(&kept).map_err(|error| failed(error.into()))?;
        private_folder(&folder).map_err(failed)?;
        replace(&file, &bytes).map_err(failed)?;
        tracing::warn!(rounds = kept.rounds.len(), bets = kept.bets.len(), name, "kept orphans");
        Ok(Some(kept.tail))
    }

    /// Every tail kept on this node.
    pub fn orphans(&self) -> Result<OrphansAnswer, Error> {
        let failed = |error| Error::step("read the kept orphans", error);
        let entries = match std::fs::read_dir(self.orphan_folder()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(OrphansAnswer::default());
            }
            Err(error) => return Err(failed(error)),
        };
        let mut tails = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()).take(MAX_TAILS) {
            if path.extension().is_some_and(|extension| extension == "json") {
                let bytes = std::fs::read(&path).map_err(failed)?;
                let kept: Kept = serde_json::from_slice(&bytes).map_err(|e| failed(e.into()))?;
                tails.push(kept.tail);
            }
        }
        tails.sort_by_key(|tail| (tail.epoch, tail.fork_lsn));
        Ok(OrphansAnswer { tails })
    }

    fn orphan_folder(&self) -> PathBuf {
        self.config.postgres.config_dir.join("orphans")
    }
}

async fn orphans(own: &Session, other: &Session, table: Table) -> Result<Vec<Key>, Error> {
    let mut found = Vec::new();
    let mut after: Option<Key> = None;
    loop {
        let page = page(own, table, after.as_ref()).await?;
        let Some(last) = page.last() else { return Ok(found) };
        found.extend(lacking(other, table, &page).await?);
        if found.len() > MAX_ORPHANS {
            let name = table.name();
            let message = format!("more than {MAX_ORPHANS} rows of {name} are orphans");
            return Err(Error::State(format!("{message}: keep the data directory and clone anew")));
        }
        after = Some(last.clone());
    }
}

async fn page(own: &Session, table: Table, after: Option<&Key>) -> Result<Vec<Key>, Error> {
    let from = after.map_or(String::new(), |key| {
        format!("where (jurisdiction, id) > ('{}', '{}')", key.jurisdiction, key.id)
    });
    let sql = format!(
        "select coalesce(json_agg(k), '[]') from (select jurisdiction, id, {} as state from {} {from} \
         order by jurisdiction, id limit {PAGE_ROWS}) k",
        table.state(),
        table.name()
    );
    Ok(own.json("read the node's own rows", &sql).await?.unwrap_or_default())
}

async fn lacking(other: &Session, table: Table, keys: &[Key]) -> Result<Vec<Key>, Error> {
    let sql = format!(
        "select coalesce(json_agg(json_build_object('jurisdiction', jurisdiction, 'id', id, \
         'state', k.state)), '[]') from {} left join {} r using (jurisdiction, id) where {}",
        recordset(keys)?,
        table.name(),
        table.lacking()
    );
    Ok(other.json("compare with the new primary", &sql).await?.unwrap_or_default())
}

async fn whole_rows(own: &Session, table: Table, keys: &[Key]) -> Result<Vec<Value>, Error> {
    let mut rows = Vec::new();
    for keys in keys.chunks(PAGE_ROWS) {
        let sql = format!(
            "select coalesce(json_agg(to_jsonb(r)), '[]') from {} join {} r using (jurisdiction, id)",
            recordset(keys)?,
            table.name()
        );
        let page: Option<Vec<Value>> = own.json("read the orphans", &sql).await?;
        rows.extend(page.unwrap_or_default());
    }
    Ok(rows)
}

async fn summary(own: &Session, rounds: &[Key], bets: &[Key]) -> Result<Vec<OrphanRound>, Error> {
    let (rounds, bets) = (recordset(rounds)?, recordset(bets)?);
    let sql = format!(
        "select coalesce(json_agg(json_build_object('jurisdiction', r.jurisdiction, 'id', r.id, \
           'operator', r.operator_id, 'currency', r.currency, 'state', r.state, \
           'bets', coalesce(s.bets, 0), 'stake_micro', coalesce(s.stake_micro, 0)) \
           order by r.jurisdiction, r.id), '[]') \
         from ledger.round r left join (select b.jurisdiction, b.round_id, count(*) as bets, \
           sum(b.stake_micro)::bigint as stake_micro from {bets} join ledger.bet b using (jurisdiction, id) \
           group by 1, 2) s on s.jurisdiction = r.jurisdiction and s.round_id = r.id \
         where s.bets is not null \
           or (r.jurisdiction, r.id) in (select k.jurisdiction, k.id from {rounds})"
    );
    Ok(own.json("sum up the orphans", &sql).await?.unwrap_or_default())
}

// Keys are text that the server wrote; quotes are doubled all the same.
fn recordset(keys: &[Key]) -> Result<String, Error> {
    let text = serde_json::to_string(keys).map_err(|error| Error::step("name rows", error))?;
    let text = text.replace('\'', "''");
    Ok(format!("json_to_recordset('{text}') as k(jurisdiction text, id uuid, state text)"))
}
