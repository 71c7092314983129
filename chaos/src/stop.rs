//! Why something was not carried out to its end: it could not be, or the system did not do what it has to.

use anyhow::Result;

/// Why steps ended before their end.
#[derive(Debug)]
pub enum Stop {
    /// It could not be carried out.
    NotRun(anyhow::Error),
    /// The system did not do what it has to.
    Failed(anyhow::Error),
}

impl Stop {
    /// The reason alone.
    pub fn into_error(self) -> anyhow::Error {
        let (Self::NotRun(error) | Self::Failed(error)) = self;
        error
    }
}

/// What steps come to.
pub type Done<T = ()> = Result<T, Stop>;

/// It could not be carried out.
pub fn not_run(error: anyhow::Error) -> Stop {
    Stop::NotRun(error)
}

/// The system did not do what it has to.
pub fn failed(error: anyhow::Error) -> Stop {
    Stop::Failed(error)
}
