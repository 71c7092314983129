//! Has etcd enforce the roles in certificates, with root's certificate, which does nothing else.

use super::Cluster;
use crate::layout::Layout;
use crate::pki::{Authority, CERTIFICATE_DAYS, Subject};
use crate::unit;
use crate::wait::{self, Look};
use anyhow::{Result, anyhow};
use domicile_control::roles::ROOT;
use domicile_control::{Enforced, Error, patiently};
use domicile_execute::chain;
use domicile_topology::Topology;
use std::time::Duration;

/// How long the members may take to answer, an election included.
const ENFORCED_WITHIN: Duration = Duration::from_mins(1);

/// Sees to it that root's certificate is there. Its name is no role of any other part, so nothing else lets it in.
pub(crate) fn issue_root(layout: &Layout, authority: &Authority) -> Result<()> {
    let root = Subject { role: ROOT.to_owned(), node: "etcd".to_owned(), hosts: Vec::new() };
    authority.ensure(&layout.etcd_root_tls(), &root, CERTIFICATE_DAYS).map(drop)
}

/// Has etcd enforce the roles – but not for the first time while parts run whose programs were replaced since: one that
/// does not show its certificate anew would be refused until it is started anew.
pub(super) async fn enforce_unless_in_use(topology: &Topology, layout: &Layout) -> Result<String> {
    let mut in_use = false;
    for unit in unit::all(topology) {
        let Some(program) = unit.name.part.program() else { continue };
        let running = layout.process(&unit.name)?;
        in_use |= running.is_some_and(|running| !running.runs(&layout.bin().join(program)));
    }
    if in_use {
        let root = Cluster::connect_as(&layout.etcd_root_tls(), topology, layout)?;
        let is_enforced = patiently(|| root.client().enforces_roles()).await;
        if !is_enforced.map_err(|error| anyhow!(chain(&error)))? {
            return Ok(
                "not enforced while parts of an earlier version run: `domicile down`, then `up`"
                    .to_owned(),
            );
        }
    }
    enforce(topology, layout).await
}

/// Has etcd enforce the roles, and says what was done.
pub(crate) async fn enforce(topology: &Topology, layout: &Layout) -> Result<String> {
    let root = Cluster::connect_as(&layout.etcd_root_tls(), topology, layout)?;
    let done = wait::until("etcd's users", ENFORCED_WITHIN, || async {
        match root.client().enforce_roles().await {
            Ok(done) => Look::Done(Ok(done)),
            Err(error @ (Error::Unavailable { .. } | Error::OutcomeUnknown { .. })) => {
                Look::NotYet(chain(&error))
            }
            Err(error) => Look::Done(Err(anyhow!(chain(&error)))),
        }
    });
    let done = match done.await?? {
        Enforced::Already => "enforced",
        Enforced::Corrected => "enforced, with corrections",
        Enforced::FromNow => "enforced from now on",
    };
    let gap = patiently(|| root.client().passes_nested_changes()).await;
    Ok(match gap.map_err(|error| anyhow!(chain(&error)))? {
        Some(version) => {
            format!("{done}, but etcd {version} lets nested transactions pass (CVE-2026-33343)")
        }
        None => done.to_owned(),
    })
}
