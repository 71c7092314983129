//! Watching who believes whom to be the writer: the record that each node keeps on disk.

use crate::recorder::Recorder;
use crate::system::System;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Looks until it is ended.
pub struct Watching {
    on: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
}

impl Watching {
    /// Begins; each change goes into the history.
    pub fn start(system: &System, recorder: &Arc<Recorder>) -> Self {
        let on = Arc::new(AtomicBool::new(true));
        let system = system.clone();
        let (going, recorder) = (Arc::clone(&on), Arc::clone(recorder));
        let task = tokio::spawn(async move {
            let mut known = BTreeMap::new();
            while going.load(Ordering::Relaxed) {
                for (observer, record) in system.records() {
                    let seen = (record.epoch.0, record.writer_node.to_string());
                    if known.get(&observer) != Some(&seen) {
                        recorder.record(&observer, seen.0, &seen.1)?;
                        known.insert(observer, seen);
                    }
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(())
        });
        Self { on, task }
    }

    /// Ends.
    pub async fn finish(self) -> Result<()> {
        self.on.store(false, Ordering::Relaxed);
        self.task.await.context("the watch gave up")?
    }
}
