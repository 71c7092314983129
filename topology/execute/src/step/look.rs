//! The steps that only look.

use super::{Ground, Look, Patience, precondition};
use crate::entry::Learnt;
use crate::error::StepError;
use crate::world::WorldError;
use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::ids::{NodeId, RegionId};
use domicile_topology::agent_api::subscription_name;
use domicile_topology::plan::Action;
use futures_util::FutureExt as _;
use futures_util::future::select_ok;
use std::collections::BTreeSet;

impl Ground<'_> {
    pub(super) async fn look_for(
        &self,
        action: &Action,
        patience: &mut Patience<'_>,
    ) -> Result<Learnt, StepError> {
        match action {
            Action::AwaitReplay { node, demoted } => {
                let end = precondition::end_of(self.plan, self.history, demoted);
                let unknown = || StepError::Precondition(format!("the end of {demoted}"));
                let end = end.ok_or_else(unknown)?;
                self.until(patience, || self.replay(node, end).boxed()).await
            }
            Action::AwaitLeaseEnd { epoch } => {
                self.until(patience, || self.lease_end(*epoch).boxed()).await
            }
            Action::AwaitLeaseEnforced { region, epoch } => {
                self.until(patience, || self.lease_enforced(region, *epoch).boxed()).await
            }
            Action::AwaitWriter { region, epoch } => {
                self.some_writer(region, *epoch, patience).await
            }
            Action::AwaitSlots { standby, readers } => {
                self.until(patience, || self.slots(standby, readers).boxed()).await
            }
            _ => Ok(Learnt::Nothing),
        }
    }

    async fn replay(&self, node: &NodeId, end: Lsn) -> Result<Look<Learnt>, WorldError> {
        let replayed = self.world.status(node).await?.postgres.replay_lsn;
        Ok(match replayed {
            Some(replay_lsn) if replay_lsn >= end => Look::Holds(Learnt::Replayed { replay_lsn }),
            Some(replay_lsn) => {
                Look::NotYet(format!("{node} has {} bytes to replay", end.bytes_since(replay_lsn)))
            }
            None => Look::NotYet(format!("{node} does not say how far it has replayed")),
        })
    }

    /// Whose lease cannot be read, or who cannot be asked, may still answer: an error holds nothing.
    async fn lease_end(&self, epoch: Epoch) -> Result<Look<Learnt>, WorldError> {
        let leases = self.world.leases().await?;
        Ok(match leases.into_iter().find(|lease| lease.epoch < epoch) {
            None => Look::Holds(Learnt::Nothing),
            Some(lease) => {
                Look::NotYet(format!("{} holds a lease of epoch {}", lease.node, lease.epoch))
            }
        })
    }

    /// Every writer there that holds a lease, in the topology or not. One without – dead, frozen, cut off – does not know
    /// better: the primary's agent ends its database sessions before commits stop waiting.
    async fn lease_enforced(
        &self,
        region: &RegionId,
        epoch: Epoch,
    ) -> Result<Look<Learnt>, WorldError> {
        let leases = self.world.leases().await?;
        let mut there = leases.iter().filter(|lease| &lease.region == region);
        Ok(match there.find(|lease| !lease.enforcing || lease.epoch != epoch) {
            None => Look::Holds(Learnt::Nothing),
            Some(lease) => {
                Look::NotYet(format!("{} does not answer under its lease only yet", lease.node))
            }
        })
    }

    /// Each writer there is looked at by itself, so that a frozen one does not hide that another one serves.
    async fn some_writer(
        &self,
        region: &RegionId,
        epoch: Epoch,
        patience: &Patience<'_>,
    ) -> Result<Learnt, StepError> {
        let writers = self.world.topology().writers.iter().filter(|w| &w.region == region);
        let looks: Vec<_> = writers
            .map(|writer| {
                let mut own = patience.another();
                let look = move || self.writer(&writer.node, epoch).boxed();
                async move { self.until(&mut own, look).await }.boxed()
            })
            .collect();
        if looks.is_empty() {
            return Err(StepError::Precondition(format!("there is a writer in {region}")));
        }
        select_ok(looks).await.map(|(learnt, _others)| learnt)
    }

    async fn writer(&self, writer: &NodeId, epoch: Epoch) -> Result<Look<Learnt>, WorldError> {
        Ok(match self.world.writer_epoch(writer).await? {
            Some(served) if served == epoch => {
                Look::Holds(Learnt::Serving { writer: writer.clone(), epoch })
            }
            Some(served) => Look::NotYet(format!("{writer} serves epoch {served}")),
            None => Look::NotYet(format!("{writer} is not ready")),
        })
    }

    async fn slots(
        &self,
        standby: &NodeId,
        readers: &BTreeSet<NodeId>,
    ) -> Result<Look<Learnt>, WorldError> {
        let status = self.world.status(standby).await?;
        let is_ready = |name: &str| status.slots.iter().any(|slot| slot.name == name && slot.ready);
        let of_interest = self.world.topology().readers.iter();
        let of_interest = of_interest.filter(|reader| readers.contains(&reader.node));
        let mut unready = Vec::new();
        let mut ready = std::collections::BTreeMap::new();
        for reader in of_interest {
            for jurisdiction in &reader.jurisdictions {
                let name = subscription_name(&reader.node, jurisdiction);
                if !is_ready(&name) {
                    unready.push(name);
                }
            }
            ready.insert(reader.node.clone(), reader.jurisdictions.clone());
        }
        Ok(if unready.is_empty() {
            Look::Holds(Learnt::SlotsReady { readers: ready })
        } else {
            Look::NotYet(format!("not ready on {standby}: {}", unready.join(", ")))
        })
    }
}
