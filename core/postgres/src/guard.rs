//! Who may still acknowledge.
//!
//! Invariant: it is asked after the server has answered COMMIT and before anybody is told; a commit whose guard does not
//! hold is unknown, never a success. Deliberately absent: what it rests on, which is the service's to know.

/// Says whether what was committed may be told to anyone.
pub trait AnswerGuard: Send + Sync + std::fmt::Debug {
    /// Whether it holds now.
    fn holds(&self) -> bool;
}
