//! The databases, in the order that makes them safe: primary, control record, standby, synchronous, schemas, readers,
//! epoch, slots, promotable.
//!
//! The order is the design's: nothing is acknowledged before the second region confirms, the writer's role cannot log in
//! before its epoch is open, and the standby is called promotable only when it can go on serving every reader.

use super::cluster::Cluster;
use crate::agents::Agents;
use crate::migrate;
use crate::term::Steps;
use crate::wait::{self, Look};
use anyhow::{Context, Result};
use domicile_core::ids::NodeId;
use domicile_execute::chain;
use domicile_topology::Topology;
use domicile_topology::address::ServiceUrl;
use domicile_topology::agent_api::{
    CloneAnswer, CloneRequest, EpochOpenAnswer, EpochOpenRequest, InitAnswer, InitRequest,
    SubscriptionAction, SubscriptionsAnswer, SubscriptionsRequest, SyncAnswer, SyncRequest, paths,
    subscription_name,
};
use domicile_topology::document::{Durability, LedgerNode};
use domicile_topology::member::Member;
use domicile_topology::record::Record;
use std::time::Duration;

/// How long an agent may take until it answers.
const AGENT_WITHIN: Duration = Duration::from_secs(30);
/// How long copied slots may take until a promotion could rely on them.
const SLOTS_WITHIN: Duration = Duration::from_secs(90);

/// Brings the ledger and the reader databases to their full state, whatever is there already.
pub(super) async fn bring_up(
    topology: &Topology,
    agents: &Agents,
    control: &Cluster,
    steps: &Steps,
) -> Result<()> {
    for agent in agent_urls(topology) {
        wait::until(format_args!("the agent at {agent}"), AGENT_WITHIN, || async {
            match agents.status(agent).await {
                Ok(_) => Look::Done(()),
                Err(error) => Look::NotYet(chain(&error)),
            }
        })
        .await?;
    }
    let ledgers = Ledgers { topology, agents, control };
    let primary = ledgers.primary(steps).await?;
    let member = match topology.durability.mode {
        Durability::Two => Some(ledgers.second_region(primary, steps).await?),
        Durability::One => None,
    };
    ledgers.schemas(steps).await?;
    ledgers.subscriptions(steps).await?;
    let epoch = ledgers.record().await?.epoch;
    steps
        .run(format_args!("{}: open epoch {epoch}", primary.node), async {
            let request = EpochOpenRequest { epoch };
            let answer: EpochOpenAnswer =
                agents.call(&primary.agent, paths::EPOCH_OPEN, &request).await?;
            Ok(if answer.opened { String::new() } else { "was open".to_owned() })
        })
        .await?;
    match member {
        Some(member) => ledgers.promotable(&member, steps).await,
        None => Ok(()),
    }
}

struct Ledgers<'a> {
    topology: &'a Topology,
    agents: &'a Agents,
    control: &'a Cluster,
}

impl<'a> Ledgers<'a> {
    async fn record(&self) -> Result<Record> {
        self.control.record().await?.context("the control record is gone")
    }

    fn node(&self, node: &NodeId) -> Result<&'a LedgerNode> {
        let found = self.topology.ledgers.iter().find(|ledger| ledger.node == *node);
        found.with_context(|| {
            format!("the control record names {node}, which is no ledger node of this topology")
        })
    }

    /// The node that the record names; without a record, the preferred region's first ledger node becomes it.
    async fn primary(&self, steps: &Steps) -> Result<&'a LedgerNode> {
        let record = self.control.record().await?;
        let node = if let Some(record) = &record {
            self.node(&record.writer_node)?
        } else {
            let preferred = &self.topology.failover.preferred_region;
            let found = self.topology.ledgers.iter().find(|ledger| ledger.region == *preferred);
            found.with_context(|| format!("the preferred region {preferred} has no ledger node"))?
        };
        steps
            .run(format_args!("{}: primary", node.node), async {
                let answer: InitAnswer =
                    self.agents.call(&node.agent, paths::INIT, &InitRequest {}).await?;
                Ok(if answer.created { "new database" } else { "there" }.to_owned())
            })
            .await?;
        if record.is_none() {
            let generation = self.topology.generation;
            let first = Record::first(node.region.clone(), node.node.clone(), generation);
            steps.run("control record", self.control.create_record(&first)).await?;
        }
        Ok(node)
    }

    /// A synchronous standby in another region; from then on every commit waits for it.
    async fn second_region(&self, primary: &LedgerNode, steps: &Steps) -> Result<Member> {
        let mut chosen = None;
        let present = self.record().await?.sync_member;
        for node in self.topology.ledgers.iter().filter(|node| node.node != primary.node) {
            let request =
                CloneRequest { source_node: primary.node.clone(), discard_existing: false };
            let (_, member) = steps
                .run(format_args!("{}: standby of {}", node.node, primary.node), async {
                    let answer: CloneAnswer =
                        self.agents.call(&node.agent, paths::CLONE, &request).await?;
                    Ok((if answer.cloned { "cloned" } else { "there" }.to_owned(), answer.member))
                })
                .await?;
            let is_present = present.as_ref().is_some_and(|present| present.node == member.node);
            if node.region != primary.region && (chosen.is_none() || is_present) {
                chosen = Some(member);
            }
        }
        let member = chosen.context("durability two needs a ledger node in a second region")?;
        if present.as_ref() != Some(&member) {
            self.control.change_record(|record| record.promotable = false).await?;
        }
        steps
            .run(format_args!("{}: every commit waits for {}", primary.node, member.node), async {
                let request = SyncRequest { member: Some(member.clone()) };
                let answer: SyncAnswer =
                    self.agents.call(&primary.agent, paths::SYNC, &request).await?;
                Ok(answer.confirmed_lsn.map(|lsn| format!("confirmed {lsn}")).unwrap_or_default())
            })
            .await?;
        self.control
            .change_record(|record| {
                record.durability = Durability::Two;
                record.sync_member = Some(member.clone());
            })
            .await?;
        Ok(member)
    }

    /// Reader databases and schemas: subscribers before the publisher.
    async fn schemas(&self, steps: &Steps) -> Result<()> {
        for reader in &self.topology.readers {
            steps
                .run(format_args!("{}: database", reader.node), async {
                    let answer: InitAnswer =
                        self.agents.call(&reader.agent, paths::INIT, &InitRequest {}).await?;
                    Ok(if answer.created { "new database" } else { "there" }.to_owned())
                })
                .await?;
        }
        let primary = self.record().await?.writer_node;
        steps
            .run("schemas, readers first", async {
                let done = migrate::all(self.topology, self.agents, &primary).await?;
                let applied: u32 = done.iter().map(|node| node.applied).sum();
                Ok(format!("{applied} migrations on {} databases", done.len()))
            })
            .await?;
        Ok(())
    }

    async fn subscriptions(&self, steps: &Steps) -> Result<()> {
        for reader in &self.topology.readers {
            steps
                .run(format_args!("{}: subscriptions", reader.node), async {
                    let request = SubscriptionsRequest::default();
                    let answer: SubscriptionsAnswer =
                        self.agents.call(&reader.agent, paths::SUBSCRIPTIONS, &request).await?;
                    let made = answer
                        .subscriptions
                        .iter()
                        .map(|s| format!("{} {}", s.jurisdiction, said(s.action)));
                    Ok(made.collect::<Vec<_>>().join(", "))
                })
                .await?;
        }
        Ok(())
    }

    /// Waits until every reader's slot could be relied on after a promotion, then says so in the record.
    async fn promotable(&self, member: &Member, steps: &Steps) -> Result<()> {
        let standby = self.node(&member.node)?;
        let wanted: Vec<String> = self
            .topology
            .readers
            .iter()
            .flat_map(|reader| {
                reader.jurisdictions.iter().map(|j| subscription_name(&reader.node, j))
            })
            .collect();
        steps
            .run(
                format_args!("{}: slots of {} readers", standby.node, self.topology.readers.len()),
                async {
                    wait::until("slots ready on the standby", SLOTS_WITHIN, || async {
                        match self.agents.status(&standby.agent).await {
                            Ok(status) => {
                                let ready = |name: &String| {
                                    status.slots.iter().any(|s| s.name == *name && s.ready)
                                };
                                let missing: Vec<&str> = wanted
                                    .iter()
                                    .filter(|name| !ready(name))
                                    .map(String::as_str)
                                    .collect();
                                if missing.is_empty() {
                                    Look::Done(())
                                } else {
                                    Look::NotYet(format!("not ready: {}", missing.join(", ")))
                                }
                            }
                            Err(error) => Look::NotYet(chain(&error)),
                        }
                    })
                    .await
                },
            )
            .await?;
        steps
            .run(format_args!("{}: promotable", standby.node), async {
                self.control.change_record(|record| record.promotable = true).await
            })
            .await
    }
}

fn agent_urls(topology: &Topology) -> impl Iterator<Item = &ServiceUrl> {
    topology
        .ledgers
        .iter()
        .map(|node| &node.agent)
        .chain(topology.readers.iter().map(|node| &node.agent))
}

const fn said(action: SubscriptionAction) -> &'static str {
    match action {
        SubscriptionAction::Unchanged => "there",
        SubscriptionAction::Created => "created",
        SubscriptionAction::Repointed => "repointed",
        SubscriptionAction::Enabled => "enabled",
        SubscriptionAction::Reseeded => "reseeded",
        SubscriptionAction::NeedsReseed => "needs a reseed",
        SubscriptionAction::Removed => "removed",
    }
}
