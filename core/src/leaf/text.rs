//! The one spelling of each leaf: its lines written and, beside that, strictly read.

use super::{
    ChainClose, ChainCommit, CloseReason, JurisdictionBets, Leaf, LeafError, Play, RoundBets,
    RoundCommit, RoundSettle, RoundVoid, VoidReason,
};
use crate::{
    hex,
    ids::{ChainId, GameCode, Jurisdiction, RoundId},
    limits::{LEAF_MAX_BYTES, ROUND_JURISDICTIONS_MAX},
    lines::{LineError, Lines, Text, number},
};

impl Leaf {
    /// The entry's text, as it is stored and hashed.
    pub fn encode(&self) -> String {
        match self {
            Self::RoundCommit(leaf) => encode(leaf),
            Self::RoundSettle(leaf) => encode(leaf),
            Self::RoundVoid(leaf) => encode(leaf),
            Self::ChainCommit(leaf) => encode(leaf),
            Self::Play(leaf) => encode(leaf),
            Self::ChainClose(leaf) => encode(leaf),
        }
    }

    /// Parses an entry; only what [`Leaf::encode`] writes is accepted.
    pub fn parse(entry: &[u8]) -> Result<Self, LeafError> {
        if entry.len() > LEAF_MAX_BYTES || !entry.is_ascii() {
            return Err(LeafError::UnknownForm);
        }
        let text = str::from_utf8(entry).or(Err(LeafError::UnknownForm))?;
        let (header, body) = text.split_once('\n').ok_or(LeafError::UnknownForm)?;
        let mut lines = Lines::new(body);
        let leaf = match header {
            RoundCommit::HEADER => Self::RoundCommit(RoundCommit::read(&mut lines)?),
            RoundSettle::HEADER => Self::RoundSettle(RoundSettle::read(&mut lines)?),
            RoundVoid::HEADER => Self::RoundVoid(RoundVoid::read(&mut lines)?),
            ChainCommit::HEADER => Self::ChainCommit(ChainCommit::read(&mut lines)?),
            Play::HEADER => Self::Play(Play::read(&mut lines)?),
            ChainClose::HEADER => Self::ChainClose(ChainClose::read(&mut lines)?),
            _ => return Err(LeafError::UnknownForm),
        };
        lines.end()?;
        if leaf.encode() == text { Ok(leaf) } else { Err(LeafError::NotCanonical) }
    }
}

/// One form of leaf: a header, then lines in a fixed order.
trait Form: Sized {
    const HEADER: &'static str;
    /// The lines after the header.
    fn body(&self) -> String;
    /// Reads them back.
    fn read(lines: &mut Lines<'_>) -> Result<Self, LeafError>;
}

fn encode<F: Form>(leaf: &F) -> String {
    format!("{}\n{}", F::HEADER, leaf.body())
}

impl Form for RoundCommit {
    const HEADER: &'static str = "domicile/round-commit/v1";

    fn body(&self) -> String {
        format!(
            "jurisdiction {}\nround {}\ngame {}\nparams {}\ncommitment {}\n",
            self.jurisdiction,
            self.round,
            self.game,
            self.params,
            hex::encode(&self.commitment)
        )
    }

    fn read(lines: &mut Lines<'_>) -> Result<Self, LeafError> {
        Ok(Self {
            jurisdiction: lines.read("jurisdiction", Jurisdiction::parse)?,
            round: lines.read("round", RoundId::parse)?,
            game: lines.read("game", GameCode::parse)?,
            params: lines.read("params", Text::parse)?,
            commitment: lines.hash("commitment")?,
        })
    }
}

impl Form for RoundSettle {
    const HEADER: &'static str = "domicile/round-settle/v1";

    fn body(&self) -> String {
        format!(
            "jurisdiction {}\nround {}\ncommit_index {}\nseed {}\noutcome {}\njurisdictions {}\n{}",
            self.jurisdiction,
            self.round,
            self.commit_index,
            hex::encode(&self.seed),
            self.outcome,
            self.bets.as_slice().len(),
            self.bets.lines()
        )
    }

    fn read(lines: &mut Lines<'_>) -> Result<Self, LeafError> {
        Ok(Self {
            jurisdiction: lines.read("jurisdiction", Jurisdiction::parse)?,
            round: lines.read("round", RoundId::parse)?,
            commit_index: lines.number("commit_index")?,
            seed: lines.hash("seed")?,
            outcome: lines.read("outcome", Text::parse)?,
            bets: round_bets(lines)?,
        })
    }
}

impl Form for RoundVoid {
    const HEADER: &'static str = "domicile/round-void/v1";

    fn body(&self) -> String {
        format!(
            "jurisdiction {}\nround {}\ncommit_index {}\nseed {}\nreason {}\njurisdictions {}\n{}",
            self.jurisdiction,
            self.round,
            self.commit_index,
            hex::encode(&self.seed),
            self.reason,
            self.bets.as_slice().len(),
            self.bets.lines()
        )
    }

    fn read(lines: &mut Lines<'_>) -> Result<Self, LeafError> {
        Ok(Self {
            jurisdiction: lines.read("jurisdiction", Jurisdiction::parse)?,
            round: lines.read("round", RoundId::parse)?,
            commit_index: lines.number("commit_index")?,
            seed: lines.hash("seed")?,
            reason: lines.read("reason", VoidReason::parse)?,
            bets: round_bets(lines)?,
        })
    }
}

impl Form for ChainCommit {
    const HEADER: &'static str = "domicile/chain-commit/v1";

    fn body(&self) -> String {
        format!(
            "jurisdiction {}\nchain {}\ngame {}\nparams {}\nlength {}\ncommitment {}\n",
            self.jurisdiction,
            self.chain,
            self.game,
            self.params,
            self.length,
            hex::encode(&self.commitment)
        )
    }

    fn read(lines: &mut Lines<'_>) -> Result<Self, LeafError> {
        Ok(Self {
            jurisdiction: lines.read("jurisdiction", Jurisdiction::parse)?,
            chain: lines.read("chain", ChainId::parse)?,
            game: lines.read("game", GameCode::parse)?,
            params: lines.read("params", Text::parse)?,
            length: lines.small_number("length")?,
            commitment: lines.hash("commitment")?,
        })
    }
}

impl Form for Play {
    const HEADER: &'static str = "domicile/play/v1";

    fn body(&self) -> String {
        format!(
            "jurisdiction {}\ncommit_index {}\nposition {}\nround {}\nseed {}\nclient_seed {}\n\
             outcome {}\nrecord {}\n",
            self.jurisdiction,
            self.commit_index,
            self.position,
            self.round,
            hex::encode(&self.seed),
            hex::encode(&self.client_seed),
            self.outcome,
            hex::encode(&self.record)
        )
    }

    fn read(lines: &mut Lines<'_>) -> Result<Self, LeafError> {
        Ok(Self {
            jurisdiction: lines.read("jurisdiction", Jurisdiction::parse)?,
            commit_index: lines.number("commit_index")?,
            position: lines.small_number("position")?,
            round: lines.read("round", RoundId::parse)?,
            seed: lines.hash("seed")?,
            client_seed: lines.hash("client_seed")?,
            outcome: lines.read("outcome", Text::parse)?,
            record: lines.hash("record")?,
        })
    }
}

impl Form for ChainClose {
    const HEADER: &'static str = "domicile/chain-close/v1";

    fn body(&self) -> String {
        format!(
            "jurisdiction {}\ncommit_index {}\nplays {}\nseed {}\nreason {}\n",
            self.jurisdiction,
            self.commit_index,
            self.plays,
            hex::encode(&self.seed),
            self.reason
        )
    }

    fn read(lines: &mut Lines<'_>) -> Result<Self, LeafError> {
        Ok(Self {
            jurisdiction: lines.read("jurisdiction", Jurisdiction::parse)?,
            commit_index: lines.number("commit_index")?,
            plays: lines.small_number("plays")?,
            seed: lines.hash("seed")?,
            reason: lines.read("reason", CloseReason::parse)?,
        })
    }
}

fn round_bets(lines: &mut Lines<'_>) -> Result<RoundBets, LeafError> {
    let count = usize::try_from(lines.number("jurisdictions")?).ok();
    let count = count.filter(|count| *count <= ROUND_JURISDICTIONS_MAX);
    let mut bets = Vec::new();
    for _ in 0..count.ok_or(LeafError::Jurisdictions)? {
        bets.push(jurisdiction_bets(lines.value("bets")?).ok_or(LineError("bets"))?);
    }
    RoundBets::new(bets)
}

fn jurisdiction_bets(value: &str) -> Option<JurisdictionBets> {
    let (jurisdiction, rest) = value.split_once(' ')?;
    let (count, root) = rest.split_once(' ')?;
    Some(JurisdictionBets {
        jurisdiction: Jurisdiction::parse(jurisdiction).ok()?,
        count: number(count)?,
        root: hex::decode_32(root)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::leaf::{bets_root, samples};

    #[test]
    fn every_form_round_trips_and_has_one_spelling() {
        for leaf in samples::all() {
            let text = leaf.encode();
            assert_eq!(Leaf::parse(text.as_bytes()), Ok(leaf.clone()), "{text}");
            for bad in [
                text.trim_end().to_owned(),
                format!("{text}\n"),
                format!("{text}more 1\n"),
                format!("\n{text}"),
                text.replace('\n', "\r\n"),
                text.replace("jurisdiction ", "jurisdiction  "),
                text.replace("jurisdiction MT", "jurisdiction mt"),
                text.replace("seed ", "Seed ").replace("commitment ", "Commitment "),
                text.replace("/v1", "/v2"),
                text.to_uppercase(),
            ] {
                assert!(Leaf::parse(bad.as_bytes()).is_err(), "must be refused: {bad:?}");
            }
        }
    }

    #[test]
    fn numbers_and_lists_have_one_spelling() {
        let settle = samples::settle().encode();
        let play = samples::play().encode();
        let bets: Vec<&str> = settle.lines().filter(|line| line.starts_with("bets ")).collect();
        let swapped = settle
            .replace(&format!("{}\n{}", bets[0], bets[1]), &format!("{}\n{}", bets[1], bets[0]));
        assert_ne!(swapped, settle);
        for bad in [
            swapped,
            settle.replace(bets[1], bets[0]),
            settle.replace("jurisdictions 2", "jurisdictions 1"),
            settle.replace("jurisdictions 2", "jurisdictions 3"),
            settle.replace("jurisdictions 2", "jurisdictions 18446744073709551615"),
            settle.replace("commit_index 0", "commit_index 00"),
            play.replace("position 3", "position +3"),
            play.replace("position 3", "position 4294967296"),
        ] {
            assert!(Leaf::parse(bad.as_bytes()).is_err(), "must be refused: {bad:?}");
        }
    }

    #[test]
    fn a_leaf_of_the_greatest_size_fits() {
        let code = |n: u8| format!("US-{}{}", char::from(b'A' + n / 26), char::from(b'A' + n % 26));
        let bets = (0..64).map(|n| JurisdictionBets {
            jurisdiction: Jurisdiction::parse(&code(n)).unwrap(),
            count: u64::MAX,
            root: bets_root(&[]),
        });
        let Leaf::RoundSettle(mut leaf) = samples::settle() else { unreachable!() };
        leaf.commit_index = u64::MAX;
        leaf.outcome = Text::parse(&"x".repeat(1024)).unwrap();
        leaf.bets = RoundBets::new(bets.collect()).unwrap();
        let leaf = Leaf::RoundSettle(leaf);
        assert_eq!(Leaf::parse(leaf.encode().as_bytes()), Ok(leaf));
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_reads_as_the_same_leaf(which in 0usize..6, at: usize, byte: u8) {
            let leaf = samples::all().remove(which);
            let mut bytes = leaf.encode().into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            if let Ok(read) = Leaf::parse(&bytes) {
                prop_assert_ne!(&read, &leaf);
                prop_assert_eq!(read.encode().into_bytes(), bytes);
            }
        }

        #[test]
        fn any_bytes_are_read_exactly_or_refused(bytes: Vec<u8>) {
            if let Ok(leaf) = Leaf::parse(&bytes) {
                prop_assert_eq!(leaf.encode().into_bytes(), bytes);
            }
        }
    }
}
