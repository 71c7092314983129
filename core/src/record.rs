//! A bet's private record: what was bet, by whom, on which commitment. Only its salted hash is public.
//!
//! The record is fixed text lines (ASCII, LF, fixed order, no optional field), hashed exactly as
//! stored. Invariant: `encode(parse(text)) == text`; any other spelling is refused.
//! The 32-byte random salt keeps a guessed record from being recognised by its commitment.

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{
    hex,
    ids::{BetId, Jurisdiction, OperatorId, PlayerRef, RoundId, SessionId},
    limits::{RECORD_MAX_BYTES, SELECTION_MAX_BYTES},
    lines::{LineError, Lines, number},
    money::{Currency, Micro},
};

const TITLE: &str = "domicile/bet-record/v1";
const COMMITMENT_DOMAIN: &[u8] = b"domicile/record/v1\n";

/// The private record of one bet.
#[derive(Clone, PartialEq, Eq)]
pub struct BetRecord {
    /// Where the session is.
    pub jurisdiction: Jurisdiction,
    /// Whose player it is.
    pub operator: OperatorId,
    /// The operator's pseudonym for the player.
    pub player: PlayerRef,
    /// The player's session.
    pub session: SessionId,
    /// The round, shared or instant play.
    pub round: RoundId,
    /// The bet.
    pub bet: BetId,
    /// The currency of stake and payout.
    pub currency: Currency,
    /// The stake.
    pub stake: Micro,
    /// What was bet on: visible ASCII, at most [`SELECTION_MAX_BYTES`].
    pub selection: String,
    /// The player's own entropy.
    pub client_seed: [u8; 32],
    /// The commitment the bet names.
    pub commitment: [u8; 32],
    /// Size of the published checkpoint that covers the commitment.
    pub checkpoint_size: u64,
    /// Root of that checkpoint.
    pub checkpoint_root: [u8; 32],
}

/// Why a text is not a bet record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Longer than any record.
    #[error("a bet record has at most {RECORD_MAX_BYTES} bytes")]
    TooLong,
    /// Not the lines of a record in their order.
    #[error("bet record: {0}")]
    Line(#[from] LineError),
}

impl BetRecord {
    /// The exact text that is hashed and stored.
    pub fn encode(&self) -> String {
        format!(
            "{TITLE}\njurisdiction {}\noperator {}\nplayer {}\nsession {}\nround {}\nbet {}\n\
             currency {}\nstake_micro {}\nselection {}\nclient_seed {}\ncommitment {}\n\
             checkpoint {} {}\n",
            self.jurisdiction,
            self.operator,
            self.player,
            self.session,
            self.round,
            self.bet,
            self.currency,
            self.stake,
            self.selection,
            hex::encode(&self.client_seed),
            hex::encode(&self.commitment),
            self.checkpoint_size,
            hex::encode(&self.checkpoint_root),
        )
    }

    /// Reads exactly what [`encode`](Self::encode) writes.
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        if text.len() > RECORD_MAX_BYTES {
            return Err(RecordError::TooLong);
        }
        let mut lines = Lines::new(text);
        lines.header(TITLE)?;
        let record = Self {
            jurisdiction: lines.read("jurisdiction", Jurisdiction::parse)?,
            operator: lines.read("operator", OperatorId::parse)?,
            player: lines.read("player", PlayerRef::parse)?,
            session: lines.read("session", SessionId::parse)?,
            round: lines.read("round", RoundId::parse)?,
            bet: lines.read("bet", BetId::parse)?,
            currency: lines.read("currency", Currency::parse)?,
            stake: Micro::new(lines.number("stake_micro")?).or(Err(LineError("stake_micro")))?,
            selection: lines.read("selection", selection)?,
            client_seed: lines.hash("client_seed")?,
            commitment: lines.hash("commitment")?,
            checkpoint_size: 0,
            checkpoint_root: [0; 32],
        };
        let (size, root) = lines
            .value("checkpoint")?
            .split_once(' ')
            .and_then(|(size, root)| Some((number(size)?, hex::decode_32(root)?)))
            .ok_or(LineError("checkpoint"))?;
        lines.end()?;
        Ok(Self { checkpoint_size: size, checkpoint_root: root, ..record })
    }
}

/// Personal data stays out of logs.
impl std::fmt::Debug for BetRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BetRecord")
            .field("jurisdiction", &self.jurisdiction)
            .field("round", &self.round)
            .field("bet", &self.bet)
            .finish_non_exhaustive()
    }
}

/// `SHA-256("domicile/record/v1\n" ‖ salt ‖ record)`: what the leaf, the bets root and the receipt hold.
pub fn commitment(record: &str, salt: &[u8; 32]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(COMMITMENT_DOMAIN).chain_update(salt);
    hash.chain_update(record.as_bytes()).finalize().into()
}

fn selection(text: &str) -> Result<String, RecordError> {
    let fits = (1..=SELECTION_MAX_BYTES).contains(&text.len());
    let plain = fits && text.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| text.to_owned()).ok_or(RecordError::Line(LineError("selection")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> BetRecord {
        BetRecord {
            jurisdiction: Jurisdiction::parse("MT").unwrap(),
            operator: OperatorId::parse("acme").unwrap(),
            player: PlayerRef::parse("p-1").unwrap(),
            session: SessionId::parse("0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a01").unwrap(),
            round: RoundId::parse("0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a02").unwrap(),
            bet: BetId::parse("0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a03").unwrap(),
            currency: Currency::parse("EUR").unwrap(),
            stake: Micro::new(1_000_000).unwrap(),
            selection: "low".to_owned(),
            client_seed: [1; 32],
            commitment: [2; 32],
            checkpoint_size: 812,
            checkpoint_root: [3; 32],
        }
    }

    #[test]
    fn a_record_has_one_spelling() {
        let text = record().encode();
        assert_eq!(BetRecord::parse(&text).map(|r| r.encode()), Ok(text.clone()));
        for bad in [
            text.trim_end().to_owned(),
            format!("{text}\n"),
            text.replace('\n', "\r\n"),
            text.replace("stake_micro 1000000", "stake_micro 01000000"),
            text.replace("stake_micro 1000000", "stake_micro 9000000000000001"),
            text.replace("selection low", "selection "),
            text.replace("checkpoint 812 ", "checkpoint 812  "),
            text.replace("currency EUR\n", ""),
            "x".repeat(RECORD_MAX_BYTES + 1),
        ] {
            assert!(BetRecord::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_output_names_no_player() {
        assert!(!format!("{:?}", record()).contains("p-1"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_exactly_or_refused(text in "\\PC{0,200}") {
            prop_assert!(BetRecord::parse(&text).is_err());
        }

        #[test]
        fn a_changed_byte_never_reads_as_the_same_record(at in 0usize..2048, byte in 0u8..128) {
            let mut bytes = record().encode().into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            prop_assert_ne!(commitment(&text, &[9; 32]), commitment(&record().encode(), &[9; 32]));
            if let Ok(read) = BetRecord::parse(&text) {
                prop_assert_eq!(read.encode(), text);
                prop_assert_ne!(read, record());
            }
        }

        #[test]
        fn the_salt_changes_the_commitment(a: [u8; 32], b: [u8; 32]) {
            let text = record().encode();
            prop_assert_eq!(commitment(&text, &a) == commitment(&text, &b), a == b);
        }
    }
}
