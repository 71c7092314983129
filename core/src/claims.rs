//! The claims of a session token: what they must be before anyone acts on them.
//!
//! A *player* token belongs to one session of one operator in one jurisdiction; an *inspector* token
//! reads one jurisdiction and has no session. Claims arrive as raw texts and leave as parsed values:
//! an unknown, missing or superfluous claim of a scope is refused, never defaulted.
//! Deliberately absent: the signature and the token's form. The service checks those first.

use serde::{Deserialize, Serialize};

use crate::{
    error::Code,
    ids::{ClusterId, GameCode, Jurisdiction, OperatorId, PlayerRef, SessionId},
    limits::TOKEN_MAX_LIFE_S,
    money::Currency,
};

/// The audience of every session token.
pub const AUDIENCE: &str = "domicile";

/// What kind of bearer this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// A player's session.
    Player,
    /// A regulator of one jurisdiction; reads only.
    Inspector,
}

/// The claim set as it stands in the token. Contains personal data: never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer: the cluster.
    pub iss: String,
    /// Audience: [`AUDIENCE`].
    pub aud: String,
    /// Subject: the operator's pseudonym for the player, or the inspector's name.
    pub sub: String,
    /// The operator (player only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The session (player only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The game (player only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub game: Option<String>,
    /// The currency (player only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The jurisdiction.
    pub jurisdiction: String,
    /// Player or inspector.
    pub scope: Scope,
    /// Issued at, unix seconds.
    pub iat: u64,
    /// Not before, unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Expiry, unix seconds.
    pub exp: u64,
}

/// Who holds the token.
#[derive(Clone, PartialEq, Eq)]
pub enum Bearer {
    /// A player in a session.
    Player(PlayerSession),
    /// A regulator.
    Inspector(PlayerRef),
}

/// A player's session as the token states it.
#[derive(Clone, PartialEq, Eq)]
pub struct PlayerSession {
    /// Whose player it is.
    pub operator: OperatorId,
    /// The operator's pseudonym for the player.
    pub player: PlayerRef,
    /// The session.
    pub session: SessionId,
    /// The game the session is for.
    pub game: GameCode,
    /// The currency of its bets.
    pub currency: Currency,
}

/// Claims that passed every check at the time given.
#[derive(Clone, PartialEq, Eq)]
pub struct Validated {
    /// The jurisdiction of everything this token may touch.
    pub jurisdiction: Jurisdiction,
    /// Who holds it.
    pub bearer: Bearer,
    /// Not valid before this time, unix seconds (the later of `iat` and `nbf`).
    pub valid_from_unix_s: u64,
    /// Not valid from this time on, unix seconds.
    pub expires_at_unix_s: u64,
}

impl Claims {
    /// The claims of a player's token.
    pub fn player(
        issuer: &ClusterId,
        session: &PlayerSession,
        jurisdiction: &Jurisdiction,
        issued_at_unix_s: u64,
        life_s: u64,
    ) -> Self {
        Self {
            operator: Some(session.operator.to_string()),
            session: Some(session.session.to_string()),
            game: Some(session.game.to_string()),
            currency: Some(session.currency.to_string()),
            scope: Scope::Player,
            ..Self::inspector(issuer, &session.player, jurisdiction, issued_at_unix_s, life_s)
        }
    }

    /// The claims of an inspector's token.
    pub fn inspector(
        issuer: &ClusterId,
        name: &PlayerRef,
        jurisdiction: &Jurisdiction,
        issued_at_unix_s: u64,
        life_s: u64,
    ) -> Self {
        Self {
            iss: issuer.to_string(),
            aud: AUDIENCE.to_owned(),
            sub: name.to_string(),
            operator: None,
            session: None,
            game: None,
            currency: None,
            jurisdiction: jurisdiction.to_string(),
            scope: Scope::Inspector,
            iat: issued_at_unix_s,
            nbf: None,
            exp: issued_at_unix_s.saturating_add(life_s),
        }
    }

    /// Checks everything and parses it.
    pub fn validate(
        &self,
        now_unix_s: u64,
        issuer: &ClusterId,
        leeway_s: u64,
    ) -> Result<Validated, Code> {
        if self.iss != issuer.as_str() || self.aud != AUDIENCE {
            return Err(Code::TokenIssuer);
        }
        let life_s = self.exp.checked_sub(self.iat).ok_or(Code::TokenClaims)?;
        if life_s == 0 || life_s > TOKEN_MAX_LIFE_S {
            return Err(Code::TokenClaims);
        }
        let validated = Validated {
            jurisdiction: Jurisdiction::parse(&self.jurisdiction).ok().ok_or(Code::TokenClaims)?,
            bearer: self.bearer().ok_or(Code::TokenClaims)?,
            valid_from_unix_s: self.iat.max(self.nbf.unwrap_or(0)),
            expires_at_unix_s: self.exp,
        };
        validated.check_time(now_unix_s, leeway_s)?;
        Ok(validated)
    }

    fn bearer(&self) -> Option<Bearer> {
        let player = PlayerRef::parse(&self.sub).ok()?;
        match (self.scope, &self.operator, &self.session, &self.game, &self.currency) {
            (Scope::Player, Some(operator), Some(session), Some(game), Some(currency)) => {
                Some(Bearer::Player(PlayerSession {
                    operator: OperatorId::parse(operator).ok()?,
                    player,
                    session: SessionId::parse(session).ok()?,
                    game: GameCode::parse(game).ok()?,
                    currency: Currency::parse(currency).ok()?,
                }))
            }
            (Scope::Inspector, None, None, None, None) => Some(Bearer::Inspector(player)),
            _ => None,
        }
    }
}

impl Validated {
    /// Whether the token is valid at this time; asked again at every use of a cached token.
    pub fn check_time(&self, now_unix_s: u64, leeway_s: u64) -> Result<(), Code> {
        if now_unix_s >= self.expires_at_unix_s.saturating_add(leeway_s) {
            return Err(Code::TokenExpired);
        }
        if now_unix_s.saturating_add(leeway_s) < self.valid_from_unix_s {
            return Err(Code::TokenNotYetValid);
        }
        Ok(())
    }

    /// The player's session, or the refusal for an inspector.
    pub fn player(&self) -> Result<&PlayerSession, Code> {
        match &self.bearer {
            Bearer::Player(session) => Ok(session),
            Bearer::Inspector(_) => Err(Code::ScopeInsufficient),
        }
    }
}

/// Personal data stays out of logs.
impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PlayerSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlayerSession").field("session", &self.session).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Validated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Validated")
            .field("jurisdiction", &self.jurisdiction)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn issuer() -> ClusterId {
        ClusterId::parse("demo").unwrap()
    }

    fn claims() -> Claims {
        let session = PlayerSession {
            operator: OperatorId::parse("acme").unwrap(),
            player: PlayerRef::parse("p-1").unwrap(),
            session: SessionId::parse("0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a01").unwrap(),
            game: GameCode::parse("wheel").unwrap(),
            currency: Currency::parse("EUR").unwrap(),
        };
        Claims::player(&issuer(), &session, &Jurisdiction::parse("MT").unwrap(), NOW, 3600)
    }

    fn inspector() -> Claims {
        let name = PlayerRef::parse("mga").unwrap();
        Claims::inspector(&issuer(), &name, &Jurisdiction::parse("MT").unwrap(), NOW, 60)
    }

    #[test]
    fn both_scopes_validate() {
        let player = claims().validate(NOW, &issuer(), 5).unwrap();
        assert_eq!(player.player().unwrap().operator.as_str(), "acme");
        assert_eq!(player.jurisdiction.as_str(), "MT");
        let inspector = inspector().validate(NOW, &issuer(), 5).unwrap();
        assert_eq!(inspector.player().unwrap_err(), Code::ScopeInsufficient);
    }

    #[test]
    fn every_refusal_has_its_code() {
        let some = |text: &str| Some(text.to_owned());
        let cases: Vec<(&str, Claims, Code)> = vec![
            ("issuer", Claims { iss: "other".into(), ..claims() }, Code::TokenIssuer),
            ("audience", Claims { aud: "other".into(), ..claims() }, Code::TokenIssuer),
            ("too long a life", Claims { exp: NOW + 3601, ..claims() }, Code::TokenClaims),
            ("no life", Claims { exp: NOW, ..claims() }, Code::TokenClaims),
            ("ends before it starts", Claims { exp: NOW - 1, ..claims() }, Code::TokenClaims),
            ("jurisdiction", Claims { jurisdiction: "mt".into(), ..claims() }, Code::TokenClaims),
            ("subject", Claims { sub: String::new(), ..claims() }, Code::TokenClaims),
            ("no operator", Claims { operator: None, ..claims() }, Code::TokenClaims),
            ("operator", Claims { operator: some("A B"), ..claims() }, Code::TokenClaims),
            ("no session", Claims { session: None, ..claims() }, Code::TokenClaims),
            ("session", Claims { session: some("x"), ..claims() }, Code::TokenClaims),
            ("no game", Claims { game: None, ..claims() }, Code::TokenClaims),
            ("game", Claims { game: some(""), ..claims() }, Code::TokenClaims),
            ("no currency", Claims { currency: None, ..claims() }, Code::TokenClaims),
            ("currency", Claims { currency: some("eur"), ..claims() }, Code::TokenClaims),
            (
                "inspector of a session",
                Claims { scope: Scope::Inspector, ..claims() },
                Code::TokenClaims,
            ),
            (
                "player without session",
                Claims { scope: Scope::Player, ..inspector() },
                Code::TokenClaims,
            ),
            (
                "inspector with game",
                Claims { game: some("wheel"), ..inspector() },
                Code::TokenClaims,
            ),
            ("expired", Claims { iat: NOW - 10, exp: NOW - 5, ..claims() }, Code::TokenExpired),
            (
                "issued ahead",
                Claims { iat: NOW + 6, exp: NOW + 60, ..claims() },
                Code::TokenNotYetValid,
            ),
            ("not before", Claims { nbf: Some(NOW + 6), ..claims() }, Code::TokenNotYetValid),
        ];
        for (name, claims, code) in cases {
            assert_eq!(claims.validate(NOW, &issuer(), 5), Err(code), "{name}");
        }
    }

    #[test]
    fn the_leeway_covers_small_clock_differences() {
        for ok in [
            Claims { iat: NOW - 10, exp: NOW - 4, ..claims() },
            Claims { iat: NOW + 5, exp: NOW + 60, ..claims() },
            Claims { nbf: Some(NOW + 5), ..claims() },
        ] {
            assert!(ok.validate(NOW, &issuer(), 5).is_ok());
        }
    }

    #[test]
    fn an_inspectors_token_has_no_session_claims() {
        let json = serde_json::to_value(inspector()).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["aud", "exp", "iat", "iss", "jurisdiction", "scope", "sub"]);
        assert!(serde_json::from_str::<Claims>(r#"{"scope":"root"}"#).is_err());
    }

    #[test]
    fn debug_output_names_no_player() {
        let validated = claims().validate(NOW, &issuer(), 5).unwrap();
        assert!(!format!("{:?} {validated:?}", claims()).contains("p-1"));
    }

    proptest! {
        #[test]
        fn validation_never_panics_and_never_outlives_the_limit(
            iat: u64, nbf in prop::option::of(any::<u64>()), exp: u64, now: u64, text in "\\PC{0,20}",
        ) {
            let odd = Claims { iat, nbf, exp, ..claims() };
            if odd.validate(now, &issuer(), 5).is_ok() {
                prop_assert!(exp - iat <= TOKEN_MAX_LIFE_S && now < exp.saturating_add(5));
            }
            let known = Jurisdiction::parse(&text).is_ok();
            let odd = Claims { sub: text.clone(), jurisdiction: text, ..claims() };
            prop_assert_eq!(odd.validate(NOW, &issuer(), 5).is_ok(), known);
        }

        #[test]
        fn arbitrary_json_is_read_or_refused(
            bytes: Vec<u8>, field in "iss|sub|exp|scope|game|more", value in "[0-9]{1,21}|\"\\PC{0,9}\"|null",
        ) {
            prop_assert!(serde_json::from_slice::<Claims>(&bytes).is_err());
            let json = serde_json::to_string(&claims()).unwrap();
            let json = json.replacen('{', &format!("{{\"{field}\":{value},"), 1);
            if let Ok(read) = serde_json::from_str::<Claims>(&json) {
                let again = serde_json::to_string(&read).unwrap();
                prop_assert!(serde_json::from_str::<Claims>(&again).unwrap() == read);
            }
        }
    }
}
