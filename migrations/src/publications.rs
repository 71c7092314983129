//! What leaves the ledger for which jurisdiction: two publications each, filtered by row and listed by column.
//!
//! Invariants: TRUNCATE is never published, because it ignores row filters and would empty every reader; of
//! log tables nothing but INSERT is; every filter and list covers the replica identity, which the runner
//! proves by an UPDATE and a DELETE before it commits.

use domicile_core::ids::Jurisdiction;

/// A published table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Schema and name.
    pub name: &'static str,
    /// Every column that readers get. A column added to the table later stays here until it is listed.
    pub columns: &'static [&'static str],
    /// Which of the two publications.
    pub part: Part,
}

/// Which of a jurisdiction's two publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Facts that may change.
    Ledger,
    /// The insert-only log.
    Log,
}

/// Every published table.
pub const TABLES: &[Table] = &[
    Table {
        name: "ledger.round",
        columns: &[
            "jurisdiction",
            "id",
            "kind",
            "operator_id",
            "game",
            "params",
            "currency",
            "commitment",
            "state",
            "outcome",
            "opened_at",
            "closed_at",
            "ended_at",
        ],
        part: Part::Ledger,
    },
    Table {
        name: "ledger.bet",
        columns: &[
            "jurisdiction",
            "id",
            "round_id",
            "session_id",
            "operator_id",
            "player_ref",
            "currency",
            "stake_micro",
            "selection",
            "client_seed",
            "record",
            "salt",
            "record_commitment",
            "checkpoint_size",
            "payout_micro",
            "receipt",
            "placed_at",
        ],
        part: Part::Ledger,
    },
    Table {
        name: "ledger.session_revocation",
        columns: &["jurisdiction", "session_id", "revoked_at"],
        part: Part::Ledger,
    },
    Table {
        name: "ledger.heartbeat",
        columns: &["jurisdiction", "beat", "epoch"],
        part: Part::Ledger,
    },
    Table {
        name: "log.leaf",
        columns: &["jurisdiction", "log_epoch", "idx", "entry", "leaf_hash"],
        part: Part::Log,
    },
    Table {
        name: "log.node",
        columns: &["jurisdiction", "log_epoch", "level", "n", "hash"],
        part: Part::Log,
    },
    Table {
        name: "log.subject",
        columns: &["jurisdiction", "log_epoch", "subject", "kind", "idx"],
        part: Part::Log,
    },
    Table {
        name: "log.checkpoint",
        columns: &["jurisdiction", "log_epoch", "size", "note"],
        part: Part::Log,
    },
];

/// A publication of one jurisdiction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// `pub_<jurisdiction>_ledger` or `pub_<jurisdiction>_log`.
    pub name: String,
    tables: String,
    publish: &'static str,
}

/// The publications of these jurisdictions.
pub fn publications(jurisdictions: &[Jurisdiction]) -> Vec<Publication> {
    jurisdictions
        .iter()
        .flat_map(|jurisdiction| [Part::Ledger, Part::Log].map(|part| part.of(jurisdiction)))
        .collect()
}

impl Part {
    fn of(self, jurisdiction: &Jurisdiction) -> Publication {
        let tables: Vec<_> = TABLES
            .iter()
            .filter(|table| table.part == self)
            .map(|table| {
                let columns = table.columns.join(", ");
                format!("{} ({columns}) WHERE (jurisdiction = '{jurisdiction}')", table.name)
            })
            .collect();
        let (suffix, publish) = match self {
            Self::Ledger => ("ledger", "insert, update, delete"),
            Self::Log => ("log", "insert"),
        };
        let name = format!("pub_{}_{suffix}", jurisdiction.slug());
        Publication { name, tables: tables.join(", "), publish }
    }
}

impl Publication {
    /// Creates it.
    pub fn create(&self) -> String {
        let Self { name, tables, publish } = self;
        format!("CREATE PUBLICATION {name} FOR TABLE {tables} WITH (publish = '{publish}')")
    }

    /// Makes an existing one of this name what it has to be.
    pub fn alter(&self) -> String {
        let Self { name, tables, publish } = self;
        format!(
            "ALTER PUBLICATION {name} SET TABLE {tables}; \
             ALTER PUBLICATION {name} SET (publish = '{publish}')"
        )
    }
}

/// Statements that change nothing and fail when a publication does not cover the replica identity: such a
/// publication is accepted when it is made, and then breaks every UPDATE of the ledger.
pub(crate) fn proofs() -> impl Iterator<Item = String> {
    TABLES.iter().filter(|table| table.part == Part::Ledger).map(|table| {
        let name = table.name;
        format!(
            "UPDATE {name} SET jurisdiction = jurisdiction WHERE false; DELETE FROM {name} WHERE false"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_filtered_and_truncate_is_never_published() {
        let jurisdictions = ["MT", "US-NJ"].map(|code| Jurisdiction::parse(code).unwrap());
        let publications = publications(&jurisdictions);
        let names: Vec<_> = publications.iter().map(|publication| &*publication.name).collect();
        assert_eq!(names, ["pub_mt_ledger", "pub_mt_log", "pub_us_nj_ledger", "pub_us_nj_log"]);
        for publication in &publications {
            let sql = publication.create();
            assert_eq!(sql.matches("WHERE (jurisdiction = '").count(), 4, "{sql}");
            assert!(sql.contains("publish = 'insert") && !sql.contains("truncate"), "{sql}");
            assert!(!publication.name.ends_with("_log") || sql.contains("(publish = 'insert')"));
        }
    }
}
