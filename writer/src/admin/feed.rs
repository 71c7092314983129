//! What routers are told of revocations: page by page, in the order of the transactions that wrote them.
//!
//! Neither a time nor a number from a sequence says what may still appear below it: a transaction takes both early, and its
//! rows are seen when the second region has them, however long that takes. Postgres knows which transactions are under way.
//! A pass reads every row from a place on, below which none can appear; the next pass begins at the oldest transaction that
//! was under way when this one began, so that what committed late comes then.
//!
//! Invariants: each page goes further than the one before it, so a pass ends however many were revoked at once; a cursor is
//! good for one epoch, because another primary may number transactions anew; what is told was durable first. An
//! answer that tells nothing has no commit behind it: the router goes on with what it knew, and asks for the same again.

use crate::answer::{Acknowledged, Handled, Reply};
use crate::engine::Engine;
use crate::ledger::revocations::{self, Page, Written};
use crate::limits;
use domicile_core::epoch::Epoch;
use serde_json::json;
use std::fmt;
use uuid::Uuid;

/// Where a router stands. It hands the text back as it got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    epoch: Epoch,
    after: Written,
    /// Within a pass: the transaction at which the next one begins.
    next_pass: Option<i64>,
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let epoch = Epoch(parts.next()?.parse().ok()?);
        let by = parts.next()?.parse().ok()?;
        let session = Uuid::parse_str(parts.next()?).ok()?;
        let next_pass = parts.next()?;
        let next_pass = if next_pass.is_empty() { None } else { Some(next_pass.parse().ok()?) };
        parts.next().is_none().then_some(Self { epoch, after: Written { by, session }, next_pass })
    }

    /// Where to go on after a page; `None` when it told nothing.
    fn next(engine_epoch: Epoch, asked: Option<Self>, page: &Page) -> Option<(Self, bool)> {
        let next_pass = asked.and_then(|asked| asked.next_pass).or(page.horizon)?;
        let is_full = i64::try_from(page.revoked.len()) == Ok(limits::REVOCATIONS_PAGE);
        let cursor = |after, next_pass| Self { epoch: engine_epoch, after, next_pass };
        Some(match page.last.filter(|_last| is_full) {
            Some(last) => (cursor(last, Some(next_pass)), true),
            // No session has this id, so the transaction's own rows are read again.
            None => (cursor(Written { by: next_pass, session: Uuid::nil() }, None), false),
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, after: Written { by, session }, next_pass } = self;
        write!(f, "{epoch}.{by}.{session}.")?;
        next_pass.map_or(Ok(()), |next_pass| write!(f, "{next_pass}"))
    }
}

/// What was written since a cursor; without one, or with one of another epoch, all that a token may still be good for.
pub async fn tell(engine: &Engine, cursor: Option<&str>) -> Handled {
    let asked = cursor.and_then(Cursor::parse).filter(|asked| asked.epoch == engine.epoch);
    let session = engine.hands.session().await?;
    let after = asked.map(|asked| asked.after);
    let page = revocations::page(&*session, after, limits::REVOCATIONS_PAGE).await?;
    drop(session);
    let Some((next, more)) = Cursor::next(engine.epoch, asked, &page) else {
        return Ok(Acknowledged::nothing());
    };
    let answer = json!({ "revoked": page.revoked, "more": more, "cursor": next.to_string() });
    engine.acknowledge(Reply::json(200, &answer)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let after = Written { by: 734, session: Uuid::from_u128(7) };
        for next_pass in [None, Some(700)] {
            let cursor = Cursor { epoch: Epoch(3), after, next_pass };
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
        for bad in ["", "3", "3.734", "3.734.x.", "3.734.00000000-0000-0000-0000-000000000007.1.2"]
        {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }
}
