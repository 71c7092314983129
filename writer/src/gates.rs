//! Keyed gates: requests that touch the same session, round or request id take turns in memory.
//!
//! The ledger's row locks and keys decide; a gate keeps requests from meeting there, where a lock is held
//! through the wait for the second region. Shared passes (bets of a round) go side by side; an exclusive
//! one (closing it) is not starved by them, because the queue is fair.
//! Limits: keys, waiters per key and the wait itself.

use crate::limits;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// No turn could be had: too many wait already, or the wait was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests wait for the same object")]
pub struct Crowded;

/// Gates by key.
#[derive(Debug)]
pub struct Gates<K: Eq + Hash + Clone> {
    slots: Arc<Mutex<HashMap<K, Slot>>>,
    users_per_key: usize,
}

#[derive(Debug)]
struct Slot {
    lock: Arc<RwLock<()>>,
    users: usize,
}

/// A turn; ends when dropped.
#[derive(Debug)]
pub struct Turn<K: Eq + Hash + Clone> {
    _guard: Option<Guard>,
    _user: User<K>,
}

#[derive(Debug)]
enum Guard {
    Shared(#[expect(dead_code, reason = "held for its drop")] OwnedRwLockReadGuard<()>),
    Exclusive(#[expect(dead_code, reason = "held for its drop")] OwnedRwLockWriteGuard<()>),
}

/// Registers interest in a key; the slot goes when its last user goes.
#[derive(Debug)]
struct User<K: Eq + Hash + Clone> {
    slots: Arc<Mutex<HashMap<K, Slot>>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Gates<K> {
    /// Gates that at most `users_per_key` requests hold or await at one time, per key.
    pub fn new(users_per_key: usize) -> Self {
        Self { slots: Arc::default(), users_per_key }
    }

    /// Waits for an exclusive turn.
    pub async fn exclusive(&self, key: &K) -> Result<Turn<K>, Crowded> {
        let (lock, user) = self.enter(key)?;
        let guard = within_wait(lock.write_owned()).await?;
        Ok(Turn { _guard: Some(Guard::Exclusive(guard)), _user: user })
    }

    /// Waits for a turn that other shared turns may run beside.
    pub async fn shared(&self, key: &K) -> Result<Turn<K>, Crowded> {
        let (lock, user) = self.enter(key)?;
        let guard = within_wait(lock.read_owned()).await?;
        Ok(Turn { _guard: Some(Guard::Shared(guard)), _user: user })
    }

    fn enter(&self, key: &K) -> Result<(Arc<RwLock<()>>, User<K>), Crowded> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= limits::GATES_KEYS && !slots.contains_key(key) {
            return Err(Crowded);
        }
        let slot =
            slots.entry(key.clone()).or_insert_with(|| Slot { lock: Arc::default(), users: 0 });
        if slot.users >= self.users_per_key {
            return Err(Crowded);
        }
        slot.users = slot.users.saturating_add(1);
        let user = User { slots: Arc::clone(&self.slots), key: key.clone() };
        Ok((Arc::clone(&slot.lock), user))
    }
}

async fn within_wait<T>(turn: impl Future<Output = T>) -> Result<T, Crowded> {
    tokio::time::timeout(limits::GATE_WAIT, turn).await.map_err(|_elapsed| Crowded)
}

impl<K: Eq + Hash + Clone> Drop for User<K> {
    fn drop(&mut self) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(&self.key) {
            slot.users = slot.users.saturating_sub(1);
            if slot.users == 0 {
                slots.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn exclusive_turns_exclude_and_leave_nothing_behind() {
        let gates = Gates::<u8>::new(3);
        let first = gates.exclusive(&1).await.unwrap();
        let other = gates.exclusive(&2).await.unwrap();
        let blocked = tokio::time::timeout(Duration::from_millis(20), gates.shared(&1)).await;
        assert!(blocked.is_err(), "a shared turn must wait for the exclusive one");
        drop(first);
        drop(gates.shared(&1).await.unwrap());
        drop(other);
        assert!(gates.slots.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn shared_turns_run_side_by_side_up_to_the_limit() {
        let gates = Gates::<u8>::new(3);
        let mut turns = Vec::new();
        for _ in 0..3 {
            turns.push(gates.shared(&1).await.unwrap());
        }
        assert_eq!(gates.shared(&1).await.unwrap_err(), Crowded);
    }
}
