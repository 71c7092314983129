//! The published cases: what must verify, what is not revealed yet, and what must fail at which step.

use domicile_core::{
    bundle::{Bundle, Opening, RoundKind},
    checkpoint::Origin,
    hex,
    ids::{BetId, Jurisdiction, RoundId},
    money::Micro,
    seed::Seed,
    verify::{
        StepId::{self, Commitment, Outcome, Record, Seed as SeedStep, Settlement, Signature},
        Verdict::{self, NotRevealed, Verified},
    },
};

use crate::draft::{Draft, Keys, key, receipt_for};

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    pub(crate) bundle: Bundle,
    pub(crate) opening: Option<Opening>,
    pub(crate) verdict: Verdict,
    pub(crate) failed_step: Option<StepId>,
}

pub(crate) fn all() -> Vec<Case> {
    let mut cases = good();
    cases.extend(dishonest_rounds());
    cases.extend(dishonest_plays());
    cases.extend(dishonest_bets());
    cases.extend(tampered_bundles());
    cases.extend(tampered_proofs());
    cases.extend(tampered_openings());
    cases
}

fn good() -> Vec<Case> {
    let case = |name, why, draft: Draft, with_opening: bool, verdict| {
        let (bundle, opening) = draft.seal(&Keys::new());
        let opening = with_opening.then_some(opening);
        Case { name, why, bundle, opening, verdict, failed_step: None }
    };
    vec![
        case(
            "round",
            "a settled shared round and one of its bets",
            Draft::settled(),
            true,
            Verified,
        ),
        case(
            "round-public",
            "the same without the private half",
            Draft::settled(),
            false,
            Verified,
        ),
        case("play", "an instant play and its bet", Draft::played(), true, Verified),
        case("play-public", "the same without the private half", Draft::played(), false, Verified),
        case("void", "a voided round; the stake goes back", Draft::voided(), true, Verified),
        case("void-public", "the same without the private half", Draft::voided(), false, Verified),
        case(
            "open",
            "a round that has not ended, and a bet in it",
            Draft::open(),
            true,
            NotRevealed,
        ),
        case("open-public", "the same without the private half", Draft::open(), false, NotRevealed),
    ]
}

/// An operator who logs a shared round that is not so.
fn dishonest_rounds() -> Vec<Case> {
    let round = |name, why, step, change: fn(&mut Draft)| {
        let mut draft = Draft::settled();
        change(&mut draft);
        failing(name, why, step, draft.seal(&Keys::new()))
    };
    vec![
        round("commit-foreign", "the commit leaf is of another jurisdiction", Commitment, |d| {
            d.rewrite(d.commit, "jurisdiction MT", "jurisdiction DE");
        }),
        round("commit-of-another-round", "the commit leaf is of another round", Commitment, |d| {
            d.rewrite(d.commit, "9a01\n", "9aff\n");
        }),
        round("commit-missing", "the first leaf is somebody else's", Commitment, |d| d.commit = 1),
        round(
            "commit-after-bet",
            "the bet's checkpoint does not cover the commitment",
            Commitment,
            |d| {
                d.earlier_leaves.truncate(3);
            },
        ),
        round("fork", "the log does not extend the bet's checkpoint", Commitment, |d| {
            d.earlier_leaves[1].push('x');
        }),
        round("settle-foreign-round", "the settle leaf is of another round", Settlement, |d| {
            d.rewrite(8, "9a01\n", "9aff\n");
        }),
        round(
            "settle-other-commit",
            "the settle leaf names another commit leaf",
            Settlement,
            |d| {
                d.rewrite(8, "commit_index 3", "commit_index 2");
            },
        ),
        round("settle-without-bets", "the settle leaf omits this jurisdiction", Settlement, |d| {
            d.rewrite(8, "bets MT ", "bets MX ");
        }),
        round("settle-unknown-form", "the settle leaf has an unknown version", Settlement, |d| {
            d.rewrite(8, "round-settle/v1", "round-settle/v2");
        }),
        round("seed-swapped", "another seed is revealed", SeedStep, |d| {
            let other = hex::encode(Seed::new([0x12; 32]).as_bytes());
            d.rewrite(8, &d.stated("seed"), &other);
        }),
        round("outcome-swapped", "the stated outcome is not the seed's", Outcome, |d| {
            d.rewrite(8, &d.stated("outcome"), "low 1");
        }),
        round("bets-changed", "bets were removed after the draw", Outcome, |d| {
            d.rewrite(8, "bets DE 2", "bets DE 1");
        }),
    ]
}

/// An operator who logs an instant play that is not so.
fn dishonest_plays() -> Vec<Case> {
    let play = |name, why, step, change: fn(&mut Draft)| {
        let mut draft = Draft::played();
        change(&mut draft);
        failing(name, why, step, draft.seal(&Keys::new()))
    };
    vec![
        play("position-skipped", "the seed is of another position", SeedStep, |d| {
            d.rewrite(8, "position 2", "position 3");
        }),
        play("position-outside", "the chain has no such position", SeedStep, |d| {
            d.rewrite(8, "position 2", "position 512");
        }),
        play("client-seed-swapped", "another client seed, another outcome", Outcome, |d| {
            d.rewrite(8, &d.stated("client_seed"), &"01".repeat(32));
        }),
        // This client seed happens to give the same outcome: the record still tells.
        play("client-seed-ignored", "the leaf states another client seed", Record, |d| {
            d.rewrite(8, &d.stated("client_seed"), &"00".repeat(32));
        }),
        play("unknown-game", "no verifier knows the game", Outcome, |d| {
            d.rewrite(d.commit, "game hilo-dice", "game other-dice");
        }),
        play("play-bet-swapped", "the record was changed after it was logged", Record, |d| {
            d.record.stake = Micro::new(1).unwrap();
            d.receipt = receipt_for(&d.record);
        }),
    ]
}

/// An operator who logs an honest round, and states a bet that is not so.
fn dishonest_bets() -> Vec<Case> {
    let round = |name, why, step, change: fn(&mut Draft)| {
        let mut draft = Draft::settled();
        change(&mut draft);
        failing(name, why, step, draft.seal(&Keys::new()))
    };
    vec![
        round("underpaid", "the payout is not the game's", Record, |d| {
            d.payout_micro = Some(Micro::new(1).unwrap());
        }),
        round("payout-missing", "an ended round states no payout", Record, |d| {
            d.payout_micro = None;
        }),
        round("bet-swapped", "the record was changed after it was logged", Record, |d| {
            d.record.selection = "low".to_owned();
            d.receipt = receipt_for(&d.record);
        }),
        round("receipt-of-another-bet", "the receipt promises something else", Record, |d| {
            d.receipt.stake_micro = Micro::new(5_000_000).unwrap();
        }),
        round("other-commitment", "the bet names another commitment", Record, |d| {
            d.record.commitment = [9; 32];
        }),
        round("other-checkpoint", "the bet names another checkpoint", Record, |d| {
            d.record.checkpoint_size = 5;
        }),
    ]
}

/// A file whose public half was changed after it was signed.
fn tampered_bundles() -> Vec<Case> {
    let case = |name, why, step, change: fn(&mut Bundle)| {
        let (mut bundle, opening) = Draft::settled().seal(&Keys::new());
        change(&mut bundle);
        failing(name, why, step, (bundle, opening))
    };
    vec![
        case("no-entries", "a bundle without leaves", Signature, |b| b.entries.clear()),
        case("other-origin", "the bundle names another log", Signature, |b| {
            b.origin = "demo/MT/2".to_owned();
        }),
        case("other-jurisdiction", "the bundle names another jurisdiction", Signature, |b| {
            b.jurisdiction = Jurisdiction::parse("DE").unwrap();
        }),
        case("other-round", "the bundle names another round", Commitment, |b| {
            b.round = RoundId::parse("0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9aff").unwrap();
        }),
        case("other-kind", "the bundle calls a shared round a play", Commitment, |b| {
            b.kind = RoundKind::Play;
        }),
        case("entries-swapped", "the terminal leaf comes first", Commitment, |b| {
            b.entries.reverse();
        }),
        case("settle-edited", "the settle leaf was edited", Settlement, |b| {
            b.entries[1].leaf = b.entries[1].leaf.replacen("outcome ", "outcome  ", 1);
        }),
        case("settle-twice", "the commit leaf stands in for the end", Settlement, |b| {
            b.entries[1] = b.entries[0].clone();
        }),
        case("three-entries", "a bundle with a third leaf", Signature, |b| {
            b.entries.push(b.entries[1].clone());
        }),
    ]
}

/// Proofs that were edited, or signed by keys that nobody pinned.
fn tampered_proofs() -> Vec<Case> {
    let edited = |name, why, step, entry: usize, from: &str, to: &str| {
        let (mut bundle, opening) = Draft::settled().seal(&Keys::new());
        let proof = &mut bundle.entries[entry].proof;
        assert!(proof.contains(from), "{from} is not in {proof}");
        *proof = proof.replacen(from, to, 1);
        failing(name, why, step, (bundle, opening))
    };
    let stranger = Keys { log: key("demo/MT/1", 9), ..Keys::new() };
    let mut other_log = Draft::settled();
    other_log.origin = Origin::parse("demo/MT/2").unwrap();
    let other_key = Keys { log: key("demo/MT/2", 1), ..Keys::new() };
    let (mut respelled, opening) = Draft::settled().seal(&Keys::new());
    for entry in &mut respelled.entries {
        // The sextet before the padding carries bits that must be zero and that a lenient reader drops.
        let at = entry.proof.rfind("=\n").unwrap() - 1;
        let next = char::from(entry.proof.as_bytes()[at] + 1).to_string();
        entry.proof.replace_range(at..=at, &next);
    }
    vec![
        edited("two-checkpoints", "the proofs end differently", Signature, 1, "\n10\n", "\n11\n"),
        edited(
            "extra-data",
            "a proof has extra data",
            Signature,
            0,
            "\nindex",
            "\nextra AA==\nindex",
        ),
        edited("other-index", "the proof is of another leaf", Commitment, 0, "index 3", "index 2"),
        failing(
            "unknown-key",
            "signed by a key of the right name that is not pinned",
            Signature,
            Draft::settled().seal(&stranger),
        ),
        failing("other-log", "the log's key is not pinned", Signature, other_log.seal(&other_key)),
        failing(
            "base64-spelling",
            "the signature in another base64 spelling",
            Signature,
            (respelled, opening),
        ),
    ]
}

/// A file whose private half was changed after it was signed.
fn tampered_openings() -> Vec<Case> {
    let case = |name, why, step, draft: Draft, change: fn(&mut Opening)| {
        let (bundle, mut opening) = draft.seal(&Keys::new());
        change(&mut opening);
        failing(name, why, step, (bundle, opening))
    };
    let round = |name, why, step, change| case(name, why, step, Draft::settled(), change);
    let mut unpinned =
        Draft::settled().seal(&Keys { receipt: key("demo/receipt", 9), ..Keys::new() });
    unpinned.0 = Draft::settled().seal(&Keys::new()).0;
    vec![
        round("salt-wrong", "the salt does not open the commitment", Record, |o| o.salt[0] ^= 1),
        round("record-edited", "the record was edited", Record, |o| {
            o.record = o.record.replacen("stake_micro 2", "stake_micro 3", 1);
        }),
        round("opening-of-another-bet", "the opening names another bet", Record, |o| {
            o.bet = BetId::parse("0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9aff").unwrap();
        }),
        round("place-wrong", "the record stands elsewhere among the bets", Record, |o| {
            o.inclusion.as_mut().unwrap().index = 0;
        }),
        round("count-wrong", "the opening states another number of bets", Record, |o| {
            o.inclusion.as_mut().unwrap().count = 4;
        }),
        round("place-missing", "the opening does not place the record", Record, |o| {
            o.inclusion = None;
        }),
        round("consistency-short", "the consistency proof lacks a hash", Commitment, |o| {
            o.consistency.pop();
        }),
        round("bet-checkpoint-edited", "the bet's checkpoint was edited", Commitment, |o| {
            o.bet_checkpoint = o.bet_checkpoint.replacen("\n6\n", "\n7\n", 1);
        }),
        failing("receipt-unknown-key", "the receipt's key is not pinned", Record, unpinned),
        case(
            "void-kept",
            "a voided round that does not return the stake",
            Record,
            Draft::voided(),
            |o| {
                o.payout_micro = Some(Micro::ZERO);
            },
        ),
        case("open-paid", "a payout before the round has ended", Record, Draft::open(), |o| {
            o.payout_micro = Some(Micro::ZERO);
        }),
    ]
}

fn failing(
    name: &'static str,
    why: &'static str,
    step: StepId,
    (bundle, opening): (Bundle, Opening),
) -> Case {
    let failed_step = Some(step);
    Case { name, why, bundle, opening: Some(opening), verdict: Verdict::Failed, failed_step }
}
