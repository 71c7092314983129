//! The control plane as the CLI uses it: publishes the topology, makes the control record, changes it step by step.

use crate::agents;
use crate::layout::Layout;
use crate::wait::{self, Look};
use anyhow::{Context, Result, anyhow};
use domicile_control::{ControlClient, ControlConfig, Published, TlsPaths};
use domicile_execute::chain;
use domicile_topology::Topology;
use domicile_topology::record::Record;
use std::path::Path;
use std::time::Duration;

/// How long the control plane may take to elect a leader.
const LEADER_WITHIN: Duration = Duration::from_mins(1);
/// How often a change of the record is tried again after somebody else changed it.
const RECORD_ATTEMPTS_MAX: u32 = 5;

/// The control plane of one cluster.
pub(crate) struct Cluster {
    client: ControlClient,
}

impl Cluster {
    /// A client that connects when it is first used.
    pub(crate) fn connect(topology: &Topology, layout: &Layout) -> Result<Self> {
        Self::connect_as(&layout.operator_tls(), topology, layout)
    }

    /// The same with the certificate in a folder.
    pub(crate) fn connect_as(
        certificate: &Path,
        topology: &Topology,
        layout: &Layout,
    ) -> Result<Self> {
        let files = agents::tls_files_in(certificate);
        let tls = TlsPaths { cert: files.cert, key: files.key, ca: files.ca };
        let endpoints: Vec<String> =
            topology.etcd.iter().map(|member| member.client.to_string()).collect();
        let cache = layout.operator().join("topology.json");
        let config = ControlConfig::new(topology.cluster.clone(), &endpoints, tls, cache)
            .context("cannot use the control plane's addresses")?;
        Ok(Self { client: ControlClient::new(&config) })
    }

    /// The client itself.
    pub(crate) const fn client(&self) -> &ControlClient {
        &self.client
    }

    /// Puts the topology in force, as soon as the control plane has a leader.
    pub(crate) async fn publish(&self, topology: &Topology) -> Result<String> {
        wait::until("a leader of the control plane", LEADER_WITHIN, || async {
            match self.client.topology().await {
                Ok(_) => Look::Done(()),
                Err(error) => Look::NotYet(chain(&error)),
            }
        })
        .await?;
        match self.client.publish_topology(topology).await {
            Ok(Published::Applied(_)) => Ok(format!("generation {}", topology.generation)),
            Ok(Published::Unchanged) => {
                Ok(format!("generation {} was in force", topology.generation))
            }
            Err(error) => Err(anyhow!(chain(&error)).context("the topology cannot be published")),
        }
    }

    /// The control record as a majority has it now.
    pub(crate) async fn record(&self) -> Result<Option<Record>> {
        let found = self.client.record().await.map_err(|error| anyhow!(chain(&error)))?;
        Ok(found.map(|versioned| versioned.value))
    }

    /// Makes the first control record.
    pub(crate) async fn create_record(&self, record: &Record) -> Result<()> {
        self.client.create_record(record).await.map(drop).map_err(|error| anyhow!(chain(&error)))
    }

    /// Changes the record by compare-and-set; nothing is written when it already is so.
    pub(crate) async fn change_record(&self, change: impl Fn(&mut Record)) -> Result<()> {
        for _ in 0..RECORD_ATTEMPTS_MAX {
            let present = self.client.record().await.map_err(|error| anyhow!(chain(&error)))?;
            let present = present.context("there is no control record")?;
            let mut wanted = present.value.clone();
            change(&mut wanted);
            if wanted == present.value {
                return Ok(());
            }
            match self.client.compare_and_set_record(&wanted, present.revision).await {
                Ok(_) => return Ok(()),
                Err(domicile_control::Error::RecordConflict { .. }) => {}
                Err(error) => return Err(anyhow!(chain(&error))),
            }
        }
        Err(anyhow!(
            "the control record was changed by somebody else {RECORD_ATTEMPTS_MAX} times; see who"
        ))
    }
}
