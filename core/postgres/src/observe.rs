//! What an operator sees of the database traffic: a span and a duration per operation, counts per outcome.
//!
//! Invariant: labels and span fields name operations and servers, never values of statements.

use crate::error::Error;
use std::time::Instant;
use tracing::Span;

/// A span for one operation.
pub(crate) fn span(operation: &str, target: &str) -> Span {
    tracing::info_span!(
        "postgres",
        otel.kind = "client",
        db.system = "postgresql",
        db.operation.name = operation,
        server.address = target,
    )
}

/// The first word of a statement, lower case: what the statement does.
pub(crate) fn operation(sql: &str) -> String {
    sql.split(|c: char| !c.is_ascii_alphabetic())
        .find(|word| !word.is_empty())
        .unwrap_or("statement")
        .to_ascii_lowercase()
}

/// Records how long an operation took and how it ended.
pub(crate) fn finished<T>(operation: &str, started: Instant, outcome: &Result<T, Error>) {
    let outcome = match outcome {
        Ok(_) => "ok",
        Err(error) => error.class().as_str(),
    };
    metrics::histogram!("domicile_postgres_operation_seconds",
        "operation" => operation.to_owned(), "outcome" => outcome)
    .record(started.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::operation;

    #[test]
    fn an_operation_is_the_first_word() {
        for (sql, name) in [
            ("SELECT 1", "select"),
            ("  insert into t values ($1)", "insert"),
            ("(SELECT 1)", "select"),
            ("", "statement"),
        ] {
            assert_eq!(operation(sql), name);
        }
    }
}
