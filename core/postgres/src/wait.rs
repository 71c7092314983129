//! Whether a session's commits wait for the second region: asked of the server, in a way that makes the answer last.
//!
//! Whoever takes the wait down holds [`TAKE_DOWN_SQL`]'s lock alone, ends the sessions of everybody who may rest on the
//! wait, takes it down, and only then lets go. A session asks while it shares that lock. Invariant: a session that was told
//! that its commits wait never commits without, unless its owner had said before that it rests on something else. The
//! question is a command of its own, since a server reads changed settings between two commands.
//! Deliberately absent: when to ask, and what an answer is good for.

use crate::connection::Connection;
use crate::error::Error;

/// Whether commits wait for the second region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// They do, for as long as the session lives.
    Kept,
    /// They do not, or nobody has asked: what is committed may be here alone.
    NotKnown,
}

/// Waits until no session is asking, and lets none ask until this one has ended.
pub const TAKE_DOWN_SQL: &str = "SELECT pg_advisory_lock(25699, 1)";
/// The process of every other session that has the lock, or asks for it.
pub const ASKING_SQL: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 25699 AND objid = 1 \
     AND objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND pid <> pg_backend_pid()";
const SHARE: &str = "SELECT pg_advisory_lock_shared(25699, 1)";
const ASK: &str = "SELECT current_setting('synchronous_standby_names') <> ''";
const LEAVE: &str = "SELECT pg_advisory_unlock_shared(25699, 1)";

/// Asks the server. After an error the connection is not to be used any more: it may hold the lock.
pub(crate) async fn ask(connection: &Connection) -> Result<Wait, Error> {
    connection.batch_execute(SHARE).await?;
    let row = connection.query_one(ASK, &[]).await?;
    let waits = row.try_get(0).map_err(|source| Error::decode("ask for the wait", source))?;
    connection.batch_execute(LEAVE).await?;
    Ok(if waits { Wait::Kept } else { Wait::NotKnown })
}
