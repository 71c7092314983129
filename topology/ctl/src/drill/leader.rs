//! Where the control plane's leader is when a region dies: seen, and moved if the drill asks for it.
//!
//! Each member is asked by itself; one leads if a majority says so. A drill that asks for a place kills the region's
//! member as well, so the others must be a majority.

use super::report::ControlLeader;
use crate::agents;
use crate::cli::EtcdLeader;
use crate::layout::Layout;
use crate::wait::{self, Look};
use anyhow::{Context, Result, anyhow, bail};
use domicile_control::etcd::MemberId;
use domicile_control::{ControlClient, ControlConfig, TlsPaths};
use domicile_core::ids::{NodeId, RegionId};
use domicile_execute::chain;
use domicile_service::config::TlsFiles;
use domicile_topology::Topology;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the lead may take to be where it is wanted.
const PLACED_WITHIN: Duration = Duration::from_secs(30);

/// The members, each with a client of its own.
pub(super) struct Members {
    all: Vec<Member>,
}

struct Member {
    node: NodeId,
    region: RegionId,
    client: ControlClient,
}

/// What the members say.
struct Seen {
    ids: BTreeMap<NodeId, MemberId>,
    leader: NodeId,
}

/// Whether the control plane survives the loss of a region.
pub(super) fn can_lose(topology: &Topology, region: &RegionId) -> bool {
    let others = topology.etcd.iter().filter(|member| member.region != *region).count();
    others * 2 > topology.etcd.len()
}

impl Members {
    /// Clients that connect when they are first used.
    pub(super) fn connect(topology: &Topology, layout: &Layout) -> Result<Self> {
        // Who may move the lead depends on etcd's version: in newer ones only root may.
        let root = agents::tls_files_in(&layout.etcd_root_tls());
        let files = if root.cert.exists() { root } else { agents::tls_files(layout) };
        let mut all = Vec::new();
        for member in &topology.etcd {
            let TlsFiles { cert, key, ca } = files.clone();
            let tls = TlsPaths { cert, key, ca };
            // Nothing is watched, so nothing is kept in this file.
            let cache = layout.operator().join("member.json");
            let endpoint = [member.client.to_string()];
            let config = ControlConfig::new(topology.cluster.clone(), &endpoint, tls, cache)
                .context("cannot use a member's address")?;
            let client = ControlClient::new(&config);
            all.push(Member { node: member.node.clone(), region: member.region.clone(), client });
        }
        Ok(Self { all })
    }

    /// Who leads, as a majority says now.
    pub(super) async fn leader(&self) -> Result<ControlLeader> {
        let seen = self.look().await?;
        self.named(&seen.leader)
    }

    /// Sees that the leader is where it is wanted when `region` is killed, moving the lead if need be.
    pub(super) async fn place(
        &self,
        wanted: EtcdLeader,
        region: &RegionId,
    ) -> Result<ControlLeader> {
        let is_placed = |of: &RegionId| match wanted {
            EtcdLeader::AsIs => true,
            EtcdLeader::WithWriter => of == region,
            EtcdLeader::Elsewhere => of != region,
        };
        let target = self.all.iter().find(|member| is_placed(&member.region));
        let target = target.context("no member of the control plane is where it is wanted")?;
        wait::until("the control plane's leader in its place", PLACED_WITHIN, || async {
            match self.towards(target, &is_placed).await {
                Ok(Some(leader)) => Look::Done(leader),
                Ok(None) => Look::NotYet("the lead is being handed over".to_owned()),
                Err(error) => Look::NotYet(format!("{error:#}")),
            }
        })
        .await
    }

    /// The leader if it is placed; otherwise the lead is handed over.
    async fn towards(
        &self,
        target: &Member,
        is_placed: &impl Fn(&RegionId) -> bool,
    ) -> Result<Option<ControlLeader>> {
        let seen = self.look().await?;
        let leader = self.named(&seen.leader)?;
        if is_placed(&leader.region) {
            return Ok(Some(leader));
        }
        let id = seen.ids.get(&target.node).context("the member wanted does not answer")?;
        let present = self.all.iter().find(|member| member.node == seen.leader);
        let present = present.context("the leader is not in the topology")?;
        let moved = present.client.etcd().move_leader(*id).await;
        moved.map_err(|error| anyhow!(chain(&error)))?;
        Ok(None)
    }

    async fn look(&self) -> Result<Seen> {
        let mut ids = BTreeMap::new();
        let mut votes: BTreeMap<MemberId, usize> = BTreeMap::new();
        for member in &self.all {
            if let Ok(status) = member.client.etcd().member_status().await {
                ids.insert(member.node.clone(), status.member);
                if let Some(leader) = status.leader {
                    *votes.entry(leader).or_default() += 1;
                }
            }
        }
        let named = votes.into_iter().find(|(_, votes)| votes * 2 > self.all.len());
        let named = named.context("no majority of the control plane names a leader")?.0;
        let leader = ids.iter().find(|(_, id)| **id == named).map(|(node, _)| node.clone());
        let leader = leader.context("the control plane's leader does not answer")?;
        Ok(Seen { ids, leader })
    }

    fn named(&self, node: &NodeId) -> Result<ControlLeader> {
        match self.all.iter().find(|member| member.node == *node) {
            Some(Member { node, region, .. }) => {
                Ok(ControlLeader { node: node.clone(), region: region.clone() })
            }
            None => bail!("{node} is not in the topology"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_can_be_lost_if_the_others_are_a_majority() {
        let text = include_str!("../../../examples/local.toml");
        let mut topology = Topology::parse(text).unwrap();
        let home = topology.failover.preferred_region.clone();
        assert!(can_lose(&topology, &home));
        topology.etcd.truncate(2);
        assert!(!can_lose(&topology, &home));
    }
}
