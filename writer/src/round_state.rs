//! The state machine of a round: `open → closed → settled | voided`.
//!
//! Pure. Invariants: every round reaches at most one terminal state; a terminal state is never left;
//! a seed is revealed by a transition into a terminal state only.

use std::fmt;

/// Where a round stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundState {
    /// Bets are accepted.
    Open,
    /// No bet is accepted any more; the seed is still sealed.
    Closed,
    /// The outcome is recorded and the seed revealed.
    Settled,
    /// The round has no outcome; the seed is revealed.
    Voided,
}

/// What an operator asks of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundCommand {
    /// Accept no more bets.
    Close,
    /// Reveal the seed and pay.
    Settle,
    /// Reveal the seed and return the stakes.
    Void,
}

impl RoundState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Open, Self::Closed, Self::Settled, Self::Voided];

    /// The state after `command`, or `None` where the command is not permitted.
    pub const fn after(self, command: RoundCommand) -> Option<Self> {
        match (self, command) {
            (Self::Open, RoundCommand::Close) => Some(Self::Closed),
            (Self::Closed, RoundCommand::Settle) => Some(Self::Settled),
            (Self::Open | Self::Closed, RoundCommand::Void) => Some(Self::Voided),
            _ => None,
        }
    }

    /// Whether the round has ended.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Settled | Self::Voided)
    }

    /// The text the ledger stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Settled => "settled",
            Self::Voided => "voided",
        }
    }

    /// Reads the ledger's text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for RoundState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RoundCommand::{Close, Settle, Void};
    use RoundState::{Closed, Open, Settled, Voided};

    #[test]
    fn the_whole_transition_table() {
        let table = [
            (Open, Close, Some(Closed)),
            (Open, Settle, None),
            (Open, Void, Some(Voided)),
            (Closed, Close, None),
            (Closed, Settle, Some(Settled)),
            (Closed, Void, Some(Voided)),
            (Settled, Close, None),
            (Settled, Settle, None),
            (Settled, Void, None),
            (Voided, Close, None),
            (Voided, Settle, None),
            (Voided, Void, None),
        ];
        for (from, command, expected) in table {
            assert_eq!(from.after(command), expected, "{from} {command:?}");
        }
    }

    #[test]
    fn texts_round_trip_and_nothing_else_parses() {
        for state in RoundState::ALL {
            assert_eq!(RoundState::parse(state.as_str()), Some(state));
        }
        assert_eq!(RoundState::parse("Open"), None);
    }
}
