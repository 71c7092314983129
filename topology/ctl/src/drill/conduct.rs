//! Conducting a drill: break what is to be broken, move the writer, wait until clients are served, gather evidence.
//!
//! The plans are the ones of the verbs, run by the same executor. A region is broken only where its processes were
//! started from this state folder; elsewhere a failover drill fences the former primary without breaking it.

use super::evidence::Logs;
use super::leader::Members;
use super::measure;
use super::phases;
use super::probe::{Probe, Sample};
use super::recorder::{self, Recorder, Timeline};
use super::report::{ControlLeader, Load, Move};
use crate::agents::Agents;
use crate::cli::EtcdLeader;
use crate::down;
use crate::layout::Layout;
use crate::moves::progress::{Terminal, ended};
use crate::moves::{Mover, page, words};
use crate::operator::Operator;
use crate::outside::Outside;
use crate::term;
use crate::unit::{Part, Unit, UnitName, all};
use crate::up::Local;
use anyhow::{Result, bail};
use domicile_control::StoredPlan;
use domicile_core::ids::{OperatorId, RegionId};
use domicile_execute::{Entry, History, LOOK_TIMEOUT_MS, Outcome};
use domicile_topology::document::FailoverMode;
use domicile_topology::plan::{Intent, Plan};
use domicile_topology::record::Record;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

/// How long clients may wait for an acknowledged write before or after a move.
const SERVED_WITHIN: Duration = Duration::from_mins(2);
/// How long agents may take to do by themselves what is theirs: fail over, restore redundancy.
const BY_ITSELF_WITHIN: Duration = Duration::from_secs(30);
/// How long redundancy may take to be back, milliseconds.
const RESTORED_WITHIN_MS: u64 = 180_000;
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// One act of a cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Both regions alive.
    Switchover(RegionId),
    /// The writer's region is broken first.
    Failover(RegionId),
    /// What was broken is started again, and redundancy is back.
    Restore,
    /// To the preferred region.
    Failback,
}

/// Everything a drill needs.
pub(super) struct Conductor<'a> {
    pub(super) layout: &'a Layout,
    pub(super) mover: &'a Mover,
    pub(super) agents: &'a Agents,
    pub(super) members: Members,
    pub(super) etcd_leader: EtcdLeader,
    pub(super) outside: Outside,
    pub(super) operator: (OperatorId, Operator),
    pub(super) timeline: &'a Timeline,
}

impl Conductor<'_> {
    /// One cycle under load; it ends early when an act does not end well.
    pub(super) async fn cycle(&self, cycle: u32, acts: &[Act]) -> Result<(Vec<Move>, Load)> {
        let topology = self.mover.topology();
        let (id, operator) = &self.operator;
        self.timeline.note(format!("cycle {cycle}: players begin"));
        let began = self.timeline.began();
        let probe = Probe::start(topology, &self.outside, (id, operator), began).await?;
        let served = probe.all_acknowledged_since(0, SERVED_WITHIN).await;
        let mut moves = Vec::new();
        if served.is_ok() {
            for act in acts {
                moves.push(self.act(cycle, act, &probe).await?);
                if moves.last().is_none_or(|last| !last.done) {
                    break;
                }
            }
        }
        self.timeline.note(format!("cycle {cycle}: players end, proofs are checked"));
        let mut load = Load { cycle, ..Load::default() };
        let samples = probe.finish(topology, &mut load).await?;
        served?;
        let planned: Vec<Range<u64>> =
            moves.iter().filter(|m| m.is_planned()).map(|m| m.began_ms..m.ended_ms).collect();
        measure::count(&mut load, &samples, &planned);
        for one in &mut moves {
            measured(one, &samples);
        }
        Ok((moves, load))
    }

    async fn act(&self, cycle: u32, act: &Act, probe: &Probe) -> Result<Move> {
        let logs = Logs::new(self.mover.topology(), self.agents)?;
        let checkpoints = logs.checkpoints().await;
        let before = self.mover.record().await?;
        let began_ms = self.timeline.note(format!("{} begins", act.verb()));
        let mut moved = Move::begun(cycle, act.verb(), began_ms, before.clone());
        match act {
            Act::Failover(to) => self.fail_over(&mut moved, &before, to).await?,
            Act::Restore => self.restore(&mut moved).await?,
            Act::Switchover(to) => {
                self.plan_and_run(&mut moved, Intent::Switchover { to: to.clone() }).await?;
            }
            Act::Failback => self.plan_and_run(&mut moved, Intent::Failback).await?,
        }
        moved.ended_ms = self.timeline.now_ms();
        if moved.done
            && let Err(error) = probe.all_acknowledged_since(moved.ended_ms, SERVED_WITHIN).await
        {
            (moved.done, moved.outcome) = (false, format!("{}, but {error:#}", moved.outcome));
        }
        self.timeline.note(format!("{}: {}", moved.verb, moved.outcome));
        moved.after = self.mover.record().await.ok();
        moved.log_gate = self.log_gate(moved.after.as_ref()).await;
        moved.logs = logs.since(&checkpoints).await;
        Ok(moved)
    }

    async fn plan_and_run(&self, moved: &mut Move, intent: Intent) -> Result<()> {
        let plan = match self.mover.plan(&intent).await? {
            Ok(plan) => plan,
            Err(refusal) => {
                term::note(page::refusal(&refusal))?;
                moved.outcome = format!("refused: {refusal}");
                return Ok(());
            }
        };
        let (recorder, over) = Recorder::new(self.timeline);
        let running = async move {
            let ran = self.mover.run(&plan, &Terminal::with(&recorder)).await;
            (plan, ran, recorder.into_steps())
        };
        let ((plan, ran, steps), mut seen) =
            tokio::join!(running, recorder::residency(self.mover, over));
        moved.steps = steps;
        for step in &mut moved.steps {
            step.residency = seen.remove(&step.number).unwrap_or_default();
        }
        moved.plan = Some(plan);
        match ran {
            Ok(finished) => {
                moved.done = finished.outcome == Outcome::Completed;
                moved.outcome = ended(&finished.outcome);
                moved.audit_head = finished.audit.map(|audit| audit.head);
            }
            Err(error) => moved.outcome = error.to_string(),
        }
        Ok(())
    }

    /// Breaks the writer's region, then moves the writer: by a plan made here, or by the standby's agent where that is
    /// the topology's policy.
    async fn fail_over(&self, moved: &mut Move, before: &Record, to: &RegionId) -> Result<()> {
        moved.etcd_leader = self.place_leader(&before.writer_region).await?;
        moved.began_ms = self.timeline.now_ms();
        moved.fault = self.break_region(&before.writer_region).await?;
        if let Some(fault) = &moved.fault {
            moved.began_ms = self.timeline.note(fault.clone());
            term::note(format_args!("\n{fault}"))?;
        }
        moved.noticed_ms = Some(self.timeline.now_ms());
        let by_itself = self.mover.topology().failover.policy == FailoverMode::Automatic;
        if !(by_itself && moved.fault.is_some()) {
            let (to, accept_data_loss, waived_readers) = (to.clone(), None, BTreeSet::new());
            return self
                .plan_and_run(moved, Intent::Failover { to, accept_data_loss, waived_readers })
                .await;
        }
        let moved_on = |record: &Record| record.epoch > before.epoch;
        (moved.done, moved.outcome) = match self.until(BY_ITSELF_WITHIN, moved_on).await {
            Ok(record) => {
                (true, format!("the agent of {} moved the writer by itself", record.writer_node))
            }
            Err(error) => (false, format!("no agent moved the writer: {error:#}")),
        };
        self.take_over_journal(moved, before).await
    }

    /// The plan and the steps of a move that an agent has made, as the journal has them.
    async fn take_over_journal(&self, moved: &mut Move, before: &Record) -> Result<()> {
        let begun = self.timeline.now_ms();
        while moved.done {
            let stored = self.mover.last_plan().await?;
            let stored = stored.filter(|stored| stored.plan.record.epoch == before.epoch);
            let late = u128::from(self.timeline.now_ms().saturating_sub(begun))
                >= BY_ITSELF_WITHIN.as_millis();
            if let Some((plan, entries, is_over)) = stored.map(journal).transpose()?
                && (is_over || late)
            {
                let began_unix_ms = self.timeline.began_unix_ms();
                (moved.steps, moved.noticed_ms) =
                    phases::by_journal(&plan, &entries, began_unix_ms, words::action);
                moved.plan = Some(plan);
                return Ok(());
            }
            if late {
                bail!("the journal of the agent's plan was not found");
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    /// Where the control plane's leader is, once it is where the drill wants it.
    async fn place_leader(&self, region: &RegionId) -> Result<Option<ControlLeader>> {
        if self.etcd_leader == EtcdLeader::AsIs {
            return Ok(self.members.leader().await.ok());
        }
        let leader = self.members.place(self.etcd_leader, region).await?;
        let ControlLeader { node, region } = &leader;
        self.timeline.note(format!("the control plane's leader is {node} in {region}"));
        Ok(Some(leader))
    }

    /// Starts again what was broken, then waits for the agents to restore redundancy; makes plans for it if they do not.
    async fn restore(&self, moved: &mut Move) -> Result<()> {
        let units = self.broken_units()?;
        if !units.is_empty() {
            let local = Local::open(self.layout.clone())?;
            local.start(&units)?;
            let names: Vec<String> = units.iter().map(|unit| unit.name.to_string()).collect();
            self.timeline.note(format!("started again: {}", names.join(", ")));
        }
        let deadline = self.timeline.now_ms() + RESTORED_WITHIN_MS;
        while self.timeline.now_ms() < deadline {
            if let Ok(record) = self.until(BY_ITSELF_WITHIN, |record| record.promotable).await {
                let member = record.sync_member.map_or_else(String::new, |m| m.node.to_string());
                (moved.done, moved.outcome) = (true, format!("{member} is promotable"));
                return Ok(());
            }
            // Somebody else's plan, begun at the same moment, is as good: then this one ends without a step.
            self.plan_and_run(moved, Intent::RestoreDurability).await?;
        }
        Ok(())
    }

    /// Kills everything of the region that writes, if it was started here.
    async fn break_region(&self, region: &RegionId) -> Result<Option<String>> {
        let mut names = Vec::new();
        for unit in all(self.mover.topology()) {
            let writes = match unit.name.part {
                Part::Writer => true,
                Part::Etcd => self.etcd_leader != EtcdLeader::AsIs,
                Part::Agent => self.mover.topology().ledger(&unit.name.node).is_some(),
                _ => false,
            };
            if !(writes && unit.region == *region) {
                continue;
            }
            if unit.name.part == Part::Agent {
                names.push(UnitName { part: Part::Postgres, ..unit.name.clone() });
            }
            // The agent first: it would start its Postgres again.
            names.insert(0, unit.name);
        }
        let killed = down::kill_all(self.layout, &names).await?;
        Ok((!killed.is_empty()).then(|| format!("SIGKILL to {} in {region}", killed.join(", "))))
    }

    /// Processes that were started here and do not run.
    fn broken_units(&self) -> Result<Vec<Unit>> {
        let known = self.layout.running()?.processes;
        let mut broken = Vec::new();
        for unit in all(self.mover.topology()) {
            if known.contains_key(&unit.name.to_string())
                && self.layout.process(&unit.name)?.is_none()
            {
                broken.push(unit);
            }
        }
        Ok(broken)
    }

    /// Waits until the control record is so.
    async fn until(&self, within: Duration, wanted: impl Fn(&Record) -> bool) -> Result<Record> {
        let begun = self.timeline.now_ms();
        loop {
            let record = self.mover.record().await?;
            if wanted(&record) {
                return Ok(record);
            }
            if u128::from(self.timeline.now_ms().saturating_sub(begun)) >= within.as_millis() {
                bail!("not within {}", term::elapsed(within));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// What the first writer that answers says was proved before the logs were signed.
    async fn log_gate(&self, record: Option<&Record>) -> Option<Value> {
        let region = &record?.writer_region;
        let client = self.agents.client().within_ms(LOOK_TIMEOUT_MS);
        for writer in self.mover.topology().writers_in(region) {
            let url = format!("{}/internal/v1/log-gate", writer.endpoint);
            if let Ok(said) = client.get_json(&url).await {
                return Some(said);
            }
        }
        None
    }
}

impl Act {
    const fn verb(&self) -> &'static str {
        match self {
            Self::Switchover(_) => "switchover",
            Self::Failover(_) => "failover",
            Self::Restore => "restore-durability",
            Self::Failback => "failback",
        }
    }
}

fn measured(moved: &mut Move, samples: &[Sample]) {
    let window = moved.began_ms..moved.ended_ms;
    moved.write_pause_ms = measure::write_pause_ms(samples, &window);
    let epochs = moved.before.as_ref().zip(moved.after.as_ref());
    if let Some((_, after)) = epochs.filter(|(before, after)| after.epoch > before.epoch) {
        moved.first_write_ms = measure::first_write_ms(samples, moved.began_ms, after.epoch.0);
    }
    if let Some(plan) = moved.plan.as_ref().filter(|_| moved.fault.is_some()) {
        let (killed_ms, first_write_ms) = (moved.began_ms, moved.first_write_ms);
        moved.phases = phases::of(plan, &moved.steps, killed_ms, moved.noticed_ms, first_write_ms);
    }
}

/// A stored plan with its entries, and whether it is over.
fn journal(stored: StoredPlan) -> Result<(Plan, Vec<Entry>, bool)> {
    let is_over = History::read(&stored)?.outcome.is_some();
    let entries = stored.journal.iter().map(|entry| serde_json::from_slice(&entry.value));
    Ok((stored.plan, entries.collect::<Result<_, _>>()?, is_over))
}
