//! What can go wrong with a database, and how to handle it.
//!
//! Invariant: no text here holds a value of a statement. A server's DETAIL quotes whole keys, and its
//! messages of SQLSTATE class 22 quote the refused value: both are dropped.

use domicile_core::error::Code;
use std::sync::Arc;
use tokio_postgres::error::SqlState;

/// How an error is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Every session is in use; nothing was sent.
    Exhausted,
    /// No connection, a lost one, or a server that starts, stops or is out of resources.
    Unavailable,
    /// The server is a standby or read-only: not the place for this statement.
    ReadOnly,
    /// The statement took longer than its limit.
    Timeout,
    /// A concurrent transaction was in the way: the same transaction may succeed next time.
    Contention,
    /// A unique key is taken.
    Duplicate,
    /// Another constraint refuses the row.
    Constraint,
    /// The role may not do this, or was not let in.
    Denied,
    /// Perhaps executed: committed here, without the second region's confirmation.
    Unconfirmed,
    /// The statement, the schema or the data are not what this program expects.
    Fault,
}

impl Class {
    /// The class as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Unavailable => "unavailable",
            Self::ReadOnly => "read-only",
            Self::Timeout => "timeout",
            Self::Contention => "contention",
            Self::Duplicate => "duplicate",
            Self::Constraint => "constraint",
            Self::Denied => "denied",
            Self::Unconfirmed => "unconfirmed",
            Self::Fault => "fault",
        }
    }
}

/// A database operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} on {target}: {kind}")]
pub struct Error {
    operation: &'static str,
    target: Arc<str>,
    kind: Box<Kind>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("all {size} sessions of the pool are in use")]
    Exhausted { size: usize },
    #[error("no answer within {limit_ms} ms")]
    Timeout { limit_ms: u64 },
    #[error("the server is unfit: {0}")]
    Unfit(String),
    #[error("the session was given up on")]
    Retired,
    #[error("an earlier statement of the transaction failed")]
    Failed,
    #[error("committed here, without confirmation of synchronous replication")]
    Unconfirmed,
    #[error("{message} (SQLSTATE {state}{object})")]
    Server { state: String, message: String, object: String, constraint: Option<String> },
    #[error("{text}")]
    Driver { text: String, lost: bool },
}

impl Error {
    pub(crate) fn new(operation: &'static str, target: &Arc<str>, kind: Kind) -> Self {
        Self { operation, target: Arc::clone(target), kind: Box::new(kind) }
    }

    /// Keeps of the driver's error what is safe to show.
    pub(crate) fn driver(
        operation: &'static str,
        target: &Arc<str>,
        source: &tokio_postgres::Error,
    ) -> Self {
        Self::new(operation, target, Kind::from_driver(source))
    }

    /// A row that does not have the column or type this program expects.
    #[expect(clippy::needless_pass_by_value, reason = "has the shape map_err asks for")]
    pub fn decode(operation: &'static str, source: tokio_postgres::Error) -> Self {
        Self::driver(operation, &Arc::from("a received row"), &source)
    }

    /// How to handle it.
    pub fn class(&self) -> Class {
        match &*self.kind {
            Kind::Exhausted { .. } => Class::Exhausted,
            Kind::Timeout { .. } => Class::Timeout,
            Kind::Retired | Kind::Unfit(_) | Kind::Driver { lost: true, .. } => Class::Unavailable,
            Kind::Failed | Kind::Driver { lost: false, .. } => Class::Fault,
            Kind::Unconfirmed => Class::Unconfirmed,
            Kind::Server { state, .. } => class_of(state),
        }
    }

    /// The code a caller of the service gets to see.
    pub fn code(&self) -> Code {
        match self.class() {
            Class::Unconfirmed => Code::OutcomeUnknown,
            Class::Duplicate | Class::Constraint | Class::Denied | Class::Fault => Code::Internal,
            Class::Exhausted
            | Class::Unavailable
            | Class::ReadOnly
            | Class::Timeout
            | Class::Contention => Code::Database,
        }
    }

    /// The server's SQLSTATE, when the server refused.
    pub fn sqlstate(&self) -> Option<&str> {
        if let Kind::Server { state, .. } = &*self.kind { Some(state) } else { None }
    }

    /// The violated constraint, when there is one.
    pub fn constraint(&self) -> Option<&str> {
        if let Kind::Server { constraint, .. } = &*self.kind { constraint.as_deref() } else { None }
    }
}

impl Kind {
    fn from_driver(source: &tokio_postgres::Error) -> Self {
        let Some(server) = source.as_db_error() else {
            let mut text = source.to_string();
            // The cause of a failed conversion may quote the value; that of a lost connection is the OS's.
            if let Some(io) =
                std::error::Error::source(source).and_then(|cause| cause.downcast_ref())
            {
                let io: &std::io::Error = io;
                text = format!("{text}: {io}");
            }
            return Self::Driver { text, lost: is_lost(source) };
        };
        let state = server.code().code().to_owned();
        let message = if state.starts_with("22") {
            "a value was refused".to_owned()
        } else {
            server.message().to_owned()
        };
        let constraint = server.constraint().map(str::to_owned);
        let object = match (server.table(), &constraint) {
            (_, Some(constraint)) => format!(", constraint {constraint}"),
            (Some(table), None) => format!(", table {table}"),
            (None, None) => String::new(),
        };
        Self::Server { state, message, object, constraint }
    }
}

/// Whether the connection itself is gone, so that the statement may have reached the server or not.
fn is_lost(source: &tokio_postgres::Error) -> bool {
    source.is_closed()
        || std::error::Error::source(source)
            .is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

fn class_of(state: &str) -> Class {
    let known = SqlState::from_code(state);
    if known == SqlState::UNIQUE_VIOLATION {
        return Class::Duplicate;
    }
    if known == SqlState::LOCK_NOT_AVAILABLE {
        return Class::Contention;
    }
    if known == SqlState::QUERY_CANCELED || state == "25P04" {
        return Class::Timeout;
    }
    if known == SqlState::READ_ONLY_SQL_TRANSACTION {
        return Class::ReadOnly;
    }
    if known == SqlState::INSUFFICIENT_PRIVILEGE {
        return Class::Denied;
    }
    match state.get(..2) {
        Some("08" | "53" | "57" | "58") => Class::Unavailable,
        Some("23") => Class::Constraint,
        Some("28") => Class::Denied,
        Some("40") => Class::Contention,
        _ => Class::Fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_have_their_class() {
        for (state, class) in [
            ("23505", Class::Duplicate),
            ("23514", Class::Constraint),
            ("40001", Class::Contention),
            ("40P01", Class::Contention),
            ("55P03", Class::Contention),
            ("57014", Class::Timeout),
            ("25P04", Class::Timeout),
            ("25006", Class::ReadOnly),
            ("42501", Class::Denied),
            ("28P01", Class::Denied),
            ("57P01", Class::Unavailable),
            ("57P03", Class::Unavailable),
            ("53300", Class::Unavailable),
            ("08006", Class::Unavailable),
            ("42P01", Class::Fault),
            ("22P02", Class::Fault),
            ("XX000", Class::Fault),
            ("", Class::Fault),
        ] {
            assert_eq!(class_of(state), class, "{state}");
        }
    }
}
