//! The background work behind a [`Watch`]: read, watch, beat, and start over when in doubt.
//!
//! A read gives the present value; the stream brings changes at once; each beat reads again, which
//! proves that a majority is there and repairs whatever a silent stream missed. Compaction, restart and
//! failover therefore need no case of their own: the loop starts over with a read.

use crate::cache::CacheFile;
use crate::config::limits;
use crate::error::Error;
use crate::etcd::{Entry, Etcd, Event, Revision};
use crate::watch::{Known, Watch};
use domicile_core::ids::ClusterId;
use domicile_topology::document::Succession;
use domicile_topology::{Record, Topology};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

/// Gauge, 1 while the control plane answers, by key.
const CONNECTED: &str = "domicile_control_connected";
/// Counter of values that were not taken on, by key.
const REFUSED: &str = "domicile_control_refused_values_total";

/// A value that lives under a key of the control plane.
pub(crate) trait Stored: Sized + Send + Sync + 'static {
    /// Short name for logs and metrics, and the last part of the key.
    const NAME: &'static str;

    /// Reads and checks a value.
    fn decode(cluster: &ClusterId, bytes: &[u8]) -> Result<Self, String>;

    /// Whether this value may be taken on after `present`; `Ok(false)` when it is the same.
    fn follows(&self, present: &Self) -> Result<bool, String>;
}

impl Stored for Topology {
    const NAME: &'static str = "topology";

    fn decode(cluster: &ClusterId, bytes: &[u8]) -> Result<Self, String> {
        let topology = Self::from_json(bytes).map_err(|error| error.to_string())?;
        if &topology.cluster == cluster {
            Ok(topology)
        } else {
            Err(format!("it is of cluster {}", topology.cluster))
        }
    }

    fn follows(&self, present: &Self) -> Result<bool, String> {
        match self.succeeds(present) {
            Ok(Succession::Newer) => Ok(true),
            Ok(Succession::Same) => Ok(false),
            Err(refused) => Err(refused.to_string()),
        }
    }
}

impl Stored for Record {
    const NAME: &'static str = "record";

    fn decode(_: &ClusterId, bytes: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        record.check().map_err(|fault| fault.to_string())?;
        Ok(record)
    }

    /// Several changes may have been missed, so only the epoch is compared.
    fn follows(&self, present: &Self) -> Result<bool, String> {
        if self.epoch < present.epoch {
            return Err(format!("its epoch {} is before {}", self.epoch, present.epoch));
        }
        Ok(self != present)
    }
}

/// Starts following a key; the value on disk is known at once.
pub(crate) fn start<T: Stored>(
    etcd: Etcd,
    cluster: ClusterId,
    key: String,
    cache: CacheFile,
) -> Watch<T> {
    let kept = load(&cluster, &cache);
    let (values, values_receiver) = watch::channel(kept);
    let (heard, heard_receiver) = watch::channel(None);
    let follower =
        Follower { etcd, cluster, key, cache, values, heard, judged: None, was_removed: false };
    tokio::spawn(follower.run());
    Watch { values: values_receiver, heard: heard_receiver }
}

fn load<T: Stored>(cluster: &ClusterId, cache: &CacheFile) -> Option<Known<T>> {
    let path = cache.path().display();
    let bytes = cache.load().unwrap_or_else(|error| {
        tracing::warn!(%path, %error, "the kept {} cannot be read", T::NAME);
        None
    })?;
    match T::decode(cluster, &bytes) {
        Ok(value) => Some(Known { value: Arc::new(value), revision: None }),
        Err(error) => {
            tracing::warn!(%path, %error, "the kept {} is not used", T::NAME);
            None
        }
    }
}

struct Follower<T> {
    etcd: Etcd,
    cluster: ClusterId,
    key: String,
    cache: CacheFile,
    values: watch::Sender<Option<Known<T>>>,
    heard: watch::Sender<Option<Instant>>,
    /// The revision judged last, so that no value is judged, or complained of, twice.
    judged: Option<Revision>,
    was_removed: bool,
}

impl<T: Stored> Follower<T> {
    async fn run(mut self) {
        let values = self.values.clone();
        let retry_delay = Duration::from_millis(limits::RETRY_DELAY_MS);
        let work = async {
            let mut is_lost = false;
            loop {
                if let Err(error) = self.follow(&mut is_lost).await {
                    metrics::gauge!(CONNECTED, "key" => T::NAME).set(0.0);
                    if !std::mem::replace(&mut is_lost, true) {
                        tracing::warn!(key = self.key, %error, "the control plane is away");
                    }
                }
                sleep(retry_delay).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = values.closed() => {}
        }
    }

    /// Follows the key until something is in doubt.
    async fn follow(&mut self, is_lost: &mut bool) -> Result<(), Error> {
        let seen = self.read().await?;
        metrics::gauge!(CONNECTED, "key" => T::NAME).set(1.0);
        if std::mem::take(is_lost) {
            tracing::info!(key = self.key, "the control plane is back");
        }
        let mut stream = self.etcd.watch(&self.key, seen).await?;
        let endpoint = self.etcd.current_endpoint();
        let period = Duration::from_millis(limits::BEAT_MS);
        let mut beat = interval_at(Instant::now() + period, period);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.etcd.current_endpoint() == endpoint {
            tokio::select! {
                event = stream.next() => match event? {
                    // A read may have run ahead of the stream.
                    Event::Put(entry) if self.judged >= Some(entry.modified) => {}
                    Event::Put(entry) => self.offer(entry).await,
                    Event::Deleted => self.removed(),
                },
                _ = beat.tick() => {
                    self.read().await?;
                }
            }
        }
        Ok(())
    }

    /// Reads the present value and notes that a majority answered.
    async fn read(&mut self) -> Result<Revision, Error> {
        let sent = Instant::now();
        let (entry, revision) = self.etcd.get(&self.key).await?;
        match entry {
            Some(entry) if self.judged == Some(entry.modified) => {}
            Some(entry) => self.offer(entry).await,
            None => self.removed(),
        }
        self.heard.send_replace(Some(sent));
        Ok(revision)
    }

    fn removed(&mut self) {
        let is_first = !std::mem::replace(&mut self.was_removed, true);
        if is_first && self.values.borrow().is_some() {
            tracing::warn!(key = self.key, "there is no such key; the last value stays in force");
        }
    }

    /// Takes a value on, unless it is known already or may not follow the present one.
    async fn offer(&mut self, entry: Entry) {
        let revision = Some(entry.modified);
        self.judged = revision;
        self.was_removed = false;
        let present = self.values.borrow().clone();
        let verdict = T::decode(&self.cluster, &entry.value).and_then(|value| {
            let is_new = present.map_or(Ok(true), |known| value.follows(&known.value))?;
            Ok((value, is_new))
        });
        match verdict {
            Ok((value, true)) => {
                self.keep(entry.value).await;
                self.values.send_replace(Some(Known { value: Arc::new(value), revision }));
            }
            Ok((_, false)) => self.confirm(revision),
            Err(error) => {
                metrics::counter!(REFUSED, "key" => T::NAME).increment(1);
                tracing::error!(key = self.key, %error, "a value of the control plane is refused");
            }
        }
    }

    /// Notes the revision of a value that is known already, without waking anybody.
    fn confirm(&self, revision: Option<Revision>) {
        self.values.send_if_modified(|known| {
            if let Some(known) = known {
                known.revision = revision;
            }
            false
        });
    }

    /// Keeps a value on disk before anybody acts on it. A full disk delays nothing: it is reported.
    async fn keep(&self, bytes: Vec<u8>) {
        let cache = self.cache.clone();
        let path = cache.path().display().to_string();
        let stored = tokio::task::spawn_blocking(move || cache.store(&bytes)).await;
        if let Err(error) = stored.map_err(std::io::Error::other).flatten() {
            tracing::error!(path, %error, "the last known {} cannot be kept on disk", T::NAME);
        }
    }
}
