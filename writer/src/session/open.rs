//! Opening a session: its row, its first seed chain, its token and launch address.

use crate::answer::{Failure, Reply};
use crate::chain::{self, ChainOrder};
use crate::change::{Applied, Change, Halt};
use crate::engine::Engine;
use crate::ledger::operators::Operator;
use crate::ledger::{chains, sessions};
use crate::limits;
use crate::pending;
use crate::session::captcha::CaptchaBody;
use crate::session::limits::LimitsBody;
use crate::terms::GameTerms;
use domicile_core::claims::{Claims, PlayerSession};
use domicile_core::error::Code;
use domicile_core::games;
use domicile_core::ids::{GameCode, Jurisdiction, PlayerRef, RequestKey, SessionId};
use domicile_core::limits::TOKEN_MAX_LIFE_S;
use domicile_core::money::Currency;
use domicile_postgres::Tx;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The request's body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenSessionBody {
    /// Makes the request repeatable.
    pub request_id: Option<RequestKey>,
    /// The operator's pseudonym for the player.
    pub player: PlayerRef,
    /// The game.
    pub game: GameCode,
    /// The currency of all its bets.
    pub currency: Currency,
    /// The player's jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// The session's life in seconds.
    pub ttl_s: Option<u64>,
    /// Limits of play.
    #[serde(default)]
    pub limits: LimitsBody,
    /// The player's answer, where the operator wants a captcha.
    pub captcha: Option<CaptchaBody>,
}

/// An operator opens a session for a player.
#[derive(Debug)]
pub struct OpenSession {
    /// Who asks.
    pub operator: Arc<Operator>,
    /// For what.
    pub body: OpenSessionBody,
}

#[derive(Serialize)]
struct SessionAnswer<'a> {
    session: SessionId,
    token: &'a str,
    launch_url: String,
    expires_at_unix_s: u64,
    jurisdiction: &'a Jurisdiction,
}

impl OpenSession {
    /// Refuses what the operator may not have, before anything is looked up.
    pub fn check(&self, engine: &Engine) -> Result<(), Failure> {
        let OpenSessionBody { jurisdiction, game, ttl_s, .. } = &self.body;
        engine.check_writable(jurisdiction)?;
        if !self.operator.jurisdictions.contains(jurisdiction) {
            let detail = "the operator is not registered for this jurisdiction";
            return Err(Failure::with(Code::OperatorForbidden, detail));
        }
        games::game(game).ok_or(Failure::new(Code::GameUnknown))?;
        if !self.operator.games.contains(game) {
            let detail = "the operator does not offer this game";
            return Err(Failure::with(Code::OperatorForbidden, detail));
        }
        let permitted = limits::SESSION_MIN_TTL_S..=TOKEN_MAX_LIFE_S;
        if ttl_s.is_some_and(|ttl| !permitted.contains(&ttl)) {
            return Err(Failure::with(Code::MalformedBody, "ttl_s must be within 60..=3600"));
        }
        self.body.limits.check()
    }

    fn launch_url(&self, token: &str) -> String {
        let base = &self.operator.launch_base_url;
        // In the fragment, so that the token reaches no server log on the way.
        format!("{base}#game={}&token={token}", self.body.game)
    }
}

impl Change for OpenSession {
    async fn apply(&self, engine: &Engine, tx: &Tx<'_>) -> Result<Applied, Halt> {
        let body = &self.body;
        let session = PlayerSession {
            operator: self.operator.id.clone(),
            player: body.player.clone(),
            session: SessionId(engine.ids.uuid_v7()),
            game: body.game.clone(),
            currency: body.currency.clone(),
        };
        let terms = GameTerms::read(tx, &self.operator.id, &body.game).await?;
        terms.check_offered().map_err(Halt::Refused)?;
        let (chain, commit) = chain::create(
            ChainOrder {
                jurisdiction: body.jurisdiction.clone(),
                session: session.session,
                ordinal: 0,
                game: body.game.clone(),
                params: terms.params,
            },
            &engine.keys,
            &engine.ids,
        )?;
        let now = engine.clock.now_unix_s();
        let life_s = body.ttl_s.unwrap_or(limits::SESSION_DEFAULT_TTL_S);
        let expires_at_unix_s = now.saturating_add(life_s);
        let claims = Claims::player(&engine.cluster, &session, &body.jurisdiction, now, life_s);
        let token = engine.keys.tokens.sign(&claims);
        let token = token.map_err(|error| Failure::because(Code::Internal, &error))?;

        let epoch = engine.epoch;
        let times = (expires_at_unix_s, body.limits.from(now));
        sessions::insert(tx, epoch, &body.jurisdiction, &session, times).await?;
        chains::insert(tx, epoch, std::iter::once(&chain)).await?;
        pending::enqueue(tx, epoch, &[commit]).await?;
        let answer = SessionAnswer {
            session: session.session,
            launch_url: self.launch_url(&token),
            token: &token,
            expires_at_unix_s,
            jurisdiction: &body.jurisdiction,
        };
        let reply = Reply::json(201, &answer)?;
        let leaves_for = vec![body.jurisdiction.clone()];
        Ok(Applied { leaves_for, ..Applied::quiet(reply) })
    }
}
