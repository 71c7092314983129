//! `epoch/open`: the writer may log in and write under this epoch.
//!
//! The writer's role gets in by an access rule that is written after the epoch's commit.
//! Invariants: only on the primary that the control record names, for the record's epoch, and only while commits wait
//! for what the record says they wait for; epochs are inserted, never changed; the answer comes after a commit that
//! waited for the second region, also when the epoch was open already.

use std::time::Duration;

use domicile_core::epoch::Epoch;
use domicile_postgres::CommitError;
use domicile_topology::agent_api::{EpochOpenAnswer, EpochOpenRequest, Role};
use domicile_topology::document::Durability;
use domicile_topology::observed::NodeKind;
use domicile_topology::record::Record;

use crate::agent::Agent;
use crate::error::Error;
use crate::settings::{DATABASE, SyncTarget};
use crate::transfer::named;

/// The commit's wait for the second region.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);

impl Agent {
    /// Opens the epoch, unless it is open, and lets the writer's role in.
    pub async fn open_epoch(&self, request: &EpochOpenRequest) -> Result<EpochOpenAnswer, Error> {
        let _turn = self.turn().await?;
        if self.config.kind != NodeKind::Ledger || self.role() != Role::Primary {
            return Err(Error::State("only the ledger's primary opens an epoch".to_owned()));
        }
        let record = self.named_for(request.epoch).await?;
        fenced_as_recorded(&record, &self.memory().sync)?;
        let opened = self.insert_epoch(&record).await?;
        self.remember(|memory| {
            memory.primary_in = Some(record.epoch);
            memory.opened = Some(record.epoch);
        })?;
        if self.write_access()? {
            self.postmaster.reload();
        }
        tracing::info!(epoch = record.epoch.0, opened, "epoch open");
        Ok(EpochOpenAnswer { opened, epoch: record.epoch })
    }

    /// The record, if the control plane says that it names this node at this epoch.
    pub(crate) async fn named_for(&self, epoch: Epoch) -> Result<Record, Error> {
        Ok(named(&self.config.node, epoch, self.control.ask().await)?)
    }

    async fn insert_epoch(&self, record: &Record) -> Result<bool, Error> {
        let step = "open the epoch";
        let mut session = self.open(DATABASE).await?;
        let epoch = i64::try_from(record.epoch.0).map_err(|error| Error::step(step, error))?;
        let (region, node) = (record.writer_region.as_str(), record.writer_node.as_str());
        let transaction = session.begin(step).await?;
        let failed = |error| Error::step(step, error);
        let newer = "select epoch from ledger.epoch where epoch > $1 limit 1";
        if transaction.query_opt(newer, &[&epoch]).await.map_err(failed)?.is_some() {
            return Err(Error::NotNamed("a later epoch is open in the ledger".to_owned()));
        }
        let insert = "insert into ledger.epoch (epoch, region, node, opened_at) \
                      values ($1, $2, $3, now()) on conflict (epoch) do nothing";
        let opened =
            transaction.execute(insert, &[&epoch, &region, &node]).await.map_err(failed)?;
        let own = "select true from ledger.epoch where epoch = $1 and node = $2";
        if transaction.query_opt(own, &[&epoch, &node]).await.map_err(failed)?.is_none() {
            return Err(Error::NotNamed("the ledger has this epoch under another node".to_owned()));
        }
        // Repeated as well, so that the commit waits for the second region.
        transaction.fence().await.map_err(failed)?;
        match transaction.commit(COMMIT_TIMEOUT).await {
            Ok(_durable) => Ok(opened == 1),
            Err(CommitError::Unknown(_)) => Err(Error::Unknown(step)),
            Err(CommitError::NotExecuted(error)) => Err(Error::step(step, error)),
        }
    }
}

fn fenced_as_recorded(record: &Record, configured: &SyncTarget) -> Result<(), Error> {
    let recorded = match (record.durability, &record.sync_member) {
        (Durability::Two, Some(member)) => configured == &SyncTarget::Member(member.clone()),
        (Durability::Two, None) => false,
        (Durability::One, _) => configured != &SyncTarget::Closed,
    };
    if recorded {
        Ok(())
    } else {
        Err(Error::State("commits do not wait for what the control record says: sync first".into()))
    }
}
