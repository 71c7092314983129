//! A standby's membership: which node joined, and in which joining.
//!
//! Invariant: the replication name `<node>_<join id>` is new at each joining, so that no clone and no namesake can
//! acknowledge in a member's place. Deliberately absent: making join ids, which needs randomness.

use domicile_core::ids::NodeId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Characters of a join id. With the longest node name the replication name stays under Postgres' 63-byte limit.
pub const JOIN_ID_CHARS: usize = 16;

/// One joining of a node: 16 lower-case hexadecimal characters, drawn at random when the node is cloned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JoinId(String);

/// A text that is not a join id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a join id is {JOIN_ID_CHARS} lower-case hexadecimal characters")]
pub struct InvalidJoinId;

impl JoinId {
    /// Parses the one spelling there is.
    pub fn parse(text: &str) -> Result<Self, InvalidJoinId> {
        let plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == JOIN_ID_CHARS && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidJoinId)
        }
    }

    /// The join id made of 64 random bits.
    pub fn from_random(bits: u64) -> Self {
        Self(format!("{bits:016x}"))
    }

    /// The join id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for JoinId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for JoinId {
    type Error = InvalidJoinId;
    fn try_from(text: String) -> Result<Self, InvalidJoinId> {
        Self::parse(&text)
    }
}

impl From<JoinId> for String {
    fn from(id: JoinId) -> String {
        id.0
    }
}

/// A node under one joining.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The joined node.
    pub node: NodeId,
    /// Its joining.
    pub join_id: JoinId,
}

impl Member {
    /// The name under which the standby connects and acknowledges.
    pub fn replication_name(&self) -> String {
        format!("{}_{}", self.node, self.join_id)
    }

    /// The physical replication slot that keeps this member's write-ahead log.
    pub fn slot_name(&self) -> String {
        format!("phys_{}_{}", self.node.as_str().replace('-', "_"), self.join_id)
    }

    /// Reads a replication name back; `None` for any other name.
    pub fn from_replication_name(name: &str) -> Option<Self> {
        let (node, join_id) = name.rsplit_once('_')?;
        let (node, join_id) = (NodeId::parse(node).ok()?, JoinId::parse(join_id).ok()?);
        Some(Self { node, join_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_postgres_and_read_back() {
        let node = NodeId::parse(&"n".repeat(32)).unwrap();
        let member = Member { node, join_id: JoinId::from_random(7) };
        assert!(member.slot_name().len() < 63 && member.replication_name().len() < 63);
        assert_eq!(Member::from_replication_name(&member.replication_name()), Some(member));
        for foreign in
            ["ledger-de", "ledger-de_", "ledger_de_x", "_0000000000000007", "walreceiver"]
        {
            assert_eq!(Member::from_replication_name(foreign), None, "{foreign}");
        }
    }
}
