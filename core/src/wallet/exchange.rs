//! The text that goes to a wallet and how one that comes back is read.
//!
//! Invariants: the body of a transaction is the same bytes each time it is sent, so that a wallet which remembers requests
//! recognises it; whatever is not a listed status is [`Answer::None`]. A balance is asked for and told, and nothing
//! is decided by it.

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Call;
use super::answer::{Answer, Status};
use crate::ids::{BetId, GameCode, Jurisdiction, OperatorId, PlayerRef, RoundId, SessionId};
use crate::limits::WALLET_ANSWER_MAX_BYTES;
use crate::money::{Currency, Micro};
use crate::operator_auth::SignedRequest;

/// Header of an RSA signature over the body, as Hub88-type wallets want it: base64 of PKCS #1 v1.5, SHA-256.
pub const RSA_SIGNATURE_HEADER: &str = "X-Hub88-Signature";

/// One transaction with a player's wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its id.
    pub id: Uuid,
    /// What is asked.
    pub call: Call,
    /// The bet that a win or rollback is about.
    pub reference: Option<Uuid>,
    /// Whose wallet is asked.
    pub operator: OperatorId,
    /// Where the session is.
    pub jurisdiction: Jurisdiction,
    /// The player.
    pub player: PlayerRef,
    /// The session.
    pub session: SessionId,
    /// The game.
    pub game: GameCode,
    /// The round.
    pub round: RoundId,
    /// The bet in the ledger.
    pub bet: BetId,
    /// The currency.
    pub currency: Currency,
    /// How much.
    pub amount: Micro,
}

#[derive(Serialize)]
struct Body<'a> {
    request_uuid: Uuid,
    transaction_uuid: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference_transaction_uuid: Option<Uuid>,
    user: &'a PlayerRef,
    session: SessionId,
    jurisdiction: &'a Jurisdiction,
    game_code: &'a GameCode,
    round: RoundId,
    bet: BetId,
    currency: &'a Currency,
    amount_micro: Micro,
}

impl Transaction {
    /// The request's body.
    pub fn body(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Body {
            request_uuid: self.id,
            transaction_uuid: self.id,
            reference_transaction_uuid: self.reference,
            user: &self.player,
            session: self.session,
            jurisdiction: &self.jurisdiction,
            game_code: &self.game,
            round: self.round,
            bet: self.bet,
            currency: &self.currency,
            amount_micro: self.amount,
        })
    }
}

/// What a player has, asked of the wallet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BalanceQuery {
    /// The question's id; a repetition has another.
    #[serde(rename = "request_uuid")]
    pub id: Uuid,
    /// The player.
    #[serde(rename = "user")]
    pub player: PlayerRef,
    /// The session.
    pub session: SessionId,
    /// Where that is.
    pub jurisdiction: Jurisdiction,
    /// The game.
    #[serde(rename = "game_code")]
    pub game: GameCode,
    /// The currency.
    pub currency: Currency,
}

impl BalanceQuery {
    /// The name in metrics and traces.
    pub const NAME: &str = "balance";
    /// Where it is sent, below the wallet's address.
    pub const PATH: &str = "/user/balance";

    /// The request's body.
    pub fn body(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// The HMAC of a call, in the form of [`crate::operator_auth`]: method, target, time and body hash.
pub fn hmac(secret: &[u8], target: &str, timestamp_unix_s: u64, body: &[u8]) -> String {
    SignedRequest { method: "POST", path: target, timestamp_unix_s, body }.sign(secret)
}

/// Reads a wallet's answer: the code in `status`, whatever else there is; a server's error says nothing.
pub fn read(http_status: u16, body: &[u8]) -> Answer {
    object(http_status, body).as_ref().map_or(Answer::None, status_of)
}

/// Reads the answer to a [`BalanceQuery`]: micro-units in `balance_micro` where the status is `RS_OK`, which says nothing
/// without them.
pub fn read_balance(http_status: u16, body: &[u8]) -> (Answer, Option<u64>) {
    let Some(read) = object(http_status, body) else { return (Answer::None, None) };
    match status_of(&read) {
        Answer::Listed(Status::Ok) => match read.get("balance_micro").and_then(Value::as_u64) {
            Some(balance) => (Answer::Listed(Status::Ok), Some(balance)),
            None => (Answer::None, None),
        },
        answer => (answer, None),
    }
}

fn status_of(read: &Map<String, Value>) -> Answer {
    let status = read.get("status").and_then(Value::as_str);
    status.and_then(Status::parse).map_or(Answer::None, Answer::Listed)
}

fn object(http_status: u16, body: &[u8]) -> Option<Map<String, Value>> {
    let is_read = http_status < 500 && body.len() <= WALLET_ANSWER_MAX_BYTES;
    if is_read { serde_json::from_slice(body).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_body_is_as_documented() {
        let id = |n| Uuid::from_u128(n);
        let mut win = Transaction {
            id: id(1),
            call: Call::Win,
            reference: Some(id(2)),
            operator: OperatorId::parse("acme").unwrap(),
            jurisdiction: Jurisdiction::parse("MT").unwrap(),
            player: PlayerRef::parse("p-1").unwrap(),
            session: SessionId(id(3)),
            game: GameCode::parse("wheel").unwrap(),
            round: RoundId(id(4)),
            bet: BetId(id(5)),
            currency: Currency::parse("EUR").unwrap(),
            amount: Micro::new(1_500_000).unwrap(),
        };
        let text = |win: &Transaction| String::from_utf8(win.body().unwrap()).unwrap();
        assert_eq!(
            text(&win),
            "{\"request_uuid\":\"00000000-0000-0000-0000-000000000001\",\
             \"transaction_uuid\":\"00000000-0000-0000-0000-000000000001\",\
             \"reference_transaction_uuid\":\"00000000-0000-0000-0000-000000000002\",\"user\":\"p-1\",\
             \"session\":\"00000000-0000-0000-0000-000000000003\",\"jurisdiction\":\"MT\",\"game_code\":\"wheel\",\
             \"round\":\"00000000-0000-0000-0000-000000000004\",\"bet\":\"00000000-0000-0000-0000-000000000005\",\
             \"currency\":\"EUR\",\"amount_micro\":1500000}"
        );
        win.reference = None;
        assert!(!text(&win).contains("reference"));
    }

    #[test]
    fn a_balance_is_told_by_a_yes_with_a_whole_number() {
        let ok = Answer::Listed(Status::Ok);
        assert_eq!(read_balance(200, br#"{"status":"RS_OK","balance_micro":12}"#), (ok, Some(12)));
        for unread in [
            r#"{"status":"RS_OK"}"#,
            r#"{"status":"RS_OK","balance_micro":-1}"#,
            r#"{"status":"RS_OK","balance_micro":1.5}"#,
            r#"{"balance_micro":12}"#,
        ] {
            assert_eq!(read_balance(200, unread.as_bytes()), (Answer::None, None), "{unread}");
        }
        let disabled = br#"{"status":"RS_ERROR_USER_DISABLED","balance_micro":12}"#;
        assert_eq!(read_balance(200, disabled), (Answer::Listed(Status::UserDisabled), None));
    }

    #[test]
    fn only_a_listed_status_is_an_answer() {
        let ok = Answer::Listed(Status::Ok);
        assert_eq!(read(200, br#"{"status":"RS_OK","balance":12}"#), ok);
        assert_eq!(
            read(400, br#"{"status":"RS_ERROR_WRONG_SYNTAX"}"#),
            Answer::Listed(Status::WrongSyntax)
        );
        for (status, body) in [
            (500, &br#"{"status":"RS_OK"}"#[..]),
            (200, b"{}"),
            (200, b""),
            (200, br#"{"status":"rs_ok"}"#),
            (200, br#"{"status":["RS_OK"]}"#),
            (200, br#"["RS_OK"]"#),
            (200, br#"{"status":"RS_OK"}{}"#),
        ] {
            assert_eq!(read(status, body), Answer::None, "{}", String::from_utf8_lossy(body));
        }
        let long = format!(r#"{{"status":"RS_OK","x":"{}"}}"#, "x".repeat(WALLET_ANSWER_MAX_BYTES));
        assert_eq!(read(200, long.as_bytes()), Answer::None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(status: u16, body in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(read(status, &body), Answer::None);
        }
    }
}
