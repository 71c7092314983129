//! What a wallet's answer means for the transaction it answers: one table, nothing beside it.
//!
//! The codes are the union of those that Hub88-type wallets document. Where their documents contradict each other the
//! choice is the operator's ([`Duplicate`]) or the one that cannot lose money. Invariants: a bet is never repeated on an
//! answer – what is not known to be taken or refused is rolled back; a win never becomes a refund – it ends as done
//! or before a person; whatever is not listed is not known.

use super::Call;

/// A wallet's status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the wallets' own; the table below is their meaning")]
pub enum Status {
    Ok,
    Unknown,
    Timeout,
    InvalidPartner,
    InvalidToken,
    InvalidGame,
    WrongCurrency,
    NotEnoughMoney,
    UserDisabled,
    InvalidSignature,
    TokenExpired,
    WrongSyntax,
    WrongTypes,
    DuplicateTransaction,
    TransactionDoesNotExist,
    TransactionRolledBack,
    LimitReached,
    BetLimitExceeded,
}

const NAMES: [(Status, &str); 18] = [
    (Status::Ok, "RS_OK"),
    (Status::Unknown, "RS_ERROR_UNKNOWN"),
    (Status::Timeout, "RS_ERROR_TIMEOUT"),
    (Status::InvalidPartner, "RS_ERROR_INVALID_PARTNER"),
    (Status::InvalidToken, "RS_ERROR_INVALID_TOKEN"),
    (Status::InvalidGame, "RS_ERROR_INVALID_GAME"),
    (Status::WrongCurrency, "RS_ERROR_WRONG_CURRENCY"),
    (Status::NotEnoughMoney, "RS_ERROR_NOT_ENOUGH_MONEY"),
    (Status::UserDisabled, "RS_ERROR_USER_DISABLED"),
    (Status::InvalidSignature, "RS_ERROR_INVALID_SIGNATURE"),
    (Status::TokenExpired, "RS_ERROR_TOKEN_EXPIRED"),
    (Status::WrongSyntax, "RS_ERROR_WRONG_SYNTAX"),
    (Status::WrongTypes, "RS_ERROR_WRONG_TYPES"),
    (Status::DuplicateTransaction, "RS_ERROR_DUPLICATE_TRANSACTION"),
    (Status::TransactionDoesNotExist, "RS_ERROR_TRANSACTION_DOES_NOT_EXIST"),
    (Status::TransactionRolledBack, "RS_ERROR_TRANSACTION_ROLLED_BACK"),
    (Status::LimitReached, "RS_ERROR_LIMIT_REACHED"),
    (Status::BetLimitExceeded, "RS_ERROR_BET_LIMIT_EXCEEDED"),
];

impl Status {
    /// Every listed code.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.into_iter().map(|(status, _)| status)
    }

    /// Reads a code; one that is not listed is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        NAMES.into_iter().find(|(_, name)| *name == text).map(|(status, _)| status)
    }

    /// The code as wallets write it.
    pub fn as_str(self) -> &'static str {
        NAMES
            .into_iter()
            .find(|(status, _)| *status == self)
            .map_or("RS_ERROR_UNKNOWN", |(_, name)| name)
    }
}

/// What a call came back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A listed code.
    Listed(Status),
    /// Anything else: another code, no code, a server's error, a broken connection, silence.
    None,
}

impl Answer {
    /// The text that metrics and the ledger carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listed(status) => status.as_str(),
            Self::None => "none",
        }
    }

    /// Whether the wallet works, as far as this answer tells: its circuit breaker counts the others.
    pub const fn is_sound(self) -> bool {
        !matches!(self, Self::None | Self::Listed(Status::Unknown | Status::Timeout))
    }
}

/// What an operator's wallet means by `RS_ERROR_DUPLICATE_TRANSACTION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicate {
    /// The same transaction was processed before: done.
    Done,
    /// The id was used for a different transaction (Hub88, Caleta): something is wrong.
    Conflict,
}

impl Duplicate {
    /// The name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Conflict => "conflict",
        }
    }

    /// Reads the ledger's text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Done, Self::Conflict].into_iter().find(|meaning| meaning.as_str() == text)
    }
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The transaction is in the wallet, now or from before.
    Done,
    /// It is not and repeating it will not help: a bet ends so; a win or rollback goes before a person.
    Refused,
    /// It is not, or not known; the same again later.
    Retry,
    /// Perhaps it is: a bet is rolled back.
    Unknown,
}

/// The table.
pub const fn meaning(call: Call, answer: Answer, duplicate: Duplicate) -> Meaning {
    match (call, answer) {
        (Call::Bet, Answer::Listed(status)) => of_bet(status, duplicate),
        (Call::Win, Answer::Listed(status)) => of_win(status, duplicate),
        (Call::Rollback, Answer::Listed(status)) => of_rollback(status, duplicate),
        (Call::Bet, Answer::None) => Meaning::Unknown,
        (Call::Win | Call::Rollback, Answer::None) => Meaning::Retry,
    }
}

const fn of_bet(status: Status, duplicate: Duplicate) -> Meaning {
    match (status, duplicate) {
        (Status::Ok, _) | (Status::DuplicateTransaction, Duplicate::Done) => Meaning::Done,
        // The code says why nothing was taken; the last one is the wallet's tombstone.
        (
            Status::InvalidPartner
            | Status::InvalidToken
            | Status::InvalidGame
            | Status::WrongCurrency
            | Status::NotEnoughMoney
            | Status::UserDisabled
            | Status::InvalidSignature
            | Status::TokenExpired
            | Status::WrongSyntax
            | Status::WrongTypes
            | Status::LimitReached
            | Status::BetLimitExceeded
            | Status::TransactionRolledBack,
            _,
        ) => Meaning::Refused,
        // In a conflict too: whatever it is that was taken under this id, no bet of ours stands on it.
        (
            Status::Unknown
            | Status::Timeout
            | Status::TransactionDoesNotExist
            | Status::DuplicateTransaction,
            _,
        ) => Meaning::Unknown,
    }
}

const fn of_win(status: Status, duplicate: Duplicate) -> Meaning {
    match (status, duplicate) {
        (Status::Ok, _) | (Status::DuplicateTransaction, Duplicate::Done) => Meaning::Done,
        // The wallet holds another view of the bet, or cannot read what would be sent the same again.
        (
            Status::TransactionDoesNotExist
            | Status::TransactionRolledBack
            | Status::DuplicateTransaction
            | Status::WrongCurrency
            | Status::WrongSyntax
            | Status::WrongTypes,
            _,
        ) => Meaning::Refused,
        // Neither an expired token nor a disabled player nor a key being changed forfeits what was won.
        (
            Status::Unknown
            | Status::Timeout
            | Status::InvalidPartner
            | Status::InvalidToken
            | Status::InvalidGame
            | Status::NotEnoughMoney
            | Status::UserDisabled
            | Status::InvalidSignature
            | Status::TokenExpired
            | Status::LimitReached
            | Status::BetLimitExceeded,
            _,
        ) => Meaning::Retry,
    }
}

const fn of_rollback(status: Status, duplicate: Duplicate) -> Meaning {
    match (status, duplicate) {
        // Where the bet is not, or no longer, in the wallet, the player has the stake.
        (Status::Ok | Status::TransactionDoesNotExist | Status::TransactionRolledBack, _)
        | (Status::DuplicateTransaction, Duplicate::Done) => Meaning::Done,
        (Status::DuplicateTransaction | Status::WrongSyntax | Status::WrongTypes, _) => {
            Meaning::Refused
        }
        (
            Status::Unknown
            | Status::Timeout
            | Status::InvalidPartner
            | Status::InvalidToken
            | Status::InvalidGame
            | Status::WrongCurrency
            | Status::NotEnoughMoney
            | Status::UserDisabled
            | Status::InvalidSignature
            | Status::TokenExpired
            | Status::LimitReached
            | Status::BetLimitExceeded,
            _,
        ) => Meaning::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Meaning::{Done, Refused, Retry, Unknown};

    /// (code, bet, win, rollback) where `DUPLICATE` means a conflict.
    const TABLE: [(&str, Meaning, Meaning, Meaning); 20] = [
        ("RS_OK", Done, Done, Done),
        ("RS_ERROR_UNKNOWN", Unknown, Retry, Retry),
        ("RS_ERROR_TIMEOUT", Unknown, Retry, Retry),
        ("RS_ERROR_INVALID_PARTNER", Refused, Retry, Retry),
        ("RS_ERROR_INVALID_TOKEN", Refused, Retry, Retry),
        ("RS_ERROR_INVALID_GAME", Refused, Retry, Retry),
        ("RS_ERROR_WRONG_CURRENCY", Refused, Refused, Retry),
        ("RS_ERROR_NOT_ENOUGH_MONEY", Refused, Retry, Retry),
        ("RS_ERROR_USER_DISABLED", Refused, Retry, Retry),
        ("RS_ERROR_INVALID_SIGNATURE", Refused, Retry, Retry),
        ("RS_ERROR_TOKEN_EXPIRED", Refused, Retry, Retry),
        ("RS_ERROR_WRONG_SYNTAX", Refused, Refused, Refused),
        ("RS_ERROR_WRONG_TYPES", Refused, Refused, Refused),
        ("RS_ERROR_DUPLICATE_TRANSACTION", Unknown, Refused, Refused),
        ("RS_ERROR_TRANSACTION_DOES_NOT_EXIST", Unknown, Refused, Done),
        ("RS_ERROR_TRANSACTION_ROLLED_BACK", Refused, Refused, Done),
        ("RS_ERROR_LIMIT_REACHED", Refused, Retry, Retry),
        ("RS_ERROR_BET_LIMIT_EXCEEDED", Refused, Retry, Retry),
        ("RS_ERROR_OF_TOMORROW", Unknown, Retry, Retry),
        ("", Unknown, Retry, Retry),
    ];

    fn answer(text: &str) -> Answer {
        Status::parse(text).map_or(Answer::None, Answer::Listed)
    }

    #[test]
    fn every_line_of_the_table() {
        for (text, bet, win, rollback) in TABLE {
            for (call, expected) in [(Call::Bet, bet), (Call::Win, win), (Call::Rollback, rollback)]
            {
                let found = meaning(call, answer(text), Duplicate::Conflict);
                assert_eq!(found, expected, "{call:?} {text}");
                let found = meaning(call, answer(text), Duplicate::Done);
                let expected =
                    if text.ends_with("DUPLICATE_TRANSACTION") { Done } else { expected };
                assert_eq!(found, expected, "{call:?} {text}, where a duplicate is done");
            }
        }
        assert!(Status::all().all(|status| TABLE.iter().any(|line| line.0 == status.as_str())));
    }

    #[test]
    fn no_answer_repeats_a_bet_and_none_leaves_money_that_is_owed_unknown() {
        let answers = || Status::all().map(Answer::Listed).chain([Answer::None]);
        for (answer, duplicate) in
            answers().flat_map(|answer| [(answer, Duplicate::Done), (answer, Duplicate::Conflict)])
        {
            assert_ne!(meaning(Call::Bet, answer, duplicate), Retry, "{answer:?}");
            assert_ne!(meaning(Call::Win, answer, duplicate), Unknown, "{answer:?}");
            assert_ne!(meaning(Call::Rollback, answer, duplicate), Unknown, "{answer:?}");
            if !answer.is_sound() {
                assert_eq!(meaning(Call::Bet, answer, duplicate), Unknown, "{answer:?}");
            }
        }
    }
}
