//! New identifiers and random bytes.
//!
//! Invariants: every byte comes from the operating system; version 7 ids of one source only grow, also
//! within a millisecond, so that they order what one process made.

use std::sync::{Arc, Mutex};

use uuid::{ContextV7, Timestamp, Uuid};

use crate::clock::Clock;

/// Makes identifiers and random bytes.
#[derive(Debug, Clone)]
pub struct IdSource {
    clock: Arc<dyn Clock>,
    order: Arc<Mutex<ContextV7>>,
}

impl IdSource {
    /// A source whose time-ordered ids follow `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, order: Arc::new(Mutex::new(ContextV7::new())) }
    }

    /// A time-ordered id, for rows that are read in the order they were made.
    pub fn uuid_v7(&self) -> Uuid {
        let unix_ms = self.clock.now_unix_ms();
        let nanos = u32::try_from(unix_ms % 1000).unwrap_or_default().saturating_mul(1_000_000);
        Uuid::new_v7(Timestamp::from_unix(&*self.order, unix_ms / 1000, nanos))
    }

    /// A random id that tells nothing about when it was made.
    pub fn uuid_v4(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// Random bytes from the operating system.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "without randomness no seed, salt or id is safe: the process has to end"
    )]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        getrandom::fill(&mut bytes).expect("the operating system provides randomness");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn ids_of_one_millisecond_still_grow() {
        let ids = IdSource::new(Arc::new(ManualClock::at_unix_s(1_800_000_000)));
        let made: Vec<_> = (0..1000).map(|_| ids.uuid_v7()).collect();
        assert!(made.is_sorted());
        assert_eq!(made[0].get_version_num(), 7);
        assert_eq!(ids.uuid_v4().get_version_num(), 4);
        assert_ne!(ids.bytes::<32>(), ids.bytes::<32>());
    }
}
