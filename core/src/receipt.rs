//! The signed receipt a player holds from the moment a bet is accepted.
//!
//! It stands in until the log covers the round: a receipt without a terminal leaf is evidence. It is a
//! signed note by the key `<cluster>/receipt`, with fixed lines and one spelling.

use thiserror::Error;

use crate::{
    checkpoint::receipt_key_name,
    epoch::Epoch,
    hex,
    ids::{BetId, ClusterId, Jurisdiction, RoundId, SessionId},
    lines::{LineError, Lines},
    log::Hash,
    money::{Currency, Micro},
    note::{self, NoteError, SigningKey, VerifierKey},
};

/// The first line.
const HEADER: &str = "domicile/receipt/v1";

/// Why a receipt is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReceiptError {
    /// A line is missing or malformed.
    #[error(transparent)]
    Line(#[from] LineError),
    /// Every field is well-formed, but the text is not the one spelling of them.
    #[error("the receipt is not in its canonical spelling")]
    NotCanonical,
    /// The key's name is not `<cluster>/receipt`.
    #[error("the receipt is not signed by its cluster's receipt key")]
    Key,
    /// The note around it is refused.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// What the operator of the ledger promises for an accepted bet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The bet's jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// The cluster that accepted it.
    pub cluster: ClusterId,
    /// The round.
    pub round: RoundId,
    /// The bet.
    pub bet: BetId,
    /// The player's session.
    pub session: SessionId,
    /// The commitment the bet was placed under.
    pub commitment: Hash,
    /// Size of the checkpoint the bet named.
    pub checkpoint_size: u64,
    /// Root of the checkpoint the bet named.
    pub checkpoint_root: Hash,
    /// Commitment to the bet's record.
    pub record: Hash,
    /// The stake.
    pub stake_micro: Micro,
    /// The stake's currency.
    pub currency: Currency,
    /// The writer's epoch that accepted the bet.
    pub accepted_epoch: Epoch,
}

impl Receipt {
    /// The text that is signed.
    pub fn encode(&self) -> String {
        format!(
            "{HEADER}\njurisdiction {}\ncluster {}\nround {}\nbet {}\nsession {}\ncommitment {}\n\
             checkpoint_size {}\ncheckpoint_root {}\nrecord {}\nstake_micro {}\ncurrency {}\n\
             accepted_epoch {}\n",
            self.jurisdiction,
            self.cluster,
            self.round,
            self.bet,
            self.session,
            hex::encode(&self.commitment),
            self.checkpoint_size,
            hex::encode(&self.checkpoint_root),
            hex::encode(&self.record),
            self.stake_micro,
            self.currency,
            self.accepted_epoch
        )
    }

    /// Parses the signed text; only what [`Receipt::encode`] writes is accepted.
    pub fn parse(text: &str) -> Result<Self, ReceiptError> {
        let mut lines = Lines::new(text);
        lines.header(HEADER)?;
        let receipt = Self {
            jurisdiction: lines.read("jurisdiction", Jurisdiction::parse)?,
            cluster: lines.read("cluster", ClusterId::parse)?,
            round: lines.read("round", RoundId::parse)?,
            bet: lines.read("bet", BetId::parse)?,
            session: lines.read("session", SessionId::parse)?,
            commitment: lines.hash("commitment")?,
            checkpoint_size: lines.number("checkpoint_size")?,
            checkpoint_root: lines.hash("checkpoint_root")?,
            record: lines.hash("record")?,
            stake_micro: Micro::new(lines.number("stake_micro")?)
                .or(Err(LineError("stake_micro")))?,
            currency: lines.read("currency", Currency::parse)?,
            accepted_epoch: Epoch(lines.number("accepted_epoch")?),
        };
        lines.end()?;
        if receipt.encode() == text { Ok(receipt) } else { Err(ReceiptError::NotCanonical) }
    }

    /// Signs it with the cluster's receipt key.
    pub fn sign(&self, key: &SigningKey) -> Result<String, ReceiptError> {
        if key.name() != receipt_key_name(&self.cluster) {
            return Err(ReceiptError::Key);
        }
        Ok(note::sign(&self.encode(), key)?)
    }

    /// Opens a signed receipt: one of `keys` has signed it, and that key is its cluster's receipt key.
    pub fn open(note: &str, keys: &[VerifierKey]) -> Result<Self, ReceiptError> {
        let opened = note::open(note, keys)?;
        let receipt = Self::parse(&opened.text)?;
        let name = receipt_key_name(&receipt.cluster);
        if opened.signers.contains(&name) { Ok(receipt) } else { Err(ReceiptError::Key) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receipt() -> Receipt {
        let id = "0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
        Receipt {
            jurisdiction: Jurisdiction::parse("MT").unwrap(),
            cluster: ClusterId::parse("demo").unwrap(),
            round: RoundId::parse(id).unwrap(),
            bet: BetId::parse(id).unwrap(),
            session: SessionId::parse(id).unwrap(),
            commitment: [1; 32],
            checkpoint_size: 812,
            checkpoint_root: [2; 32],
            record: [3; 32],
            stake_micro: Micro::new(1_000_000).unwrap(),
            currency: Currency::parse("EUR").unwrap(),
            accepted_epoch: Epoch(4),
        }
    }

    fn key(name: &str) -> SigningKey {
        SigningKey::from_seed(name, &[1; 32]).unwrap()
    }

    #[test]
    fn a_receipt_is_signed_by_its_clusters_receipt_key() {
        let (key, other) = (key("demo/receipt"), key("prod/receipt"));
        let pinned = [key.verifier().clone(), other.verifier().clone()];
        let note = receipt().sign(&key).unwrap();
        assert_eq!(Receipt::open(&note, &pinned), Ok(receipt()));
        assert_eq!(receipt().sign(&other), Err(ReceiptError::Key));
        let foreign = note::sign(&receipt().encode(), &other).unwrap();
        assert_eq!(Receipt::open(&foreign, &pinned), Err(ReceiptError::Key));
    }

    #[test]
    fn no_flipped_bit_of_a_receipt_is_accepted() {
        let key = key("demo/receipt");
        let note = receipt().sign(&key).unwrap().into_bytes();
        for bit in 0..note.len() * 8 {
            let mut flipped = note.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let opened = str::from_utf8(&flipped)
                .is_ok_and(|note| Receipt::open(note, &[key.verifier().clone()]).is_ok());
            assert!(!opened, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_reads_as_the_same_receipt(at: usize, byte in 0u8..128) {
            let mut bytes = receipt().encode().into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            if let Ok(read) = Receipt::parse(&text) {
                prop_assert_ne!(&read, &receipt());
                prop_assert_eq!(read.encode(), text);
            }
        }
    }
}
