//! Waiting until the system says of itself that nothing is wrong.

use crate::stop::{Done, failed};
use crate::system::System;
use anyhow::anyhow;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until the system says of itself that nothing is wrong, and a standby may be promoted.
pub async fn whole(system: &System, within: Duration) -> Done {
    let begun = Instant::now();
    loop {
        let status = system.status().await.map_err(failed)?;
        let at = |pointer: &str| status.pointer(pointer).cloned().unwrap_or_default();
        let whole = at("/healthy") == true && at("/record/promotable") == true;
        if whole && at("/record/durability") == "two" && at("/record/writes") == "open" {
            return Ok(());
        }
        if begun.elapsed() >= within {
            let problems: BTreeSet<String> = at("/problems")
                .as_array()
                .map(|all| all.iter().map(ToString::to_string).collect())
                .unwrap_or_default();
            let seconds = within.as_secs();
            return Err(failed(anyhow!("not whole within {seconds} s: {problems:?}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
