//! The cluster's signing and sealing keys: made once in the operator's folder, public halves into the topology.
//!
//! One token key per ledger region, one log key per jurisdiction and for the operations log; one receipt key, one master key and one key for drill
//! reports per cluster.
//! Invariant: an existing key is never replaced here; rotation adds a new one beside it.

use crate::files::{self, MODE_FOLDER_SECRET, MODE_SECRET};
use crate::secrets;
use anyhow::{Context, Result, anyhow};
use domicile_core::checkpoint;
use domicile_core::hex;
use domicile_core::ids::{ClusterId, Jurisdiction, RegionId};
use domicile_core::note::SigningKey;
use domicile_core::operation;
use domicile_topology::Topology;
use domicile_topology::document::{LogKey, ReceiptKey, SessionKey, TokenAlgorithm};
use rcgen::{KeyPair, PKCS_ED25519};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The first log epoch of a jurisdiction.
const FIRST_LOG_EPOCH: u32 = 1;

/// Where a cluster's private keys are.
#[derive(Debug, Clone)]
pub(crate) struct KeyFolder(PathBuf);

impl KeyFolder {
    /// The keys in the folder, which is made if need be.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        files::folder(folder, MODE_FOLDER_SECRET)?;
        Ok(Self(folder.to_owned()))
    }

    /// The token key of a ledger region, PKCS#8 PEM.
    pub(crate) fn session(&self, region: &RegionId) -> PathBuf {
        self.0.join(format!("session-{region}.pem"))
    }
    /// The log key of a jurisdiction, note format.
    pub(crate) fn log(&self, jurisdiction: &Jurisdiction) -> PathBuf {
        self.0.join(format!("log-{jurisdiction}.key"))
    }
    /// The receipt key, note format.
    pub(crate) fn receipt(&self) -> PathBuf {
        self.0.join("receipt.key")
    }
    /// The master key.
    pub(crate) fn master(&self) -> PathBuf {
        self.0.join("master.key")
    }

    /// The public half of the drill key.
    pub(crate) fn drills_public(&self) -> PathBuf {
        self.0.join("drills.vkey")
    }

    /// The key that drill reports are signed with; made when it is first needed.
    pub(crate) fn drills(&self, cluster: &ClusterId) -> Result<SigningKey> {
        note_key(&self.0.join("drills.key"), &format!("{cluster}/drills"))
    }

    /// Makes what is missing and enters every public key into the topology.
    pub(crate) fn complete(&self, topology: Topology) -> Result<Topology> {
        let mut complete = topology;
        secrets::master_key(&self.master())?;
        for region in ledger_regions(&complete) {
            let key = self.session_key(&region)?;
            if !complete.session_keys.iter().any(|present| present.kid == key.kid) {
                complete.session_keys.push(key);
            }
        }
        let codes = complete.jurisdictions.iter().map(|policy| policy.code.clone());
        let codes: Vec<Jurisdiction> = codes.chain(operation::log()).collect();
        for jurisdiction in codes {
            let name = checkpoint::origin(&complete.cluster, &jurisdiction, FIRST_LOG_EPOCH);
            let vkey = note_key(&self.log(&jurisdiction), &name)?.verifier().to_string();
            if !complete.log_keys.iter().any(|present| present.vkey == vkey) {
                complete.log_keys.push(LogKey { jurisdiction, epoch: FIRST_LOG_EPOCH, vkey });
            }
        }
        let name = checkpoint::receipt_key_name(&complete.cluster);
        let vkey = note_key(&self.receipt(), &name)?.verifier().to_string();
        if !complete.receipt_keys.iter().any(|present| present.vkey == vkey) {
            complete.receipt_keys.push(ReceiptKey { vkey });
        }
        complete.checked().map_err(|findings| {
            anyhow!("{}", crate::layout::report(Path::new("topology"), &findings))
        })
    }

    /// The public half of a region's token key; its id is the region and the key's fingerprint.
    pub(crate) fn session_key(&self, region: &RegionId) -> Result<SessionKey> {
        let path = self.session(region);
        let pem = files::write_once(&path, MODE_SECRET, || {
            Ok(KeyPair::generate_for(&PKCS_ED25519)
                .context("cannot make a token key")?
                .serialize_pem())
        })?;
        let pair = KeyPair::from_pem(&pem)
            .with_context(|| format!("{} holds no private key", path.display()))?;
        let print = hex::encode(&Sha256::digest(pair.public_key_raw()));
        let print: String = print.chars().take(8).collect();
        Ok(SessionKey {
            kid: format!("{region}-{print}"),
            region: region.clone(),
            algorithm: TokenAlgorithm::EdDsa,
            public_key: pair.public_key_pem(),
        })
    }
}

/// The regions whose writers sign tokens.
pub(crate) fn ledger_regions(topology: &Topology) -> BTreeSet<RegionId> {
    topology.ledgers.iter().map(|node| node.region.clone()).collect()
}

fn note_key(path: &Path, name: &str) -> Result<SigningKey> {
    let text = files::write_once(path, MODE_SECRET, || {
        let key = SigningKey::from_seed(name, &secrets::random()?)?;
        Ok(key.to_text().as_str().to_owned())
    })?;
    let key = SigningKey::from_text(&text)
        .with_context(|| format!("{} holds no note signing key", path.display()))?;
    if key.name() != name {
        return Err(anyhow!("{} is the key of `{}`, not of `{name}`", path.display(), key.name()));
    }
    Ok(key)
}
