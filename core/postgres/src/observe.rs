//! What an operator sees of the database traffic: a span and a duration per operation, counts per outcome.
//!
//! Invariant: labels and span fields name operations and servers, never values of statements.

use crate::error::Error;
use std::time::Instant;
use tracing::Span;

/// A span for one operation.
pub(crate) fn span(operation: &'static str, target: &str) -> Span {
    tracing::info_span!(
        "postgres",
        otel.kind = "client",
        db.system = "postgresql",
        db.operation.name = operation,
        server.address = target,
    )
}

/// The first words of statements that are told apart in spans and metrics.
const OPERATIONS: &[&str] = &[
    "select",
    "insert",
    "update",
    "delete",
    "merge",
    "with",
    "create",
    "alter",
    "drop",
    "grant",
    "revoke",
    "comment",
    "set",
    "reset",
    "lock",
    "do",
    "checkpoint",
    "analyze",
    "vacuum",
];

/// What a statement does: its first word when that is a known one.
pub(crate) fn operation(sql: &str) -> &'static str {
    let word = sql.split(|c: char| !c.is_ascii_alphabetic()).find(|word| !word.is_empty());
    let known = |word: &str| OPERATIONS.iter().find(|known| known.eq_ignore_ascii_case(word));
    word.and_then(known).copied().unwrap_or("other")
}

/// Records how long an operation took and how it ended.
pub(crate) fn finished<T>(operation: &'static str, started: Instant, outcome: &Result<T, Error>) {
    let outcome = match outcome {
        Ok(_) => "ok",
        Err(error) => error.class().as_str(),
    };
    metrics::histogram!("domicile_postgres_operation_seconds",
        "operation" => operation, "outcome" => outcome)
    .record(started.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::operation;

    #[test]
    fn an_operation_is_a_known_first_word() {
        for (sql, name) in [
            ("SELECT 1", "select"),
            ("  insert into t values ($1)", "insert"),
            ("(SELECT 1)", "select"),
            ("EXPLAIN SELECT 1", "other"),
            ("", "other"),
        ] {
            assert_eq!(operation(sql), name);
        }
    }
}
