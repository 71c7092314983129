//! An entry of the operations log: who did what to the cluster, in which role, and why.
//!
//! The log is one more Merkle log of the cluster, with the origin `<cluster>/operations/<log epoch>`. Its rows stand
//! beside those of the jurisdictions' logs under [`log`], a code of the ISO 3166 range that is never a country's.
//! Invariants: an entry is fixed lines like a leaf, with one spelling; no line holds a secret or a player.

use crate::error::Code;
use crate::ids::Jurisdiction;
use crate::limits::LINE_TEXT_MAX_BYTES;
use crate::lines::{LineError, Lines, Text};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use uuid::Uuid;

/// The code that the operations log's rows stand under; no jurisdiction may have it.
pub const LOG_CODE: &str = "XO";
/// The name of the log in its origin.
pub const LOG_NAME: &str = "operations";
/// How the outbox and the index name an entry.
pub const KIND: &str = "operation";
/// The longest reason a person gives, in characters.
pub const REASON_MAX_CHARS: usize = 512;

const HEADER: &str = "domicile/operation/v1";

/// The key of the operations log among the logs.
pub fn log() -> Option<Jurisdiction> {
    Jurisdiction::parse(LOG_CODE).ok()
}

/// Whether this is the operations log's key and not a jurisdiction.
pub fn is_log(code: &Jurisdiction) -> bool {
    code.as_str() == LOG_CODE
}

/// What a person of this cluster may do, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Looks.
    Viewer,
    /// Administers operators, games, credentials, sessions and wallet transactions.
    Operator,
    /// Moves the writer.
    DrLead,
}

impl Grade {
    /// Every grade.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::DrLead];

    /// The name in certificates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::DrLead => "dr-lead",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grade| grade.as_str() == text)
    }

    /// Refuses a person of a lower grade.
    pub fn allows(self, needed: Self) -> Result<(), Code> {
        if self >= needed { Ok(()) } else { Err(Code::RoleInsufficient) }
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// Its id.
    pub id: Uuid,
    /// When, by the writer's clock; the order of entries is that of the log.
    pub at_unix_ms: u64,
    /// The name in the person's certificate.
    pub actor: Text,
    /// The role in it.
    pub role: Text,
    /// What was done, such as `game.suspend`.
    pub action: Text,
    /// To what.
    pub subject: Text,
    /// How it was: JSON, or its SHA-256 where it is long; `-` where there was nothing.
    pub before: Text,
    /// How it is now.
    pub after: Text,
    /// Why.
    pub reason: Text,
}

impl Operation {
    /// The entry's text, as it is stored and hashed.
    pub fn encode(&self) -> String {
        let Self { id, at_unix_ms, actor, role, action, subject, before, after, reason } = self;
        format!(
            "{HEADER}\nid {id}\nat_unix_ms {at_unix_ms}\nactor {actor}\nrole {role}\naction {action}\n\
             subject {subject}\nbefore {before}\nafter {after}\nreason {reason}\n"
        )
    }

    /// Reads an entry; only the one spelling is accepted.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let mut lines = Lines::new(text);
        lines.header(HEADER)?;
        let operation = Self {
            id: lines.read("id", Uuid::parse_str)?,
            at_unix_ms: lines.number("at_unix_ms")?,
            actor: lines.read("actor", Text::parse)?,
            role: lines.read("role", Text::parse)?,
            action: lines.read("action", Text::parse)?,
            subject: lines.read("subject", Text::parse)?,
            before: lines.read("before", Text::parse)?,
            after: lines.read("after", Text::parse)?,
            reason: lines.read("reason", Text::parse)?,
        };
        lines.end()?;
        if operation.encode() == text { Ok(operation) } else { Err(LineError("spelling")) }
    }
}

/// Any text as one line: what is not printable ASCII is written `\uXXXX`, as in JSON.
pub fn line(text: &str) -> Result<Text, LineError> {
    let mut line = String::with_capacity(text.len());
    for character in text.trim().chars() {
        if matches!(character, ' '..='~') {
            line.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _written = write!(line, "\\u{unit:04x}");
            }
        }
    }
    Text::parse(&line)
}

/// A state as one line: its JSON, or its digest where that is too long; `-` for none.
pub fn state(json: Option<&str>) -> Result<Text, LineError> {
    let Some(json) = json else { return Text::parse("-") };
    line(json).or_else(|_long| Text::parse(&digest(json.as_bytes())))
}

/// `sha256:<hex>`: how a state or a file that is not in the log is named.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", crate::hex::encode(&Sha256::digest(bytes)))
}

const _: () = assert!(LINE_TEXT_MAX_BYTES >= REASON_MAX_CHARS);

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Operation {
        let text = |text| line(text).unwrap();
        Operation {
            id: Uuid::from_u128(7),
            at_unix_ms: 1_790_000_000_000,
            actor: text("spiffe://demo/operator/anna"),
            role: text("operator"),
            action: text("game.suspend"),
            subject: text("acme/wheel"),
            before: state(None).unwrap(),
            after: state(Some(r#"{"suspended":true}"#)).unwrap(),
            reason: text("Rückfrage\nder Aufsicht 🎲"),
        }
    }

    #[test]
    fn an_entry_has_one_spelling() {
        let text = entry().encode();
        assert!(text.is_ascii());
        assert!(
            text.contains("reason R\\u00fcckfrage\\u000ader Aufsicht \\ud83c\\udfb2\n"),
            "{text}"
        );
        assert_eq!(Operation::parse(&text), Ok(entry()));
        for bad in [
            text.replace("id ", "id  "),
            text.to_uppercase(),
            format!("{text}\n"),
            text.replace("before", "after"),
        ] {
            assert!(Operation::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_long_state_is_named_by_its_digest() {
        let long = format!("\"{}\"", "x".repeat(LINE_TEXT_MAX_BYTES));
        assert_eq!(state(Some(&long)).unwrap().as_str(), digest(long.as_bytes()));
        assert!(line(&long).is_err() && line("  ").is_err());
    }

    #[test]
    fn grades_include_the_ones_below() {
        for (at, grade) in Grade::ALL.into_iter().enumerate() {
            assert_eq!(Grade::parse(grade.as_str()), Some(grade));
            for (needed_at, needed) in Grade::ALL.into_iter().enumerate() {
                assert_eq!(grade.allows(needed).is_ok(), at >= needed_at);
            }
        }
        assert_eq!(Grade::parse("ctl"), None);
    }
}
