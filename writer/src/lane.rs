//! Group commit: concurrent requests of one kind share a transaction, a lone request pays nothing.
//!
//! A lane is one bounded queue and a few workers. An idle worker starts at once with whatever is there;
//! while all of them are in a transaction, requests gather and go out together. A job that the ledger
//! refuses fails alone: its batch is rolled back and every job of it runs by itself.
//! Invariants: the queue and the batch are bounded; a full queue refuses at once; every submitted job is
//! answered, and a job whose worker vanished is answered *unknown*, never as success or failure.

use crate::{answer::Failure, limits};
use domicile_core::error::Code;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::{Instrument, Span};

/// Why a batch has no results. After the first two nothing of it is in the ledger, and perhaps one job
/// alone is the reason, so each one runs by itself.
#[derive(Debug)]
pub enum BatchError {
    /// Rows changed under the batch: what was prepared is out of date.
    Raced,
    /// The ledger refused a statement.
    Rejected(Failure),
    /// The failure concerns every job alike; splitting would not help.
    Whole(Failure),
}

/// Why a job has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobError {
    /// Its rows changed meanwhile and nothing was written: look again and prepare anew.
    Raced,
    /// It is refused, or its outcome is unknown.
    Failed(Failure),
}

impl JobError {
    /// The failure of a job that changes nothing and so cannot race.
    pub fn unraced(self) -> Failure {
        match self {
            Self::Raced => Failure::new(Code::Internal),
            Self::Failed(failure) => failure,
        }
    }
}

impl BatchError {
    fn of_job(self) -> JobError {
        match self {
            Self::Raced => JobError::Raced,
            Self::Rejected(failure) | Self::Whole(failure) => JobError::Failed(failure),
        }
    }
}

/// Runs batches of one kind of job.
pub trait Executor: Send + Sync + 'static {
    /// One request's part.
    type Job: Send + Sync + 'static;
    /// What one job yields.
    type Done: Send + 'static;

    /// The lane's name in metrics and spans.
    const NAME: &'static str;
    /// How many batches run at one time.
    const WORKERS: usize;

    /// Runs all jobs in one transaction and yields one result per job, in order.
    fn run(
        &self,
        jobs: &[Self::Job],
    ) -> impl Future<Output = Result<Vec<Self::Done>, BatchError>> + Send;
}

struct Queued<E: Executor> {
    job: E::Job,
    span: Span,
    answer: oneshot::Sender<Result<E::Done, JobError>>,
}

/// The entry to a lane. Its workers end when the last entry is dropped and the queue is empty.
pub struct Lane<E: Executor> {
    queue: mpsc::Sender<Queued<E>>,
}

impl<E: Executor> std::fmt::Debug for Lane<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("name", &E::NAME).finish_non_exhaustive()
    }
}

impl<E: Executor> Lane<E> {
    /// Starts the workers.
    pub fn start(executor: E) -> Self {
        let (queue, jobs) = mpsc::channel(limits::LANE_QUEUE_REQUESTS);
        let (executor, jobs) = (Arc::new(executor), Arc::new(Mutex::new(jobs)));
        for _ in 0..E::WORKERS {
            tokio::spawn(work(Arc::clone(&executor), Arc::clone(&jobs)));
        }
        Self { queue }
    }

    /// Queues a job and waits for its result.
    pub async fn submit(&self, job: E::Job) -> Result<E::Done, JobError> {
        let (answer, result) = oneshot::channel();
        let queued = self.queue.try_send(Queued { job, span: Span::current(), answer });
        queued.map_err(|_full_or_closed| failed(Code::WriterOverloaded))?;
        result.await.unwrap_or_else(|_vanished| Err(failed(Code::OutcomeUnknown)))
    }
}

const fn failed(code: Code) -> JobError {
    JobError::Failed(Failure::new(code))
}

type Jobs<E> = Arc<Mutex<mpsc::Receiver<Queued<E>>>>;

async fn work<E: Executor>(executor: Arc<E>, jobs: Jobs<E>) {
    let mut batch = Vec::with_capacity(limits::LANE_BATCH_REQUESTS);
    loop {
        let taken = jobs.lock().await.recv_many(&mut batch, limits::LANE_BATCH_REQUESTS).await;
        if taken == 0 {
            return;
        }
        let span = batch_span::<E>(&batch);
        run_batch(&*executor, std::mem::take(&mut batch)).instrument(span).await;
    }
}

/// The batch belongs to its first request's trace and follows from all the others'.
fn batch_span<E: Executor>(batch: &[Queued<E>]) -> Span {
    let mut spans = batch.iter().map(|queued| &queued.span);
    let first = spans.next().and_then(Span::id);
    let batch = tracing::info_span!(parent: first, "batch", lane = E::NAME, items = batch.len());
    for span in spans {
        batch.follows_from(span);
    }
    batch
}

async fn run_batch<E: Executor>(executor: &E, batch: Vec<Queued<E>>) {
    let count = batch.len();
    metrics::histogram!("domicile_writer_batch_items", "lane" => E::NAME)
        .record(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    let (jobs, answers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|queued| (queued.job, queued.answer)).unzip();
    match executor.run(&jobs).await {
        Ok(results) => {
            for (answer, result) in answers.into_iter().zip(results) {
                reply(answer, Ok(result));
            }
        }
        Err(BatchError::Raced | BatchError::Rejected(_)) if count > 1 => {
            run_singly(executor, jobs, answers).await;
        }
        Err(error) => {
            let error = error.of_job();
            for answer in answers {
                reply(answer, Err(error.clone()));
            }
        }
    }
}

async fn run_singly<E: Executor>(
    executor: &E,
    jobs: Vec<E::Job>,
    answers: Vec<oneshot::Sender<Result<E::Done, JobError>>>,
) {
    metrics::counter!("domicile_writer_batch_splits_total", "lane" => E::NAME).increment(1);
    for (job, answer) in jobs.iter().zip(answers) {
        let result = match executor.run(std::slice::from_ref(job)).await {
            Ok(results) => results.into_iter().next().ok_or(failed(Code::Internal)),
            Err(error) => Err(error.of_job()),
        };
        reply(answer, result);
    }
}

/// The requester may have gone away; its result is in the ledger under its key.
fn reply<T>(answer: oneshot::Sender<Result<T, JobError>>, result: Result<T, JobError>) {
    drop(answer.send(result));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex as StdMutex;
    use tokio::sync::Semaphore;

    /// Refuses batches with a zero in them; records what it ran.
    struct Doubler {
        ran: Arc<StdMutex<Vec<Vec<u32>>>>,
        permits: Arc<Semaphore>,
    }

    impl Executor for Doubler {
        type Job = u32;
        type Done = u32;
        const NAME: &'static str = "test";
        const WORKERS: usize = 2;

        async fn run(&self, jobs: &[u32]) -> Result<Vec<u32>, BatchError> {
            self.permits.acquire().await.unwrap().forget();
            self.ran.lock().unwrap().push(jobs.to_vec());
            if jobs.contains(&0) {
                return Err(BatchError::Rejected(Failure::new(Code::BetInvalid)));
            }
            if jobs.contains(&99) {
                return Err(BatchError::Whole(Failure::new(Code::OutcomeUnknown)));
            }
            Ok(jobs.iter().map(|n| n * 2).collect())
        }
    }

    type Ran = Arc<StdMutex<Vec<Vec<u32>>>>;

    fn lane() -> (Arc<Lane<Doubler>>, Ran, Arc<Semaphore>) {
        let (ran, permits) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let executor = Doubler { ran: Arc::clone(&ran), permits: Arc::clone(&permits) };
        (Arc::new(Lane::start(executor)), ran, permits)
    }

    async fn submit_all(
        lane: &Arc<Lane<Doubler>>,
        jobs: &[u32],
    ) -> Vec<tokio::task::JoinHandle<Result<u32, JobError>>> {
        let mut handles = Vec::new();
        for job in jobs {
            let (lane, job) = (Arc::clone(lane), *job);
            handles.push(tokio::spawn(async move { lane.submit(job).await }));
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        handles
    }

    #[tokio::test]
    async fn an_idle_lane_starts_at_once_and_a_busy_one_gathers() {
        let (lane, ran, permits) = lane();
        let handles = submit_all(&lane, &[1, 2, 3, 4, 5]).await;
        permits.add_permits(16);
        for (handle, expected) in handles.into_iter().zip([2, 4, 6, 8, 10]) {
            assert_eq!(handle.await.unwrap().unwrap(), expected);
        }
        let mut sizes: Vec<_> = ran.lock().unwrap().iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 1, 3], "one per idle worker, then the rest together");
    }

    #[tokio::test]
    async fn a_bad_job_fails_alone() {
        let (lane, _ran, permits) = lane();
        let handles = submit_all(&lane, &[7, 8, 1, 0, 3]).await;
        permits.add_permits(16);
        let mut results = Vec::new();
        for handle in handles {
            results.push(handle.await.unwrap());
        }
        assert_eq!(results, [Ok(14), Ok(16), Ok(2), Err(failed(Code::BetInvalid)), Ok(6)]);
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_everybodys_and_nothing_runs_twice() {
        let (lane, ran, permits) = lane();
        let handles = submit_all(&lane, &[7, 8, 1, 99, 3]).await;
        permits.add_permits(16);
        let mut unknown = 0;
        for handle in handles {
            if handle.await.unwrap() == Err(failed(Code::OutcomeUnknown)) {
                unknown += 1;
            }
        }
        assert_eq!(unknown, 3);
        assert_eq!(ran.lock().unwrap().len(), 3);
    }
}
