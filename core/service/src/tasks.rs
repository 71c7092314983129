//! Background tasks with names: none ends or panics unseen.

use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use tokio::task::JoinHandle;

use crate::drain::Drain;

/// Runs `future` in the background; a panic is logged and counted.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        watched(name, future).await;
    })
}

/// Runs a task the process cannot do without: when it ends or panics before leaving has begun, the
/// process leaves in order and its supervisor starts it anew.
pub fn spawn_vital<F>(name: &'static str, drain: &Drain, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let drain = drain.clone();
    tokio::spawn(async move {
        watched(name, future).await;
        if !drain.has_begun() {
            tracing::error!(task = name, "a vital task ended");
            drain.begin("a vital task ended");
        }
    })
}

async fn watched(name: &'static str, future: impl Future<Output = ()>) {
    if AssertUnwindSafe(future).catch_unwind().await.is_err() {
        metrics::counter!("domicile_task_panics_total", "task" => name).increment(1);
        tracing::error!(task = name, "a task panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::DrainLimits;

    #[tokio::test]
    async fn a_vital_task_that_panics_ends_the_process_in_order() {
        let drain = Drain::new(DrainLimits { grace_ms: 0, wait_ms: 0 });
        spawn("lost", async { panic!("expected in this test") }).await.unwrap();
        assert!(!drain.has_begun());
        spawn_vital("sequencer", &drain, async { panic!("expected in this test") }).await.unwrap();
        drain.closing().await;
    }
}
