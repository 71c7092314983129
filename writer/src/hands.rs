//! Database sessions for requests that are transactions of their own.
//!
//! The pool refuses at once when full, and the lanes and sequencers need their sessions at any time; so
//! these requests take turns on a fixed share of the pool, each waiting a bounded time.

use crate::answer::Failure;
use crate::limits;
use domicile_core::error::Code;
use domicile_postgres::{Pool, Session};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The share.
#[derive(Debug, Clone)]
pub struct Hands {
    pool: Pool,
    free: Arc<Semaphore>,
}

/// A session of the share; free again when dropped.
#[derive(Debug)]
pub struct Hand {
    session: Session,
    _permit: OwnedSemaphorePermit,
}

impl Hands {
    /// A share of this pool.
    pub fn new(pool: Pool) -> Self {
        Self { pool, free: Arc::new(Semaphore::new(limits::HAND_SESSIONS)) }
    }

    /// Waits for a session.
    pub async fn session(&self) -> Result<Hand, Failure> {
        let permit =
            tokio::time::timeout(limits::GATE_WAIT, Arc::clone(&self.free).acquire_owned());
        let Ok(Ok(permit)) = permit.await else {
            return Err(Failure::new(Code::WriterOverloaded));
        };
        Ok(Hand { session: self.pool.session().await?, _permit: permit })
    }
}

impl Deref for Hand {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Hand {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}
