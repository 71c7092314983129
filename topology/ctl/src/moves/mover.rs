//! The cluster as the verbs see it: facts, plans, runs.

use crate::agents::Agents;
use crate::files;
use crate::layout::Layout;
use crate::person;
use crate::secrets;
use crate::up::Cluster;
use anyhow::{Context, Result, anyhow};
use domicile_control::{ControlClient, Plans, StoredPlan};
use domicile_core::hex;
use domicile_execute::audit::{Verified, verify};
use domicile_execute::{
    EtcdJournal, ExecuteError, Executor, Finished, LiveWorld, Progress, World, chain, observe,
};
use domicile_topology::Topology;
use domicile_topology::member::JoinId;
use domicile_topology::plan::{Facts, Intent, Plan, PlanIds, Refusal, plan};
use domicile_topology::record::Record;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

/// Observes, plans and runs with the operator's certificate.
pub(crate) struct Mover {
    topology: Arc<Topology>,
    world: Arc<LiveWorld>,
    control: ControlClient,
    audit: PathBuf,
    conductor: String,
}

impl Mover {
    /// The cluster of this state folder.
    pub(crate) fn open(layout: &Layout) -> Result<Self> {
        let topology = Arc::new(layout.topology()?);
        let client = Agents::new(layout)?.client().clone();
        let control = Cluster::connect(&topology, layout)?.client().clone();
        let world = Arc::new(LiveWorld::new(topology.clone(), client, control.clone()));
        let audit = layout.operator().join("plans.jsonl");
        files::folder(&layout.operator(), files::MODE_FOLDER_SECRET)?;
        let conductor = person::named(layout);
        Ok(Self { topology, world, control, audit, conductor })
    }

    /// The topology at hand.
    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Who conducts, as journals and reports name them.
    pub(crate) fn conductor(&self) -> &str {
        &self.conductor
    }

    /// What everybody says now.
    pub(crate) async fn facts(&self) -> Result<Facts> {
        observe(&*self.world).await.map_err(|error| anyhow!(chain(&error)))
    }

    /// The control record as a majority has it now.
    pub(crate) async fn record(&self) -> Result<Record> {
        let found = self.world.record().await.map_err(|error| anyhow!(chain(&error)))?;
        Ok(found.value)
    }

    /// Observes and plans.
    pub(crate) async fn plan(&self, intent: &Intent) -> Result<Result<Plan, Refusal>> {
        Self::plan_by(&self.facts().await?, intent)
    }

    /// Plans by these facts.
    pub(crate) fn plan_by(facts: &Facts, intent: &Intent) -> Result<Result<Plan, Refusal>> {
        let verb = intent.verb().replace(' ', "-");
        let name = format!("{verb}-{}", hex::encode(&secrets::random::<4>()?));
        let join = JoinId::from_random(u64::from_be_bytes(secrets::random()?));
        Ok(plan(facts, intent, PlanIds { plan: name, join }))
    }

    /// Runs a plan to its end, or to where it stops.
    pub(crate) async fn run(
        &self,
        plan: &Plan,
        progress: &dyn Progress,
    ) -> Result<Finished, ExecuteError> {
        self.executor().run(plan, progress).await
    }

    /// Goes on with the plan under way.
    pub(crate) async fn resume(&self, progress: &dyn Progress) -> Result<Finished, ExecuteError> {
        self.executor().resume(progress).await
    }

    /// Ends the plan under way where it stands.
    pub(crate) async fn abandon(&self, id: &str, reason: &str) -> Result<(), ExecuteError> {
        self.executor().abandon(id, reason).await
    }

    /// What the audit file holds.
    pub(crate) fn audit(&self) -> Result<Verified> {
        let file = File::open(&self.audit).context("cannot read the audit file")?;
        Ok(verify(BufReader::new(file))?)
    }

    /// The plan that was begun last, with its journal.
    pub(crate) async fn last_plan(&self) -> Result<Option<StoredPlan>> {
        let plans = Plans::new(&self.control);
        let ids = plans.ids().await.map_err(|error| anyhow!(chain(&error)))?;
        let Some(last) = ids.last() else { return Ok(None) };
        plans.find(last).await.map_err(|error| anyhow!(chain(&error)))
    }

    /// A plan that is kept.
    pub(crate) async fn find(&self, id: &str) -> Result<Option<StoredPlan>> {
        let found = Plans::new(&self.control).find(id).await;
        found.map_err(|error| anyhow!(chain(&error)))
    }

    /// The plan under way, and who runs it.
    pub(crate) async fn running(&self) -> Result<Option<String>> {
        running(&self.control).await
    }

    fn executor(&self) -> Executor {
        let journal = Arc::new(EtcdJournal::new(&self.control));
        let owner = format!("{}, pid {}", self.conductor, std::process::id());
        Executor::new(self.world.clone(), journal, owner).with_audit(self.audit.clone())
    }
}

/// The plan under way in words, and who runs it.
pub(crate) async fn running(control: &ControlClient) -> Result<Option<String>> {
    let plans = Plans::new(control);
    let Some(id) = plans.current_id().await.map_err(|error| anyhow!(chain(&error)))? else {
        return Ok(None);
    };
    let owner = plans.owner().await.map_err(|error| anyhow!(chain(&error)))?;
    Ok(Some(match owner {
        Some(owner) => format!("{id}, run by {owner}"),
        None => format!("{id}, run by nobody now: `domicile resume` goes on"),
    }))
}
