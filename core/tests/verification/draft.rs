//! A log, a round and a bet in the making: what an operator – honest or not – signs and hands out.
//!
//! Everything is deterministic: fixed keys, seeds, salts and ids, so that the published files can be
//! made again byte for byte.

use domicile_core::{
    bundle::{BetInclusion, Bundle, BundleFormat, Entry, Opening, OpeningFormat, RoundKind},
    checkpoint::{Checkpoint, Origin},
    epoch::Epoch,
    games,
    ids::{BetId, ChainId, GameCode, Jurisdiction, OperatorId, PlayerRef, RoundId, SessionId},
    leaf::{
        ChainCommit, JurisdictionBets, Leaf, Play, RoundBets, RoundCommit, RoundSettle, RoundVoid,
        VoidReason, bets_root,
    },
    lines::Text,
    log::{Hash, frontier::Frontier, leaf_hash, proof::ProofPlan},
    money::{Currency, Micro},
    note::{SigningKey, VerifierKey},
    outcome::{Draws, play_context, round_context},
    receipt::Receipt,
    record::{self, BetRecord},
    seed::{Seed, chain_commitment, chain_seed},
    tlog_proof::TlogProof,
};

pub(crate) const ROUND: &str = "0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a01";
const BET: &str = "0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a02";
const SESSION: &str = "0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a03";
const CHAIN: &str = "6f0dd3a1-41f6-4b4e-9a77-1d9d0c3f5a10";
const SALT: Hash = [0x5a; 32];
const CHAIN_LENGTH: u32 = 512;
/// Leaves of other rounds before, between and after the two that matter.
const COMMIT_INDEX: u64 = 3;
const BET_SIZE: u64 = 6;
const END_INDEX: u64 = 8;

/// The operator's private keys.
pub(crate) struct Keys {
    pub(crate) log: SigningKey,
    pub(crate) receipt: SigningKey,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self { log: key("demo/MT/1", 1), receipt: key("demo/receipt", 2) }
    }

    /// What a verifier pins.
    pub(crate) fn pinned(&self) -> Vec<VerifierKey> {
        vec![self.log.verifier().clone(), self.receipt.verifier().clone()]
    }
}

pub(crate) fn key(name: &str, seed: u8) -> SigningKey {
    SigningKey::from_seed(name, &[seed; 32]).unwrap()
}

/// A round before it is proven and signed; every part can still be changed.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) kind: RoundKind,
    pub(crate) origin: Origin,
    pub(crate) leaves: Vec<String>,
    /// What the log looked like when the bet's checkpoint was signed.
    pub(crate) earlier_leaves: Vec<String>,
    pub(crate) commit: u64,
    /// Absent while the round is open.
    pub(crate) end: Option<u64>,
    pub(crate) record: BetRecord,
    pub(crate) salt: Hash,
    pub(crate) payout_micro: Option<Micro>,
    pub(crate) receipt: Receipt,
    pub(crate) inclusion: Option<BetInclusion>,
}

impl Draft {
    /// A shared round with bets in three jurisdictions, settled.
    pub(crate) fn settled() -> Self {
        let seed = Seed::new([0x11; 32]);
        let mut draft = Self::placed(RoundKind::Round, &seed.commitment());
        let bets = draft.place_bets();
        let RoundCommit { game, params, round, .. } = round_commit(&seed.commitment());
        let items = bets.as_slice().iter().map(|bets| (&bets.jurisdiction, bets.count, &bets.root));
        let context = round_context(&game, params.as_str(), round, items);
        let outcome = draw(&game, &params, &seed, &context);
        draft.finish(&Leaf::RoundSettle(RoundSettle {
            jurisdiction: jurisdiction("MT"),
            round,
            commit_index: COMMIT_INDEX,
            seed: *seed.as_bytes(),
            outcome: outcome.clone(),
            bets,
        }));
        draft.pay(&game, &params, &outcome);
        draft
    }

    /// The same round, voided instead.
    pub(crate) fn voided() -> Self {
        let seed = Seed::new([0x11; 32]);
        let mut draft = Self::placed(RoundKind::Round, &seed.commitment());
        let bets = draft.place_bets();
        draft.finish(&Leaf::RoundVoid(RoundVoid {
            jurisdiction: jurisdiction("MT"),
            round: RoundId::parse(ROUND).unwrap(),
            commit_index: COMMIT_INDEX,
            seed: *seed.as_bytes(),
            reason: VoidReason::Operator,
            bets,
        }));
        draft.payout_micro = Some(draft.record.stake);
        draft
    }

    /// The same round, not ended yet.
    pub(crate) fn open() -> Self {
        Self::placed(RoundKind::Round, &Seed::new([0x11; 32]).commitment())
    }

    /// An instant play: the third of its chain.
    pub(crate) fn played() -> Self {
        let (start, position) = (Seed::new([0x22; 32]), 2);
        let commitment = chain_commitment(&start, CHAIN_LENGTH).unwrap();
        let seed = chain_seed(&start, CHAIN_LENGTH, position).unwrap();
        let mut draft = Self::placed(RoundKind::Play, &commitment);
        let ChainCommit { game, params, .. } = chain_commit(CHAIN, &commitment);
        let (round, client_seed) = (draft.record.round, draft.record.client_seed);
        let record = draft.receipt.record;
        let context = play_context(&game, params.as_str(), round, position, &client_seed, &record);
        let outcome = draw(&game, &params, &seed, &context);
        draft.finish(&Leaf::Play(Play {
            jurisdiction: jurisdiction("MT"),
            commit_index: COMMIT_INDEX,
            position,
            round,
            seed: *seed.as_bytes(),
            client_seed,
            outcome: outcome.clone(),
            record,
        }));
        draft.pay(&game, &params, &outcome);
        draft
    }

    /// The commitment is logged, a checkpoint covers it, and a bet has been placed under both.
    fn placed(kind: RoundKind, commitment: &Hash) -> Self {
        let commit = match kind {
            RoundKind::Round => Leaf::RoundCommit(round_commit(commitment)),
            RoundKind::Play => Leaf::ChainCommit(chain_commit(CHAIN, commitment)),
        };
        let mut leaves: Vec<String> = (0..COMMIT_INDEX).map(other_leaf).collect();
        leaves.push(commit.encode());
        leaves.extend((COMMIT_INDEX + 1..BET_SIZE).map(other_leaf));
        let record = bet_record(commitment, root(&leaves));
        let receipt = receipt_for(&record);
        Self {
            kind,
            origin: Origin::parse("demo/MT/1").unwrap(),
            earlier_leaves: leaves.clone(),
            leaves,
            commit: COMMIT_INDEX,
            end: None,
            record,
            salt: SALT,
            payout_micro: None,
            receipt,
            inclusion: None,
        }
    }

    /// Puts the bet between two others of its jurisdiction, beside those of DE and none of US-NJ.
    fn place_bets(&mut self) -> RoundBets {
        let ours = [[0x31; 32], self.receipt.record, [0x33; 32]];
        let leaf_hashes: Vec<Hash> = ours.iter().map(|commitment| leaf_hash(commitment)).collect();
        let path = ProofPlan::inclusion(1, 3).unwrap().assemble(&mut leaf_hashes.as_slice());
        self.inclusion = Some(BetInclusion { index: 1, count: 3, path: path.unwrap() });
        let of = |code, commitments: &[Hash]| JurisdictionBets {
            jurisdiction: jurisdiction(code),
            count: commitments.len() as u64,
            root: bets_root(commitments),
        };
        RoundBets::new(vec![of("MT", &ours), of("DE", &[[0x41; 32]; 2]), of("US-NJ", &[])]).unwrap()
    }

    fn finish(&mut self, end: &Leaf) {
        self.leaves.extend((BET_SIZE..END_INDEX).map(other_leaf));
        self.leaves.push(end.encode());
        self.leaves.push(other_leaf(END_INDEX + 1));
        self.end = Some(END_INDEX);
    }

    fn pay(&mut self, game: &GameCode, params: &Text, outcome: &Text) {
        let BetRecord { stake, selection, .. } = &self.record;
        let game = games::game(game).unwrap();
        let payout = game.payout(params.as_str(), *stake, selection, outcome.as_str());
        self.payout_micro = Some(payout.unwrap());
    }

    /// Replaces a text in one leaf before anything is signed.
    pub(crate) fn rewrite(&mut self, index: u64, from: &str, to: &str) {
        let index = usize::try_from(index).unwrap();
        assert!(self.leaves[index].contains(from), "{from} is not in {}", self.leaves[index]);
        for leaves in [&mut self.leaves, &mut self.earlier_leaves] {
            if let Some(leaf) = leaves.get_mut(index) {
                *leaf = leaf.replacen(from, to, 1);
            }
        }
    }

    /// A line's value in the terminal leaf.
    pub(crate) fn stated(&self, name: &str) -> String {
        let end = &self.leaves[usize::try_from(self.end.unwrap()).unwrap()];
        let line = end.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().to_owned()
    }

    /// Proves and signs it.
    pub(crate) fn seal(&self, keys: &Keys) -> (Bundle, Opening) {
        let checkpoint = self.checkpoint(&self.leaves).sign(&keys.log).unwrap();
        let entries = [Some(self.commit), self.end].into_iter().flatten();
        let bundle = Bundle {
            format: BundleFormat::V1,
            kind: self.kind,
            jurisdiction: self.origin.jurisdiction.clone(),
            round: RoundId::parse(ROUND).unwrap(),
            origin: self.origin.to_string(),
            entries: entries.map(|index| self.entry(index, &checkpoint)).collect(),
        };
        let (old, new) = (self.earlier_leaves.len(), self.leaves.len());
        let plan = ProofPlan::consistency(old as u64, new as u64).unwrap();
        let opening = Opening {
            format: OpeningFormat::V1,
            jurisdiction: self.record.jurisdiction.clone(),
            round: self.record.round,
            bet: self.record.bet,
            record: self.record.encode(),
            salt: self.salt,
            payout_micro: self.payout_micro,
            receipt: self.receipt.sign(&keys.receipt).unwrap(),
            bet_checkpoint: self.checkpoint(&self.earlier_leaves).sign(&keys.log).unwrap(),
            consistency: plan.assemble(&mut hashes(&self.leaves).as_slice()).unwrap(),
            inclusion: self.inclusion.clone(),
        };
        (bundle, opening)
    }

    fn checkpoint(&self, leaves: &[String]) -> Checkpoint {
        Checkpoint { origin: self.origin.clone(), size: leaves.len() as u64, root: root(leaves) }
    }

    fn entry(&self, index: u64, checkpoint: &str) -> Entry {
        let plan = ProofPlan::inclusion(index, self.leaves.len() as u64).unwrap();
        let path = plan.assemble(&mut hashes(&self.leaves).as_slice()).unwrap();
        let proof = TlogProof { extra: None, index, path, checkpoint: checkpoint.to_owned() };
        let leaf = self.leaves[usize::try_from(index).unwrap()].clone();
        Entry { leaf, proof: proof.encode() }
    }
}

fn round_commit(commitment: &Hash) -> RoundCommit {
    let (game, params) = hilo();
    let round = RoundId::parse(ROUND).unwrap();
    RoundCommit { jurisdiction: jurisdiction("MT"), round, game, params, commitment: *commitment }
}

fn chain_commit(chain: &str, commitment: &Hash) -> ChainCommit {
    let (game, params) = hilo();
    ChainCommit {
        jurisdiction: jurisdiction("MT"),
        chain: ChainId::parse(chain).unwrap(),
        game,
        params,
        length: CHAIN_LENGTH,
        commitment: *commitment,
    }
}

/// Somebody else's leaf.
fn other_leaf(n: u64) -> String {
    let chain = format!("00000000-0000-4000-8000-{n:012}");
    Leaf::ChainCommit(chain_commit(&chain, &leaf_hash(&n.to_be_bytes()))).encode()
}

fn bet_record(commitment: &Hash, checkpoint_root: Hash) -> BetRecord {
    BetRecord {
        jurisdiction: jurisdiction("MT"),
        operator: OperatorId::parse("acme").unwrap(),
        player: PlayerRef::parse("player-1").unwrap(),
        session: SessionId::parse(SESSION).unwrap(),
        round: RoundId::parse(ROUND).unwrap(),
        bet: BetId::parse(BET).unwrap(),
        currency: Currency::parse("EUR").unwrap(),
        stake: Micro::new(2_500_000).unwrap(),
        selection: "high".to_owned(),
        client_seed: [0x77; 32],
        commitment: *commitment,
        checkpoint_size: BET_SIZE,
        checkpoint_root,
    }
}

/// The receipt of a bet, as an honest writer issues it.
pub(crate) fn receipt_for(record: &BetRecord) -> Receipt {
    Receipt {
        jurisdiction: record.jurisdiction.clone(),
        cluster: Origin::parse("demo/MT/1").unwrap().cluster,
        round: record.round,
        bet: record.bet,
        session: record.session,
        commitment: record.commitment,
        checkpoint_size: record.checkpoint_size,
        checkpoint_root: record.checkpoint_root,
        record: record::commitment(&record.encode(), &SALT),
        stake_micro: record.stake,
        currency: record.currency.clone(),
        accepted_epoch: Epoch(4),
    }
}

fn hilo() -> (GameCode, Text) {
    let game = GameCode::parse("hilo-dice").unwrap();
    let params = games::game(&game).unwrap().default_params();
    (game, Text::parse(params).unwrap())
}

fn draw(game: &GameCode, params: &Text, seed: &Seed, context: &str) -> Text {
    let mut draws = Draws::new(seed, context.as_bytes());
    let outcome = games::game(game).unwrap().outcome(params.as_str(), &mut draws);
    Text::parse(&outcome.unwrap()).unwrap()
}

fn jurisdiction(code: &str) -> Jurisdiction {
    Jurisdiction::parse(code).unwrap()
}

fn hashes(leaves: &[String]) -> Vec<Hash> {
    leaves.iter().map(|leaf| leaf_hash(leaf.as_bytes())).collect()
}

fn root(leaves: &[String]) -> Hash {
    hashes(leaves).into_iter().collect::<Frontier>().root()
}
