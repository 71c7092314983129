//! The public half: signature, commitment, terminal leaf, seed, outcome.

use super::report::{Stop, failed};
use crate::{
    bundle::{Bundle, Entry, RoundKind},
    checkpoint::{Checkpoint, Origin},
    games::{self, Game},
    ids::{GameCode, RoundId},
    leaf::{ChainCommit, Leaf, Play, RoundBets, RoundCommit, RoundSettle, RoundVoid},
    log::{Hash, leaf_hash, proof::verify_inclusion},
    note::VerifierKey,
    outcome::{Draws, play_context, round_context},
    seed::{Seed, verify_chain},
    tlog_proof::TlogProof,
};

/// The log as its pinned key states it, and the proofs that end in that statement.
pub(super) struct Log {
    pub(super) origin: Origin,
    pub(super) checkpoint: Checkpoint,
    proofs: Vec<TlogProof>,
}

/// A commit leaf that is in the log.
pub(super) struct Commit {
    pub(super) index: u64,
    pub(super) game: GameCode,
    pub(super) params: String,
    pub(super) commitment: Hash,
    pub(super) round: RoundId,
    /// Plays of the chain; absent for a shared round.
    chain_length: Option<u32>,
}

/// A terminal leaf that is in the log.
pub(super) struct End {
    pub(super) leaf: Terminal,
}

/// The forms of terminal leaf a bundle can have.
pub(super) enum Terminal {
    Settle(RoundSettle),
    Void(RoundVoid),
    Play(Play),
}

/// Step 1: every proof ends in one checkpoint, signed by the pinned key of the jurisdiction's log.
pub(super) fn signed_log(bundle: &Bundle, keys: &[VerifierKey]) -> Result<(Log, String), Stop> {
    let proofs: Result<Vec<TlogProof>, _> =
        bundle.entries.iter().map(|entry| TlogProof::parse(&entry.proof)).collect();
    let Ok(proofs) = proofs else { return failed("a proof is not a tlog-proof text") };
    let (Some(first), 1..=2) = (proofs.first(), proofs.len()) else {
        return failed("a bundle has a commit leaf and at most one terminal leaf");
    };
    if proofs.iter().any(|proof| proof.checkpoint != first.checkpoint) {
        return failed("the proofs do not end in the same checkpoint");
    }
    // Unauthenticated data has no place in a public bundle.
    if proofs.iter().any(|proof| proof.extra.is_some()) {
        return failed("a proof carries extra data");
    }
    let checkpoint = match Checkpoint::open(&first.checkpoint, keys) {
        Ok(checkpoint) => checkpoint,
        Err(why) => return failed(why.to_string()),
    };
    let origin = checkpoint.origin.clone();
    if origin.to_string() != bundle.origin || origin.jurisdiction != bundle.jurisdiction {
        return failed("the checkpoint belongs to another log than the bundle states");
    }
    let detail = format!("{origin}, size {}", checkpoint.size);
    Ok((Log { origin, checkpoint, proofs }, detail))
}

/// Step 2, public half: the commit leaf is in the log.
pub(super) fn commit(bundle: &Bundle, log: &Log) -> Result<Commit, Stop> {
    let Some((index, leaf)) = included(bundle.entries.first(), log.proofs.first(), log)? else {
        return failed("the bundle has no commit leaf");
    };
    match (bundle.kind, leaf) {
        (RoundKind::Round, Leaf::RoundCommit(leaf)) if leaf.round == bundle.round => {
            let RoundCommit { game, params, commitment, round, .. } = leaf;
            let params = params.to_string();
            Ok(Commit { index, game, params, commitment, round, chain_length: None })
        }
        (RoundKind::Play, Leaf::ChainCommit(leaf)) => {
            let ChainCommit { game, params, commitment, length, .. } = leaf;
            let (params, round) = (params.to_string(), bundle.round);
            Ok(Commit { index, game, params, commitment, round, chain_length: Some(length) })
        }
        _ => failed("the first leaf is not the commit leaf of this round"),
    }
}

/// Step 3: the terminal leaf is in the log, after the commit leaf, and names it.
pub(super) fn end(bundle: &Bundle, log: &Log, commit: &Commit) -> Result<(End, String), Stop> {
    let Some((index, leaf)) = included(bundle.entries.get(1), log.proofs.get(1), log)? else {
        return Err(not_revealed());
    };
    let (leaf, commit_index, round) = match (bundle.kind, leaf) {
        (RoundKind::Round, Leaf::RoundSettle(leaf)) => {
            let (commit_index, round) = (leaf.commit_index, leaf.round);
            (Terminal::Settle(leaf), commit_index, round)
        }
        (RoundKind::Round, Leaf::RoundVoid(leaf)) => {
            let (commit_index, round) = (leaf.commit_index, leaf.round);
            (Terminal::Void(leaf), commit_index, round)
        }
        (RoundKind::Play, Leaf::Play(leaf)) => {
            let (commit_index, round) = (leaf.commit_index, leaf.round);
            (Terminal::Play(leaf), commit_index, round)
        }
        _ => return failed("the last leaf is not a terminal leaf of this kind of round"),
    };
    if round != commit.round {
        return failed("the terminal leaf belongs to another round");
    }
    if commit_index != commit.index || index <= commit.index {
        return failed("the terminal leaf does not follow the commit leaf it names");
    }
    let end = End { leaf };
    if end.bets().is_some_and(|bets| bets.of(&log.origin.jurisdiction).is_none()) {
        return failed("the terminal leaf does not list this jurisdiction's bets");
    }
    let detail = match &end.leaf {
        Terminal::Settle(_) => format!("settled in leaf {index}"),
        Terminal::Void(leaf) => format!("voided in leaf {index}: {}", leaf.reason),
        Terminal::Play(leaf) => format!("play {} of its chain, leaf {index}", leaf.position),
    };
    Ok((end, detail))
}

/// Step 4: the revealed seed is the one that was committed to.
pub(super) fn seed(commit: &Commit, end: &End) -> Result<((), String), Stop> {
    let seed = end.seed();
    match (&end.leaf, commit.chain_length) {
        (Terminal::Play(play), Some(length)) if play.position >= length => {
            failed("the chain has no such position")
        }
        (Terminal::Play(play), Some(_)) => {
            if verify_chain(&seed, play.position, &commit.commitment) {
                let times = play.position.saturating_add(1);
                Ok(((), format!("SHA-256 applied {times} times gives the chain's commitment")))
            } else {
                failed("the seed does not belong to this position of the chain")
            }
        }
        _ if seed.commitment() == commit.commitment => {
            Ok(((), "SHA-256 of the seed is the commitment".to_owned()))
        }
        _ => failed("SHA-256 of the seed is not the commitment"),
    }
}

/// Step 5: the game draws the stated outcome from the seed.
pub(super) fn outcome(commit: &Commit, end: &End) -> Result<((), String), Stop> {
    let drawn = match drawn(commit, end) {
        Ok(drawn) => drawn,
        Err(why) => return failed(why),
    };
    match end.outcome() {
        Some(stated) if stated == drawn => Ok(((), drawn)),
        Some(stated) => failed(format!("the seed gives `{drawn}`, the log states `{stated}`")),
        None => Err(Stop::NotApplicable(format!("voided; the seed would have given `{drawn}`"))),
    }
}

/// The answer of every step that needs a seed while there is none.
pub(super) fn not_revealed() -> Stop {
    Stop::NotRevealed("the round has not ended yet".to_owned())
}

fn drawn(commit: &Commit, end: &End) -> Result<String, String> {
    let game = commit.game()?;
    game.check_params(&commit.params).map_err(|why| why.to_string())?;
    let mut draws = Draws::new(&end.seed(), end.context(commit).as_bytes());
    game.outcome(&commit.params, &mut draws).map_err(|why| why.to_string())
}

/// The leaf of an entry, once its proof leads to the signed root and it belongs to the log's jurisdiction.
fn included(
    entry: Option<&Entry>,
    proof: Option<&TlogProof>,
    log: &Log,
) -> Result<Option<(u64, Leaf)>, Stop> {
    let (Some(entry), Some(proof)) = (entry, proof) else { return Ok(None) };
    let bytes = entry.leaf.as_bytes();
    let Checkpoint { size, root, .. } = &log.checkpoint;
    if let Err(why) = verify_inclusion(proof.index, *size, &leaf_hash(bytes), &proof.path, root) {
        return failed(format!("leaf {}: {why}", proof.index));
    }
    match Leaf::parse(bytes) {
        Ok(leaf) if *leaf.jurisdiction() == log.origin.jurisdiction => {
            Ok(Some((proof.index, leaf)))
        }
        Ok(_) => failed("the leaf belongs to another jurisdiction"),
        Err(why) => failed(format!("leaf {}: {why}", proof.index)),
    }
}

impl Commit {
    /// The game that the commit leaf names.
    pub(super) fn game(&self) -> Result<&'static dyn Game, String> {
        games::game(&self.game)
            .ok_or_else(|| format!("this verifier does not know `{}`", self.game))
    }
}

impl End {
    /// The outcome that the leaf states; a voided round has none.
    pub(super) fn outcome(&self) -> Option<&str> {
        match &self.leaf {
            Terminal::Settle(leaf) => Some(leaf.outcome.as_str()),
            Terminal::Play(leaf) => Some(leaf.outcome.as_str()),
            Terminal::Void(_) => None,
        }
    }

    /// The bets of a shared round.
    pub(super) fn bets(&self) -> Option<&RoundBets> {
        match &self.leaf {
            Terminal::Settle(leaf) => Some(&leaf.bets),
            Terminal::Void(leaf) => Some(&leaf.bets),
            Terminal::Play(_) => None,
        }
    }

    fn seed(&self) -> Seed {
        Seed::new(match &self.leaf {
            Terminal::Settle(leaf) => leaf.seed,
            Terminal::Void(leaf) => leaf.seed,
            Terminal::Play(leaf) => leaf.seed,
        })
    }

    fn context(&self, commit: &Commit) -> String {
        let Commit { game, params, round, .. } = commit;
        match &self.leaf {
            Terminal::Settle(RoundSettle { bets, .. }) | Terminal::Void(RoundVoid { bets, .. }) => {
                let items =
                    bets.as_slice().iter().map(|bets| (&bets.jurisdiction, bets.count, &bets.root));
                round_context(game, params, *round, items)
            }
            Terminal::Play(play) => {
                play_context(game, params, *round, play.position, &play.client_seed, &play.record)
            }
        }
    }
}
