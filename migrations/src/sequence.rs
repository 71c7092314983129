//! The migrations, in order, embedded in the binary.
//!
//! Invariant: a version belongs to one file. A version may be missing on a side that it does not concern;
//! `published` files are applied to both sides.

use crate::order::Order;

/// One file.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its place in the order, starting at 1.
    pub version: u32,
    /// Its name, as kept in the database.
    pub name: &'static str,
    /// Its text.
    pub sql: &'static str,
    /// Which side goes first.
    pub order: Order,
    /// Whether it needs a superuser (roles); all else is done and owned by `domicile_migrator`.
    pub superuser: bool,
}

macro_rules! migration {
    ($version:literal, $name:literal, $order:ident, superuser: $superuser:literal) => {
        Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../sql/", $name, ".sql")),
            order: Order::$order,
            superuser: $superuser,
        }
    };
}

/// The ledger's migrations.
pub const LEDGER: &[Migration] = &[
    migration!(1, "ledger/0001-roles", SubscribersFirst, superuser: true),
    migration!(2, "published/0002-tables", SubscribersFirst, superuser: false),
    migration!(3, "ledger/0003-writer", SubscribersFirst, superuser: false),
    migration!(4, "ledger/0004-grants", SubscribersFirst, superuser: false),
    migration!(5, "ledger/0005-pending-order", SubscribersFirst, superuser: false),
    migration!(6, "ledger/0006-wallets", SubscribersFirst, superuser: false),
    migration!(7, "ledger/0007-standing", SubscribersFirst, superuser: false),
    migration!(8, "ledger/0008-administration", SubscribersFirst, superuser: false),
    migration!(9, "ledger/0009-sessions", SubscribersFirst, superuser: false),
    migration!(10, "ledger/0010-losses", SubscribersFirst, superuser: true),
    migration!(11, "ledger/0011-floor", SubscribersFirst, superuser: false),
    migration!(12, "ledger/0012-revocation-order", SubscribersFirst, superuser: false),
];

/// A reader's migrations.
pub const READER: &[Migration] = &[
    migration!(1, "reader/0001-roles", SubscribersFirst, superuser: true),
    migration!(2, "published/0002-tables", SubscribersFirst, superuser: false),
    migration!(3, "reader/0003-indexes", SubscribersFirst, superuser: false),
    migration!(4, "reader/0004-grants", SubscribersFirst, superuser: false),
];

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_postgres::{LEDGER_SCHEMA_VERSION, READER_SCHEMA_VERSION};

    #[test]
    fn versions_grow_and_stand_in_the_names() {
        for sequence in [LEDGER, READER] {
            assert!(sequence.windows(2).all(|pair| pair[0].version < pair[1].version));
            for migration in sequence {
                let number = format!("/{:04}-", migration.version);
                assert!(migration.name.contains(&number), "{}", migration.name);
            }
        }
    }

    #[test]
    fn services_expect_what_is_applied() {
        assert_eq!(LEDGER.last().map(|last| last.version), Some(LEDGER_SCHEMA_VERSION));
        assert_eq!(READER.last().map(|last| last.version), Some(READER_SCHEMA_VERSION));
    }
}
