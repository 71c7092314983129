//! Values remembered for a moment, each read once for everybody who wants it meanwhile.
//!
//! Invariants: at most a fixed number of entries; none is handed to a newcomer later than [`limits::DIRECTORY_MAX_AGE`]
//! after its read began; whoever comes while a value is read gets what that read finds, an error as well, and an error is
//! remembered for nobody else. A read ends whether or not anybody still waits for it. What was forgotten is read again, also
//! when a read of it is under way.

use crate::answer::Failure;
use crate::limits;
use domicile_core::error::Code;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::Instrument as _;

type Reading<V> = Shared<BoxFuture<'static, Result<V, Failure>>>;

/// A few values.
pub(crate) struct Recent<K, V> {
    entries: Mutex<HashMap<K, Entry<V>>>,
}

#[derive(Clone)]
struct Entry<V> {
    begun_at: Duration,
    reading: Reading<V>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<K, V> Recent<K, V>
where
    K: Eq + Hash + Clone,
    V: Clone + Send + Sync + 'static,
{
    /// The value: remembered, being read, or read now.
    pub(crate) async fn get<R>(
        &self,
        key: &K,
        now: Duration,
        read: impl FnOnce() -> R,
    ) -> Result<V, Failure>
    where
        R: Future<Output = Result<V, Failure>> + Send + 'static,
    {
        let reading = self.reading(key, now, read);
        let value = reading.clone().await;
        if value.is_err() {
            let mut entries = self.lock();
            // Unless somebody reads anew already.
            if entries.get(key).is_some_and(|entry| entry.reading.ptr_eq(&reading)) {
                entries.remove(key);
            }
        }
        value
    }

    pub(crate) fn forget(&self, key: &K) {
        self.lock().remove(key);
    }

    fn reading<R>(&self, key: &K, now: Duration, read: impl FnOnce() -> R) -> Reading<V>
    where
        R: Future<Output = Result<V, Failure>> + Send + 'static,
    {
        let mut entries = self.lock();
        if let Some(entry) = entries.get(key).filter(|entry| is_fresh(entry.begun_at, now)) {
            return entry.reading.clone();
        }
        // A task of its own: a caller that leaves takes nobody else's answer along, and no session stays behind.
        let task = tokio::spawn(read().in_current_span());
        let lost = |_panicked| Err(Failure::new(Code::Internal));
        let reading = task.map(move |read| read.unwrap_or_else(lost)).boxed().shared();
        if entries.len() >= limits::DIRECTORY_ENTRIES {
            entries.retain(|_, entry| is_fresh(entry.begun_at, now));
        }
        if entries.len() < limits::DIRECTORY_ENTRIES {
            entries.insert(key.clone(), Entry { begun_at: now, reading: reading.clone() });
        }
        reading
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Entry<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(begun_at: Duration, now: Duration) -> bool {
    now.saturating_sub(begun_at) < limits::DIRECTORY_MAX_AGE
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    const START: Duration = Duration::from_secs(100);
    const CALLERS: usize = 256;

    /// What is read: counted, and held up until it is let go.
    #[derive(Clone)]
    struct Ledger {
        reads: Arc<AtomicUsize>,
        let_go: Arc<Semaphore>,
        answer: Result<usize, Failure>,
    }

    impl Ledger {
        fn new(answer: Result<usize, Failure>) -> Self {
            Self { reads: Arc::default(), let_go: Arc::new(Semaphore::new(0)), answer }
        }

        fn reads(&self) -> usize {
            self.reads.load(Ordering::SeqCst)
        }

        async fn read(self) -> Result<usize, Failure> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            drop(self.let_go.acquire().await);
            self.answer
        }
    }

    fn unknown() -> Failure {
        Failure::new(Code::OperatorKeyUnknown)
    }

    /// Callers of one key that all wait, and the first of them begun.
    async fn callers(
        recent: &Arc<Recent<u8, usize>>,
        ledger: &Ledger,
        now: Duration,
    ) -> JoinSet<Result<usize, Failure>> {
        let mut callers = JoinSet::new();
        let before = ledger.reads();
        for _ in 0..CALLERS {
            let (recent, ledger) = (Arc::clone(recent), ledger.clone());
            callers.spawn(async move { recent.get(&1, now, || ledger.read()).await });
        }
        while ledger.reads() == before {
            tokio::task::yield_now().await;
        }
        callers
    }

    #[tokio::test]
    async fn everybody_at_a_lapse_waits_for_one_read() {
        let recent = Arc::new(Recent::default());
        let ledger = Ledger::new(Ok(7));
        for (reads, now) in [START, START + limits::DIRECTORY_MAX_AGE].into_iter().enumerate() {
            let callers = callers(&recent, &ledger, now).await;
            ledger.let_go.add_permits(1);
            assert_eq!(callers.join_all().await, vec![Ok(7); CALLERS]);
            assert_eq!(ledger.reads(), reads + 1);
        }
        let last = START + limits::DIRECTORY_MAX_AGE + limits::DIRECTORY_MAX_AGE / 2;
        assert_eq!(recent.get(&1, last, || ledger.clone().read()).await, Ok(7));
        assert_eq!(ledger.reads(), 2, "still remembered");
    }

    #[tokio::test]
    async fn an_error_is_for_those_who_waited_for_it() {
        let recent = Arc::new(Recent::default());
        let failing = Ledger::new(Err(unknown()));
        let callers = callers(&recent, &failing, START).await;
        failing.let_go.add_permits(1);
        assert_eq!(callers.join_all().await, vec![Err(unknown()); CALLERS]);
        assert_eq!(failing.reads(), 1);
        let well = Ledger::new(Ok(7));
        well.let_go.add_permits(1);
        assert_eq!(recent.get(&1, START, || well.clone().read()).await, Ok(7));
        assert_eq!(recent.get(&1, START, || well.clone().read()).await, Ok(7));
        assert_eq!(well.reads(), 1);
        let panics = async { panic!("on purpose") };
        let lost = recent.get(&2, START, || panics).await;
        assert_eq!(lost, Err(Failure::new(Code::Internal)));
    }

    #[tokio::test]
    async fn what_was_forgotten_is_read_again_and_who_leaves_ends_no_read() {
        let recent = Arc::new(Recent::default());
        let old = Ledger::new(Ok(1));
        let mut leaving = callers(&recent, &old, START).await;
        leaving.abort_all();
        while leaving.join_next().await.is_some() {}
        recent.forget(&1);
        let new = Ledger::new(Ok(2));
        new.let_go.add_permits(1);
        assert_eq!(recent.get(&1, START, || new.read()).await, Ok(2));
        old.let_go.add_permits(1);
        while old.let_go.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(recent.get(&1, START, || old.read()).await, Ok(2), "the old read is nobody's");
    }

    #[tokio::test]
    async fn entries_are_few() {
        let recent = Recent::default();
        for key in 0..limits::DIRECTORY_ENTRIES + 10 {
            assert_eq!(recent.get(&key, START, || async move { Ok(key) }).await, Ok(key));
        }
        assert_eq!(recent.lock().len(), limits::DIRECTORY_ENTRIES);
        let later = START + limits::DIRECTORY_MAX_AGE;
        assert_eq!(recent.get(&usize::MAX, later, || async { Ok(7) }).await, Ok(7));
        assert_eq!(recent.lock().len(), 1, "old entries make room");
    }
}
