//! Every error a caller can see: a stable code, its class, its HTTP status and what to do next.
//!
//! Invariants: a code never changes its meaning; each code has a row in `docs/reference/errors.md`
//! (a test compares them); texts here are fixed, so nothing internal can leak through them.

use serde::Serialize;

/// How an error is handled: by the caller, by waiting, or by a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// The request is malformed: correct it.
    Invalid,
    /// Not authenticated or not permitted.
    Denied,
    /// Nothing here under that name.
    NotFound,
    /// The request contradicts the present state.
    Conflict,
    /// A limit was reached: slow down.
    Limited,
    /// Another node is the right one.
    Misdirected,
    /// Not executed; the same request may be sent again.
    Unavailable,
    /// Perhaps executed: send the same request with the same key to learn the outcome.
    OutcomeUnknown,
    /// A fault of ours that a person has to look at.
    Internal,
}

macro_rules! codes {
    ($($variant:ident, $code:literal, $class:ident, $status:literal, $title:literal, $remedy:literal;)*) => {
        /// A stable error code. Its text form is the `code` member of every problem document.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable text, such as `token-expired`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// The handling class.
            pub const fn class(self) -> ErrorClass {
                match self { $(Self::$variant => ErrorClass::$class),* }
            }

            /// One sentence: what happened.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// One sentence: what the caller does next.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy),* }
            }
        }
    };
}

codes! {
    MalformedRequest, "malformed-request", Invalid, 400, "The request could not be read.", "Correct the request; the detail names the field.";
    MalformedBody, "malformed-body", Invalid, 400, "The body is not the JSON this operation expects.", "Correct the body; the detail names the field.";
    BodyTooLarge, "body-too-large", Invalid, 413, "The body exceeds this operation's limit.", "Send at most the number of bytes the detail names.";
    BodyTooSlow, "body-too-slow", Invalid, 408, "The body did not arrive in time.", "Send the body without pauses.";
    HeadersTooLarge, "headers-too-large", Invalid, 431, "The request's headers exceed the limit.", "Send fewer or shorter headers.";
    UnsupportedMediaType, "unsupported-media-type", Invalid, 415, "The body is not declared as application/json.", "Set Content-Type: application/json.";
    MethodNotAllowed, "method-not-allowed", Invalid, 405, "This path does not take this method.", "See the API reference for the path.";
    NotFound, "not-found", NotFound, 404, "There is nothing under this path.", "Check the path and the identifier.";
    RoundNotFound, "round-not-found", NotFound, 404, "No such round in this jurisdiction.", "Check the round id and the token's jurisdiction.";
    BetNotFound, "bet-not-found", NotFound, 404, "No such bet of this player in this jurisdiction.", "Check the bet id and the token.";
    ProofNotReady, "proof-not-ready", Unavailable, 503, "The round's last leaf is not covered by a checkpoint here yet.", "Repeat the request after Retry-After.";
    TokenMissing, "token-missing", Denied, 401, "A session token is needed.", "Send Authorization: Bearer with the token of the session.";
    TokenMalformed, "token-malformed", Denied, 401, "The session token cannot be read.", "Ask the operator for a new session.";
    TokenTooLarge, "token-too-large", Denied, 401, "The session token exceeds 4096 bytes.", "Ask the operator for a new session.";
    TokenAlgorithm, "token-algorithm", Denied, 401, "The token's algorithm is not the one of its key.", "Ask the operator for a new session.";
    TokenUnknownKey, "token-unknown-key", Denied, 401, "The token's key is not known or was withdrawn.", "Ask the operator for a new session.";
    TokenSignature, "token-signature", Denied, 401, "The token's signature is wrong.", "Ask the operator for a new session.";
    TokenExpired, "token-expired", Denied, 401, "The session token has expired.", "Ask the operator for a new session.";
    TokenNotYetValid, "token-not-yet-valid", Denied, 401, "The session token is not valid yet.", "Check the issuing clock.";
    TokenIssuer, "token-issuer", Denied, 401, "The token comes from another issuer or for another audience.", "Use a token of this cluster.";
    TokenClaims, "token-claims", Denied, 401, "The token lacks a claim or has a wrong one.", "Ask the operator for a new session.";
    SessionRevoked, "session-revoked", Denied, 401, "The session was revoked.", "Ask the operator for a new session.";
    ScopeInsufficient, "scope-insufficient", Denied, 403, "The token does not permit this operation.", "Use a token of the right scope.";
    JurisdictionForbidden, "jurisdiction-forbidden", Denied, 403, "This node does not serve the token's jurisdiction.", "Use the router, which finds the right reader.";
    JurisdictionUnknown, "jurisdiction-unknown", Denied, 403, "The jurisdiction is not configured.", "Check the topology document.";
    JurisdictionMisdirected, "jurisdiction-misdirected", Misdirected, 421, "This router's region may not serve the token's jurisdiction.", "Use one of the permitted addresses in the answer.";
    JurisdictionSuspended, "jurisdiction-suspended", Unavailable, 503, "The jurisdiction is suspended for writes.", "See the cluster's status for the reason.";
    NoPermittedReader, "no-permitted-reader", Unavailable, 503, "No permitted reader of the jurisdiction is healthy.", "Repeat the request after Retry-After.";
    PeerForbidden, "peer-forbidden", Denied, 403, "The client certificate does not permit this operation.", "Use a certificate of the right role.";
    RoleInsufficient, "role-insufficient", Denied, 403, "The person's role does not permit this operation.", "The detail names the role that is needed; ask somebody who has it.";
    OriginForbidden, "origin-forbidden", Denied, 403, "The browser origin is not allowed for this operator.", "Register the origin with the operator.";
    OperatorAuthMissing, "operator-auth-missing", Denied, 401, "The operator signature headers are missing or malformed.", "Send Domicile-Key-Id, Domicile-Timestamp and Domicile-Signature.";
    OperatorKeyUnknown, "operator-key-unknown", Denied, 401, "The operator key is unknown, not valid now, or revoked.", "Use a current credential.";
    OperatorTimestamp, "operator-timestamp", Denied, 401, "The request's timestamp is more than 30 seconds off.", "Synchronise the clock and sign again.";
    OperatorSignature, "operator-signature", Denied, 401, "The operator signature does not match the request.", "Sign method, path, timestamp and body hash as documented.";
    OperatorForbidden, "operator-forbidden", Denied, 403, "The operator may not do this for this jurisdiction, game or object.", "Check the operator's registration.";
    OperatorExists, "operator-exists", Conflict, 409, "An operator of this id is registered already.", "Add a credential to it, or use another id.";
    RequestReplayed, "request-replayed", Conflict, 409, "This signed request was already received.", "Put a request_id in the body to make a request repeatable.";
    RequestIdReused, "request-id-reused", Conflict, 409, "The request id was used for a different request.", "Use a new request_id.";
    IdempotencyKeyMissing, "idempotency-key-missing", Invalid, 400, "The Idempotency-Key header is missing or malformed.", "Send 1-64 visible ASCII characters, new for each bet.";
    IdempotencyKeyReused, "idempotency-key-reused", Conflict, 409, "The idempotency key was used for a different request.", "Use a new key for a new bet.";
    RoundState, "round-state", Conflict, 409, "The round's state does not permit this.", "Read the round and act on its present state.";
    ReceiptInvalid, "receipt-invalid", Invalid, 422, "The receipt is not one that this cluster has signed.", "Send the receipt as it was given out, byte for byte.";
    RoundNotLost, "round-not-lost", Conflict, 409, "The bet of this receipt is not lost.", "Read its round; the detail says why it counts as it stands.";
    LossEvidence, "loss-evidence", Conflict, 409, "What is known of the lost bet does not suffice to decide on it.", "Bring the node that has kept it back, or refund it: see the runbook of the loss statement.";
    GameUnknown, "game-unknown", Invalid, 422, "The game is not known.", "Use a code of the game reference.";
    GameParameters, "game-parameters", Invalid, 422, "The game's parameters are out of range.", "See the game reference for the ranges.";
    GameSuspended, "game-suspended", Conflict, 409, "The operator's game is suspended or not offered at present; nothing was executed.", "Wait until it is offered again.";
    GameLimit, "game-limit", Invalid, 422, "The bet is outside the limits of the operator's game.", "The detail names the limit; a new bet needs a new key.";
    BetInvalid, "bet-invalid", Invalid, 422, "The bet is not one the game accepts.", "Check stake, selection and client seed.";
    StakeRefused, "stake-refused", Conflict, 409, "The operator's wallet refused the stake; nothing was bet.", "The detail names the wallet's reason; a new bet needs a new key.";
    StakeReturned, "stake-returned", Conflict, 409, "The operator's wallet did not confirm the stake, so it goes back; nothing was bet.", "Place a new bet with a new key.";
    WalletUnavailable, "wallet-unavailable", Unavailable, 503, "The operator's wallet does not answer at present; nothing was executed.", "Repeat the request with the same key after Retry-After.";
    BalanceRefused, "balance-refused", Conflict, 409, "The operator's wallet does not tell the balance.", "The detail names the wallet's reason; ask the operator.";
    WalletJobState, "wallet-job-state", Conflict, 409, "The wallet transaction's state does not permit this.", "Show the transaction and act on its present state.";
    StakeLimit, "stake-limit", Denied, 403, "The stake is above the session's limit; nothing was bet.", "Bet at most the limit that the session shows.";
    LossLimit, "loss-limit", Denied, 403, "The bet could lose more than the session's limit; nothing was bet.", "Bet less, or end the session.";
    TimeLimit, "time-limit", Denied, 403, "The session's time for play is over; nothing was bet.", "End the session.";
    CaptchaRefused, "captcha-refused", Denied, 403, "The player's captcha is missing or was not accepted.", "Let the player answer a new captcha.";
    CaptchaUnavailable, "captcha-unavailable", Unavailable, 503, "The captcha could not be checked; no session was opened.", "Repeat the request after Retry-After.";
    CommitmentMismatch, "commitment-mismatch", Conflict, 409, "The bet names another commitment than the current one.", "Read the session or round again and bet on its commitment.";
    CommitmentNotPublished, "commitment-not-published", Unavailable, 503, "No published checkpoint covers the commitment yet.", "Repeat the request after Retry-After.";
    CheckpointUnknown, "checkpoint-unknown", Conflict, 409, "The bet names a checkpoint this log has not published.", "Read the latest checkpoint and bet again.";
    ChainExhausted, "chain-exhausted", Unavailable, 503, "The session's seed chain is used up and the next is not published yet.", "Read the session again and repeat.";
    NotWriter, "not-writer", Unavailable, 503, "This node is not the writer; nothing was executed.", "Use the router, which follows the control record.";
    EpochFenced, "epoch-fenced", Unavailable, 503, "The writer's epoch has ended; nothing was executed.", "Repeat the request with the same key.";
    WriterOverloaded, "writer-overloaded", Unavailable, 503, "The writer's queue is full; nothing was executed.", "Repeat the request with the same key after Retry-After.";
    WriterDraining, "writer-draining", Unavailable, 503, "The writer is closing; nothing was executed.", "Repeat the request with the same key.";
    WriterUnavailable, "writer-unavailable", Unavailable, 503, "No writer can be reached; nothing was executed.", "Repeat the request with the same key after Retry-After.";
    OutcomeUnknown, "outcome-unknown", OutcomeUnknown, 504, "The request may or may not have been executed.", "Send the same request with the same key until it is answered.";
    StaleReplica, "stale-replica", Unavailable, 503, "This reader is further behind than its jurisdiction permits.", "Repeat the request after Retry-After.";
    PositionTimeout, "position-timeout", Unavailable, 503, "The reader has not reached the requested log position in time.", "Repeat the request after Retry-After.";
    ReplicaUnverified, "replica-unverified", Unavailable, 503, "The replica does not match the signed log; it serves nothing until it does.", "Operators: see the runbook of this code.";
    TooManyRequests, "too-many-requests", Limited, 429, "The rate limit for this address or token is reached.", "Repeat the request after Retry-After.";
    TooManyConnections, "too-many-connections", Limited, 503, "The connection limit is reached.", "Connect again after Retry-After.";
    UpstreamUnavailable, "upstream-unavailable", Unavailable, 502, "The upstream did not answer; it is not known to have executed anything.", "Reads: repeat. Writes: repeat with the same key.";
    NodeBusy, "node-busy", Unavailable, 503, "The node's agent is carrying out another operation.", "Repeat the request after Retry-After.";
    NodeState, "node-state", Conflict, 409, "The node's present state does not permit this operation.", "Read the node's status; the detail names what stands in the way.";
    WriterNotNamed, "writer-not-named", Conflict, 409, "The control record does not name this node as the writer of this epoch.", "Read the control record; only the node it names may act as primary.";
    ControlUnavailable, "control-unavailable", Unavailable, 503, "The control plane cannot be reached, and the last known record does not permit this.", "Restore etcd and repeat the request.";
    StepFailed, "step-failed", Internal, 500, "A database tool or statement of the operation failed.", "The detail names the step; correct the cause and repeat the request.";
    StepTimeout, "step-timeout", Unavailable, 504, "The operation did not reach its postcondition in time; it may be repeated.", "Read the node's status and repeat the request.";
    Database, "database", Unavailable, 503, "The database is not available; nothing was executed.", "Repeat the request with the same key after Retry-After.";
    Internal, "internal", Internal, 500, "An internal fault.", "Give the request's trace id to the operator of this system.";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_end_their_sentences() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.title().ends_with('.') && code.remedy().ends_with('.'), "{code}");
            assert!((400..600).contains(&code.status()), "{code}");
        }
    }
}
