//! Who may still acknowledge.
//!
//! Invariant: it is asked after the server has answered COMMIT and before anybody is told; a commit whose guard does not
//! hold is unknown, never a success. Deliberately absent: what it rests on, which is the service's to know.

use crate::wait::Wait;

/// Says whether what was committed may be told to anyone.
pub trait AnswerGuard: Send + Sync + std::fmt::Debug {
    /// Whether it holds now, for a commit of a session that knows this about its wait.
    fn holds(&self, wait: Wait) -> bool;

    /// Whether it rests on the wait for the second region: a session that does not know is asked about it before it is
    /// used.
    fn rests_on_wait(&self) -> bool;

    /// Told what the server said to a session.
    fn heard(&self, wait: Wait);
}
