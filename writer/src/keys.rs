//! The writer's secrets: master keys, the receipt key, the session signing key.
//!
//! Invariants: nothing here is printed or logged; whatever is sealed is bound to the place it is stored
//! at, so that a sealed value moved elsewhere does not open; every seal draws a fresh nonce from the system.

use crate::answer::Failure;
use domicile_core::error::Code;
use domicile_core::ids::{ChainId, RoundId};
use domicile_core::note::SigningKey;
use domicile_core::seal::{self, MasterKey};
use domicile_core::seed::Seed;
use domicile_service::ids::IdSource;
use domicile_service::token::TokenSigner;
use zeroize::Zeroizing;

/// The secrets and what is needed to use them.
pub struct Keys {
    master: Vec<MasterKey>,
    /// Signs receipts.
    pub receipt: SigningKey,
    /// Signs session tokens.
    pub tokens: TokenSigner,
    ids: IdSource,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// Takes the keys; the first master key seals, all of them open.
    pub const fn new(
        master: Vec<MasterKey>,
        receipt: SigningKey,
        tokens: TokenSigner,
        ids: IdSource,
    ) -> Self {
        Self { master, receipt, tokens, ids }
    }

    /// Seals `secret` for exactly this context.
    pub fn seal(&self, context: &str, secret: &[u8]) -> Result<Vec<u8>, Failure> {
        let key = self.master.first().ok_or(Failure::new(Code::Internal))?;
        seal::seal(key, self.ids.bytes(), context, secret)
            .map_err(|error| Failure::because(Code::Internal, &error))
    }

    /// Opens what was sealed for exactly this context.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        seal::open(&self.master, context, sealed)
            .map_err(|error| Failure::because(Code::Internal, &error))
    }

    /// Opens a sealed seed.
    pub fn open_seed(&self, place: SeedOf, sealed: &[u8]) -> Result<Seed, Failure> {
        let opened = self.open(&place.context(), sealed)?;
        Seed::from_slice(&opened).ok_or(Failure::new(Code::Internal))
    }

    /// Seals a seed.
    pub fn seal_seed(&self, place: SeedOf, seed: &Seed) -> Result<Vec<u8>, Failure> {
        self.seal(&place.context(), seed.as_bytes())
    }
}

/// What a seed belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedOf {
    /// A shared round.
    Round(RoundId),
    /// The start of a session's chain.
    Chain(ChainId),
}

impl SeedOf {
    fn context(self) -> String {
        match self {
            Self::Round(id) => format!("seed:round:{id}"),
            Self::Chain(id) => format!("seed:chain:{id}"),
        }
    }
}
