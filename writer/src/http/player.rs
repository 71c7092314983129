//! Players' requests: by session token, from the operator's browser origins, each bet under its own key.

use super::{Found, Incoming, Operation, cors};
use crate::answer::{Failure, Handled};
use crate::bet;
use crate::engine::Engine;
use crate::ledger::requests::RequestId;
use crate::order::Order;
use crate::play;
use crate::player::Player;
use crate::service::Service;
use crate::session;
use crate::stream::{self, Watch};
use crate::wallet::balance;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use domicile_core::error::Code;
use domicile_core::ids::{GameCode, RequestKey, RoundId};
use domicile_core::money::Currency;
use http::header;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The header with a bet's key.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub(super) async fn serve(
    service: &Service,
    engine: Found,
    operation: Operation,
    incoming: Incoming,
) -> Response {
    let caller = match Caller::verify(service, engine, &incoming).await {
        Ok(caller) => caller,
        Err(failure) => return failure.into_response(),
    };
    let answer = if operation == Operation::WatchRounds {
        caller.watch(service, &incoming).await.unwrap_or_else(IntoResponse::into_response)
    } else {
        match caller.handle(operation, &incoming).await {
            Ok(acknowledged) => acknowledged.into_response(),
            Err(failure) => failure.into_response(),
        }
    };
    if caller.cross_origin {
        cors::expose(answer, incoming.header(header::ORIGIN.as_str()))
    } else {
        answer
    }
}

struct Caller {
    engine: std::sync::Arc<Engine>,
    player: Player,
    expires_at_unix_s: u64,
    cross_origin: bool,
}

impl Caller {
    async fn verify(
        service: &Service,
        engine: Found,
        incoming: &Incoming,
    ) -> Result<Self, Failure> {
        let token = service.tokens.verify_request(&incoming.head.headers)?;
        let player = Player::from_token(&token)?;
        let engine = engine?;
        let cross_origin = incoming.head.headers.contains_key(header::ORIGIN);
        if cross_origin {
            let operator = engine.directory.operator(&player.session.operator).await?;
            let origin = incoming.header(header::ORIGIN.as_str());
            let allowed = |origin| operator.allowed_origins.iter().any(|known| known == origin);
            if !origin.is_some_and(allowed) {
                return Err(Failure::new(Code::OriginForbidden));
            }
        }
        let expires_at_unix_s = token.expires_at_unix_s;
        Ok(Self { engine, player, expires_at_unix_s, cross_origin })
    }

    /// What a stream shows is told event by event, each after a commit of its own.
    async fn watch(&self, service: &Service, incoming: &Incoming) -> Result<Response, Failure> {
        let player = &self.player;
        let wanted: StreamQuery = read_query(incoming)?;
        let of = &player.session;
        if wanted.game.is_some_and(|game| game != of.game)
            || wanted.currency.is_some_and(|currency| currency != of.currency)
        {
            let detail = "the session is for another game or currency";
            return Err(Failure::with(Code::MalformedRequest, detail));
        }
        let after = incoming.header(stream::LAST_EVENT_ID).map(str::parse).transpose();
        let after = after.map_err(|_not_a_number| {
            Failure::with(Code::MalformedRequest, "last-event-id is the id of an event")
        })?;
        let watch = Watch { player, expires_at_unix_s: self.expires_at_unix_s, after };
        stream::watch(&service.streams, &self.engine, watch).await
    }

    async fn handle(&self, operation: Operation, incoming: &Incoming) -> Handled {
        let (engine, player) = (&*self.engine, &self.player);
        match operation {
            Operation::ViewSession => session::view(engine, player).await,
            Operation::Balance => balance::ask(engine, player).await,
            Operation::Play => {
                let request = request_id(player, incoming)?;
                play::play(engine, player, request, Order::parse(&incoming.body)?).await
            }
            Operation::Bet => {
                let round = incoming.id(RoundId::parse, Code::RoundNotFound)?;
                let request = request_id(player, incoming)?;
                bet::bet(engine, player, request, round, Order::parse(&incoming.body)?).await
            }
            _ => Err(Failure::new(Code::NotFound)),
        }
    }
}

/// What the query of a stream may say: the same as the token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamQuery {
    game: Option<GameCode>,
    currency: Option<Currency>,
}

fn read_query<T: DeserializeOwned>(incoming: &Incoming) -> Result<T, Failure> {
    let query = Query::<T>::try_from_uri(&incoming.head.uri);
    query.map(|Query(query)| query).map_err(|_unreadable| {
        Failure::with(Code::MalformedRequest, "the query may have game and currency")
    })
}

fn request_id(player: &Player, incoming: &Incoming) -> Result<RequestId, Failure> {
    let key = incoming.header(IDEMPOTENCY_KEY).and_then(|key| RequestKey::parse(key).ok());
    let key = key.ok_or(Failure::new(Code::IdempotencyKeyMissing))?;
    let (method, path) = (incoming.head.method.as_str(), incoming.head.uri.path());
    Ok(RequestId::new(player.request_scope(), key.into(), method, path, &incoming.body))
}
