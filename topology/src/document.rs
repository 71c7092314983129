//! The topology document: regions, nodes, jurisdictions and verification keys of one cluster.
//!
//! Invariants: a value obtained by [`Topology::parse`], [`Topology::from_json`] or serde has passed
//! every check; whoever changes one afterwards calls [`Topology::checked`] before using it. A node
//! takes a document on only if it [`Topology::succeeds`] the one it has.
//! Deliberately absent: secrets and effective dates.

use crate::address::{Address, ServiceUrl};
use crate::diagnostic::{Diagnostic, Severity};
use crate::{check, limits};
use domicile_core::ids::{ClusterId, Jurisdiction, NodeId, RegionId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use thiserror::Error;

/// A checked topology document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Topology {
    /// The cluster's name.
    pub cluster: ClusterId,
    /// Grows with each change of the document; starts at 1.
    pub generation: u64,
    /// How durable a write is in normal operation.
    pub durability: DurabilityPolicy,
    /// Who decides a failover, and where the writer belongs.
    pub failover: FailoverPolicy,
    /// The regions.
    #[serde(rename = "region", default)]
    pub regions: Vec<Region>,
    /// The control plane's members.
    #[serde(rename = "etcd", default)]
    pub etcd: Vec<EtcdNode>,
    /// The ledger's database nodes.
    #[serde(rename = "ledger", default)]
    pub ledgers: Vec<LedgerNode>,
    /// The readers, each with its database.
    #[serde(rename = "reader", default)]
    pub readers: Vec<ReaderNode>,
    /// The writers.
    #[serde(rename = "writer", default)]
    pub writers: Vec<WriterNode>,
    /// The routers.
    #[serde(rename = "router", default)]
    pub routers: Vec<RouterNode>,
    /// The residency rules, one per jurisdiction.
    #[serde(rename = "jurisdiction", default)]
    pub jurisdictions: Vec<JurisdictionPolicy>,
    /// Keys that session tokens are verified with.
    #[serde(rename = "session_key", default)]
    pub session_keys: Vec<SessionKey>,
    /// Keys that checkpoints are verified with.
    #[serde(rename = "log_key", default)]
    pub log_keys: Vec<LogKey>,
    /// Keys that receipts are verified with.
    #[serde(rename = "receipt_key", default)]
    pub receipt_keys: Vec<ReceiptKey>,
}

/// `[durability]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DurabilityPolicy {
    /// What is aimed at; the control record says what holds.
    pub mode: Durability,
}

/// In how many regions a write is on disk before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In the writer's region and in the sync member's.
    Two,
    /// In the writer's region only: outside the no-loss claim.
    One,
}

/// `[failover]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailoverPolicy {
    /// Who decides.
    pub policy: FailoverMode,
    /// Where the writer belongs when nothing is wrong.
    pub preferred_region: RegionId,
}

/// Who decides an unplanned failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailoverMode {
    /// A person, through the command line.
    Manual,
    /// The promotable standby's agent, when a second observer agrees.
    Automatic,
}

/// `[[region]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its name.
    pub id: RegionId,
    /// The country it stands in, ISO 3166-1 alpha-2, or the subdivision where that matters (`US-NJ`).
    pub country: Jurisdiction,
}

/// `[[etcd]]`: a member of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdNode {
    /// The member's name.
    pub node: NodeId,
    /// Where it runs.
    pub region: RegionId,
    /// Where clients reach it.
    pub client: ServiceUrl,
    /// Where its peers reach it.
    pub peer: ServiceUrl,
}

/// `[[ledger]]`: a database node of the ledger. Every one holds all jurisdictions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerNode {
    /// The node.
    pub node: NodeId,
    /// Where it runs.
    pub region: RegionId,
    /// Its Postgres.
    pub postgres: Address,
    /// Its agent.
    pub agent: ServiceUrl,
    /// The agent's health and metrics.
    pub admin: Address,
}

/// `[[reader]]`: a reader service with its own database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderNode {
    /// The node.
    pub node: NodeId,
    /// Where it runs.
    pub region: RegionId,
    /// The jurisdictions it holds; no other row reaches it.
    pub jurisdictions: BTreeSet<Jurisdiction>,
    /// Its Postgres.
    pub postgres: Address,
    /// Its agent.
    pub agent: ServiceUrl,
    /// The agent's health and metrics.
    pub agent_admin: Address,
    /// Its service.
    pub endpoint: ServiceUrl,
    /// The service's health and metrics.
    pub admin: Address,
}

/// `[[writer]]`: a writer service; it works on the ledger nodes of its region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterNode {
    /// The node.
    pub node: NodeId,
    /// Where it runs.
    pub region: RegionId,
    /// Its service.
    pub endpoint: ServiceUrl,
    /// The service's health and metrics.
    pub admin: Address,
}

/// `[[router]]`: the way in of a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterNode {
    /// The node.
    pub node: NodeId,
    /// Where it runs.
    pub region: RegionId,
    /// Its service, as callers reach it.
    pub endpoint: ServiceUrl,
    /// The service's health and metrics.
    pub admin: Address,
}

/// `[[jurisdiction]]`: where one jurisdiction's data may, must and may not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JurisdictionPolicy {
    /// The jurisdiction.
    pub code: Jurisdiction,
    /// Regions whose writer may write for it; elsewhere it is suspended.
    pub writer_regions: BTreeSet<RegionId>,
    /// Regions that must hold a copy.
    pub required_copy_regions: BTreeSet<RegionId>,
    /// Regions that may hold a copy; no other may.
    pub allowed_regions: BTreeSet<RegionId>,
    /// Regions whose routers may serve its tokens; the allowed ones unless the document says less.
    pub serve_regions: BTreeSet<RegionId>,
    /// How far a reader may be behind before it refuses, milliseconds.
    pub lag_limit_ms: u64,
    /// Whether its log is readable without a token.
    pub publish_log: bool,
}

/// `[[session_key]]`: the public half of a region's token-signing key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionKey {
    /// The key id tokens name.
    pub kid: String,
    /// The ledger region whose writer signs with it.
    pub region: RegionId,
    /// The only algorithm this key verifies.
    pub algorithm: TokenAlgorithm,
    /// The public key, PEM.
    pub public_key: String,
}

/// A signature algorithm of session tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TokenAlgorithm {
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

/// `[[log_key]]`: verifies the checkpoints of one log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogKey {
    /// Whose log.
    pub jurisdiction: Jurisdiction,
    /// Which of its log epochs; starts at 1.
    pub epoch: u32,
    /// The note verifier key; its name is the log's origin `<cluster>/<jurisdiction>/<epoch>`.
    pub vkey: String,
}

/// `[[receipt_key]]`: verifies receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptKey {
    /// The note verifier key, named `<cluster>/receipt`.
    pub vkey: String,
}

/// How a document relates to the one a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// A newer generation: apply it.
    Newer,
    /// The very same document: nothing to do.
    Same,
}

/// Why a document may not follow the one a node has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SuccessionRefused {
    /// It belongs to another cluster.
    #[error("the document is of cluster {offered}, this is {present}")]
    OtherCluster {
        /// The cluster here.
        present: ClusterId,
        /// The cluster of the document.
        offered: ClusterId,
    },
    /// A topology never goes back.
    #[error("generation {offered} is older than the present {present}")]
    Older {
        /// The generation here.
        present: u64,
        /// The generation of the document.
        offered: u64,
    },
    /// One generation cannot mean two things.
    #[error("generation {0} is already taken by a different document")]
    SameButDifferent(u64),
}

/// What checking a text gave: every finding, and the topology unless one of them is an error.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The topology, if it can be used.
    pub topology: Option<Topology>,
    /// Every finding, by line.
    pub diagnostics: Vec<Diagnostic>,
}

impl Topology {
    /// Reads and checks a document; the findings, errors and warnings, come back when there is an error.
    pub fn parse(text: &str) -> Result<Self, Vec<Diagnostic>> {
        let Checked { topology, diagnostics } = Self::check(text);
        topology.ok_or(diagnostics)
    }

    /// Reads and checks a document and reports warnings as well.
    pub fn check(text: &str) -> Checked {
        check::check(text)
    }

    /// The document as TOML; comments of an earlier text are not kept.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    /// Checks a changed value as if its text had been read.
    pub fn checked(self) -> Result<Self, Vec<Diagnostic>> {
        let text = self.to_toml().map_err(|error| {
            vec![Diagnostic {
                line: 1,
                severity: Severity::Error,
                message: format!("the document cannot be written as TOML: {error}"),
                remedy: format!("Keep numbers at most {}.", limits::MAX_GENERATION),
            }]
        })?;
        Self::parse(&text)
    }

    /// Reads and checks the JSON form: the control plane's value and the disk cache.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Whether this document may follow `present`: newer applies, the same is fine, all else is refused.
    pub fn succeeds(&self, present: &Self) -> Result<Succession, SuccessionRefused> {
        if self.cluster != present.cluster {
            return Err(SuccessionRefused::OtherCluster {
                present: present.cluster.clone(),
                offered: self.cluster.clone(),
            });
        }
        match self.generation.cmp(&present.generation) {
            std::cmp::Ordering::Greater => Ok(Succession::Newer),
            std::cmp::Ordering::Equal if self == present => Ok(Succession::Same),
            std::cmp::Ordering::Equal => Err(SuccessionRefused::SameButDifferent(self.generation)),
            std::cmp::Ordering::Less => Err(SuccessionRefused::Older {
                present: present.generation,
                offered: self.generation,
            }),
        }
    }
}

impl Serialize for Topology {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Topology {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)?.checked().map_err(|diagnostics| {
            let mut errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
            let first = errors.next().map_or("", |d| d.message.as_str());
            serde::de::Error::custom(format_args!(
                "the topology is refused: {first} ({} more)",
                errors.count()
            ))
        })
    }
}
