//! Passing the gate: gathers what the ledger and the outside hold, lets [`super::gate`] judge, and takes the log's head
//! for this epoch.
//!
//! Invariants: the one commit on the way takes the head only as it was judged, in an epoch that is still open; the
//! holders are asked while the ledger is read, because clients wait for both.

use super::PublishedCheckpoint;
use super::evidence::{GateEvidence, HeldBefore};
use super::gate::{self, Facts, Holding, Verdict};
use super::holders::Answer;
use super::sequencer::{SequenceError, Sequencer, commit_deadline};
use super::standing;
use super::store::{self, Head};
use domicile_core::hex;
use domicile_core::log::frontier::Frontier;
use domicile_core::log::proof::ProofPlan;
use domicile_core::log::{Hash, Subtree};
use domicile_postgres::{Durable, Session, log_rows};
use domicile_topology::record::Beginning;
use std::collections::{BTreeSet, HashMap};

/// The way is free.
pub(super) struct Passed {
    /// The tree's edge.
    pub(super) frontier: Frontier,
    /// The newest checkpoint that an earlier writer published.
    pub(super) published: Option<PublishedCheckpoint>,
    /// The commit that took the head, after which everything before it is durable, too.
    pub(super) durable: Durable,
    /// What to keep; its checkpoint is still to be signed, unless an earlier writer did.
    pub(super) evidence: GateEvidence,
}

/// The log as the ledger has it.
struct Own {
    session: Session,
    passed_before: bool,
    frontier: Frontier,
    note: Option<String>,
}

impl Sequencer {
    /// Compares the ledger's tree with what is held outside and takes the head for this epoch.
    pub(super) async fn pass_gate(&self) -> Result<Passed, SequenceError> {
        let everyone = self.terms.beginning == Beginning::Forced;
        let asking = async { Ok(self.place.holders.ask(everyone).await) };
        let (mut own, answers) = tokio::try_join!(self.own(), asking)?;
        let (mut heard, mut silent) = (Vec::new(), BTreeSet::new());
        for (name, answer) in answers {
            match answer {
                Answer::Checkpoint(note) => heard.push(self.holding(&own, &name, &note).await?),
                Answer::Nothing => {}
                Answer::Silent => drop(silent.insert(name)),
            }
        }
        let facts = Facts {
            beginning: self.terms.beginning,
            passed_before: own.passed_before,
            never_signed: own.note.is_none(),
            heard,
            silent,
            waived: self.terms.waived.iter().map(ToString::to_string).collect(),
        };
        let published = self.published(&own).await?;
        let missing = match gate::judge(&facts) {
            Verdict::Sign { missing } => missing,
            Verdict::Wait { missing } => return Err(SequenceError::TooFewHolders(missing)),
            Verdict::Refuse { reason } => return Err(SequenceError::Refused(reason)),
        };
        let mut evidence = self.evidence(&own, facts.heard, missing).await?;
        let first = published.as_ref().filter(|published| published.size == evidence.size);
        evidence.checkpoint = first.map(|first| first.note.to_string());
        let durable = self.claim(&mut own, &evidence).await?;
        Ok(Passed { frontier: own.frontier, published, durable, evidence })
    }

    /// Rebuilds the tree's edge from the ledger's rows.
    async fn own(&self) -> Result<Own, SequenceError> {
        let session = self.pool.session().await?;
        let (head, latest) = tokio::try_join!(
            store::head(&session, &self.log),
            store::latest_checkpoint(&session, &self.log)
        )?;
        let Head { size, root, writer_epoch } = head.unwrap_or_default();
        let frontier = self.frontier_at(&session, size).await?;
        if size > 0 && frontier.root().as_slice() != root.as_slice() {
            return Err(SequenceError::Refused(format!(
                "the ledger's own rows do not give the head's root at size {size}"
            )));
        }
        let passed_before = writer_epoch == self.terms.tenure.epoch;
        Ok(Own { session, passed_before, frontier, note: latest.map(|(_, note)| note) })
    }

    /// The frontier at `size`, from stored leaves and subtrees.
    async fn frontier_at(&self, session: &Session, size: u64) -> Result<Frontier, SequenceError> {
        let wanted = Frontier::subtrees(size);
        let found = self.subtrees(session, &wanted).await?;
        let hashes = wanted.iter().filter_map(|subtree| found.get(subtree).copied()).collect();
        Frontier::from_subtrees(size, hashes).map_err(|_missing| lacks_rows(size))
    }

    async fn subtrees(
        &self,
        session: &Session,
        wanted: &[Subtree],
    ) -> Result<HashMap<Subtree, Hash>, SequenceError> {
        let (jurisdiction, log_epoch) = (self.log.jurisdiction.as_str(), self.log.log_epoch);
        Ok(log_rows::subtrees(session, jurisdiction, log_epoch, wanted).await?)
    }

    /// The ledger's newest checkpoint, which must fit the ledger's tree like everybody else's.
    async fn published(&self, own: &Own) -> Result<Option<PublishedCheckpoint>, SequenceError> {
        let Some(note) = &own.note else { return Ok(None) };
        let holding = self.holding(own, "the ledger itself", note).await?;
        let (size, root) = (holding.size, holding.root);
        let facts = Facts {
            beginning: self.terms.beginning,
            passed_before: true,
            never_signed: false,
            heard: vec![holding],
            silent: BTreeSet::new(),
            waived: BTreeSet::new(),
        };
        match gate::judge(&facts) {
            Verdict::Refuse { reason } => Err(SequenceError::Refused(reason)),
            Verdict::Sign { .. } | Verdict::Wait { .. } => {
                Ok(Some(PublishedCheckpoint { size, root, note: note.as_str().into() }))
            }
        }
    }

    /// A note that does not open under our key cannot have been signed by us: the log has forked or the
    /// holder is broken, and either way a person has to look.
    async fn holding(&self, own: &Own, holder: &str, note: &str) -> Result<Holding, SequenceError> {
        let checkpoint = self.place.signer.open(note).ok_or_else(|| {
            SequenceError::Refused(format!("{holder} holds a checkpoint that our key did not sign"))
        })?;
        let our_root = if checkpoint.size <= own.frontier.size() {
            Some(self.frontier_at(&own.session, checkpoint.size).await?.root())
        } else {
            None
        };
        let (holder, size, root) = (holder.to_owned(), checkpoint.size, checkpoint.root);
        Ok(Holding { holder, size, root, our_root })
    }

    async fn evidence(
        &self,
        own: &Own,
        heard: Vec<Holding>,
        missing: BTreeSet<String>,
    ) -> Result<GateEvidence, SequenceError> {
        let size = own.frontier.size();
        let mut holders = Vec::with_capacity(heard.len());
        for holding in heard {
            // Agreement was judged, so the holder's size is not above ours.
            let plan =
                ProofPlan::consistency(holding.size, size).map_err(|_out| lacks_rows(size))?;
            let wanted: Vec<Subtree> = plan.subtrees().collect();
            let mut found = self.subtrees(&own.session, &wanted).await?;
            let proof = plan.assemble(&mut found).map_err(|_missing| lacks_rows(size))?;
            holders.push(HeldBefore::new(holding, &proof));
        }
        Ok(GateEvidence {
            jurisdiction: self.log.jurisdiction.clone(),
            origin: self.place.signer.origin().to_string(),
            epoch: self.terms.tenure.epoch,
            beginning: self.terms.beginning,
            passed_at_unix_ms: self.terms.clock.now_unix_ms(),
            size,
            root: hex::encode(&own.frontier.root()),
            checkpoint: None,
            holders,
            missing,
            waived: self.terms.waived.clone(),
        })
    }

    /// Takes the head, and says that the log is live; the evidence of the epoch's first passage stays.
    async fn claim(
        &self,
        own: &mut Own,
        evidence: &GateEvidence,
    ) -> Result<Durable, SequenceError> {
        let (size, root, epoch) =
            (own.frontier.size(), own.frontier.root(), self.terms.tenure.epoch);
        let tx = own.session.begin().await?;
        let claimed = store::claim_head(&tx, &self.log, size, &root, epoch).await?;
        self.assert_epoch(claimed == 1)?;
        let is_first = self.lane.evidence.load().is_none();
        standing::live(&tx, &self.log, epoch, is_first.then_some(evidence)).await?;
        Ok(tx.commit(commit_deadline()).await?)
    }
}

fn lacks_rows(size: u64) -> SequenceError {
    SequenceError::Refused(format!("the ledger lacks rows of the log below size {size}"))
}
