//! `domicile operator`, `session` and `token revoke`: administration through the writer, in the person's name.
//!
//! Deliberately absent: any check of roles or values. The writer decides, and says what is missing.

pub(crate) mod cli;

use crate::answer::{array, text, words};
use crate::credentials::{NewCredential, NewOperator, Writer};
use crate::layout::Layout;
use crate::moves::confirm;
use crate::term;
use anyhow::{Context, Result};
use cli::{
    CreateArgs, CredentialCommand, GameAct, GameCommand, GameSetArgs, OfGame, OperatorCommand,
    RevokeArgs, SessionCommand, UpdateArgs, Why,
};
use domicile_core::games;
use domicile_core::ids::OperatorId;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The person did not agree.
const CALLED_OFF: u8 = 3;
/// What a writer process has read it believes for a second at most; and what its clock and the way there may differ by.
const LAPSE: Duration = Duration::from_millis(1_100);
/// The most requests that one revocation of all tokens becomes.
const REVOKE_REQUESTS: usize = 100;

/// `domicile operator`.
pub(crate) async fn operator(layout: &Layout, command: OperatorCommand) -> Result<u8> {
    match command {
        OperatorCommand::Create(args) => create(layout, args).await?,
        OperatorCommand::Show { id, json } => {
            let shown: Value = get(layout, &path(&id)).await?;
            if json { term::json(&shown)? } else { show(&shown)? }
        }
        OperatorCommand::List { json } => list(layout, json).await?,
        OperatorCommand::Update(args) => return update(layout, args).await,
        OperatorCommand::Disable { id, why } => return disable(layout, &id, &why).await,
        OperatorCommand::Game(command) => return game(layout, command).await,
        OperatorCommand::Credential(command) => return credential(layout, command).await,
    }
    Ok(0)
}

/// `domicile session`.
pub(crate) async fn session(layout: &Layout, command: SessionCommand) -> Result<u8> {
    let SessionCommand::Revoke { session, why } = command;
    let args = RevokeArgs { session: Some(session), player: None, operator: None, why };
    revoke(layout, &args).await
}

/// `domicile token revoke`.
pub(crate) async fn revoke(layout: &Layout, args: &RevokeArgs) -> Result<u8> {
    let whom = match (&args.session, &args.operator, &args.player) {
        (Some(session), _, _) => format!("session {session} ends"),
        (None, Some(operator), Some(player)) => {
            format!("every session of player {player} of {operator} ends")
        }
        (None, operator, _) => {
            let operator = operator.as_ref().map_or_else(String::new, ToString::to_string);
            format!("every session of {operator} ends")
        }
    };
    if !agreed(layout, &args.why, &whom)? {
        return Ok(CALLED_OFF);
    }
    let count = revoke_all(layout, args).await?;
    let answer = json!({ "sessions_revoked": count });
    told(&args.why, &answer, format!("{count} sessions revoked"))
}

async fn revoke_all(layout: &Layout, args: &RevokeArgs) -> Result<u64> {
    let mut body = Map::new();
    body.insert("reason".into(), args.why.reason.as_str().into());
    let mut put = |name: &str, value: Option<String>| {
        body.extend(value.map(|value| (name.to_owned(), value.into())));
    };
    put("session", args.session.as_ref().map(ToString::to_string));
    put("operator", args.operator.as_ref().map(ToString::to_string));
    put("player", args.player.as_ref().map(ToString::to_string));
    let writer = Writer::current(layout).await?;
    let mut count = 0;
    for _ in 0..REVOKE_REQUESTS {
        let answer: Value = writer.post("/internal/v1/sessions/revoke", &body).await?;
        count += answer.get("sessions_revoked").and_then(Value::as_u64).unwrap_or(0);
        if answer.get("complete").and_then(Value::as_bool).unwrap_or(true) {
            break;
        }
    }
    Ok(count)
}

async fn create(layout: &Layout, args: CreateArgs) -> Result<()> {
    let all = || games::ALL.iter().map(|game| game.code().to_owned()).collect();
    let id = args.id.to_string();
    let wanted = NewOperator {
        name: args.name.unwrap_or_else(|| id.clone()),
        id,
        jurisdictions: args.jurisdictions,
        games: if args.games.is_empty() { all() } else { args.games },
        allowed_origins: args.origins,
        launch_base_url: args.launch_base_url,
        reason: args.reason,
    };
    let writer = Writer::current(layout).await?;
    issued(&writer.post("/internal/v1/operators", &wanted).await?, args.json)
}

async fn list(layout: &Layout, json: bool) -> Result<()> {
    let listed: Value = get(layout, "/internal/v1/operators").await?;
    if json {
        return term::json(&listed);
    }
    for operator in array(&listed, "operators") {
        let enabled = operator.get("enabled").and_then(Value::as_bool).unwrap_or(false);
        let state = if enabled { "enabled" } else { "disabled" };
        let jurisdictions = words(operator, "jurisdictions", " ");
        term::say(format_args!("{:32}  {state:8}  {jurisdictions}", text(operator, "id")))?;
    }
    Ok(())
}

fn show(shown: &Value) -> Result<()> {
    let operator = shown.get("operator").unwrap_or(&Value::Null);
    for name in ["id", "name", "enabled", "launch_base_url"] {
        term::say(format_args!("{name:16} {}", text(operator, name)))?;
    }
    for name in ["jurisdictions", "games", "allowed_origins"] {
        term::say(format_args!("{name:16} {}", words(operator, name, " ")))?;
    }
    credentials(shown)
}

fn credentials(shown: &Value) -> Result<()> {
    for one in array(shown, "credentials") {
        let state = match (one.get("revoked_at_unix_s"), one.get("not_after_unix_s")) {
            (Some(Value::Number(at)), _) => format!("revoked at {at}"),
            (_, Some(Value::Number(end))) => format!("good until {end}"),
            _ => "good".to_owned(),
        };
        let since = text(one, "not_before_unix_s");
        term::say(format_args!("{}  since {since}  {state}", text(one, "key_id")))?;
    }
    Ok(())
}

async fn update(layout: &Layout, args: UpdateArgs) -> Result<u8> {
    let lists = [
        ("jurisdictions", args.jurisdictions),
        ("games", args.games),
        ("allowed_origins", args.origins),
    ];
    let mut body = Map::new();
    body.extend(
        lists
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| (name.to_owned(), list.into())),
    );
    body.extend(args.name.map(|name| ("name".to_owned(), name.into())));
    body.extend(args.launch_base_url.map(|url| ("launch_base_url".to_owned(), url.into())));
    body.extend(args.enabled.map(|enabled| ("enabled".to_owned(), enabled.into())));
    body.insert("reason".to_owned(), args.why.reason.as_str().into());
    let answer = post(layout, &path(&args.id), &Value::Object(body)).await?;
    told(&args.why, &answer, format!("{} is changed", args.id))
}

async fn disable(layout: &Layout, id: &OperatorId, why: &Why) -> Result<u8> {
    let what = format!("requests of {id} are refused and every session of it ends");
    if !agreed(layout, why, &what)? {
        return Ok(CALLED_OFF);
    }
    let body = json!({ "enabled": false, "reason": why.reason });
    let answer = post(layout, &path(id), &body).await?;
    let reason = why.reason.clone();
    let quiet = Why { reason, json: why.json, yes: true };
    let whose = RevokeArgs { session: None, player: None, operator: Some(id.clone()), why: quiet };
    let count = revoke_all(layout, &whose).await?;
    let answer = json!({ "operator": answer, "sessions_revoked": count });
    told(why, &answer, format!("{id} is disabled; {count} sessions revoked"))
}

async fn game(layout: &Layout, command: GameCommand) -> Result<u8> {
    match command {
        GameCommand::Set(args) => set(layout, &args).await,
        GameCommand::Show { of, json } => {
            let shown: Value = get(layout, &game_path(&of)).await?;
            if json {
                term::json(&shown)?;
            } else {
                terms(&shown)?;
            }
            Ok(0)
        }
        GameCommand::Suspend(GameAct { of, why }) => {
            let what = format!(
                "{} of {} stops; rounds in flight are voided and their stakes go back",
                of.game, of.operator
            );
            if !agreed(layout, &why, &what)? {
                return Ok(CALLED_OFF);
            }
            act(layout, &of, &why, "suspend").await
        }
        GameCommand::Resume(GameAct { of, why }) => act(layout, &of, &why, "resume").await,
    }
}

async fn act(layout: &Layout, of: &OfGame, why: &Why, verb: &str) -> Result<u8> {
    let path = format!("{}/{verb}", game_path(of));
    let answer = post(layout, &path, &json!({ "reason": why.reason })).await?;
    let (voided, left) = (text(&answer, "rounds_voided"), text(&answer, "rounds_left"));
    told(why, &answer, format!("{verb}: {voided} rounds voided now, {left} still to be voided"))
}

async fn set(layout: &Layout, args: &GameSetArgs) -> Result<u8> {
    let mut body = Map::new();
    body.insert("reason".to_owned(), args.why.reason.as_str().into());
    body.extend(args.enabled.map(|enabled| ("enabled".to_owned(), enabled.into())));
    body.extend(args.commission_ppm.map(|ppm| ("commission_ppm".to_owned(), ppm.into())));
    let own = |text: &str| if text == "own" { Value::Null } else { text.into() };
    body.extend(args.params.as_deref().map(|text| ("params".to_owned(), own(text))));
    let limits = [
        ("stake_min_micro", &args.stake_min),
        ("stake_max_micro", &args.stake_max),
        ("payout_max_micro", &args.payout_max),
    ];
    for (name, limit) in limits {
        let Some(limit) = limit.as_deref() else { continue };
        let value = match limit {
            "none" => Value::Null,
            micro => {
                let micro: u64 = micro.parse().with_context(|| {
                    format!("{micro} is neither a number of micro-units nor `none`")
                })?;
                micro.into()
            }
        };
        body.insert(name.to_owned(), value);
    }
    let answer = post(layout, &game_path(&args.of), &Value::Object(body)).await?;
    if args.why.json {
        term::json(&answer)?;
    } else {
        terms(&answer)?;
    }
    Ok(0)
}

fn terms(shown: &Value) -> Result<()> {
    let terms = shown.get("terms").unwrap_or(&Value::Null);
    let names = [
        "revision",
        "enabled",
        "suspended",
        "params",
        "stake_min_micro",
        "stake_max_micro",
        "payout_max_micro",
    ];
    for name in names {
        term::say(format_args!("{name:16}  {}", text(terms, name)))?;
    }
    for one in array(shown, "revisions") {
        let revision = one.pointer("/terms/revision").map_or_else(String::new, Value::to_string);
        let (at, actor, reason) = (text(one, "at_unix_s"), text(one, "actor"), text(one, "reason"));
        term::say(format_args!("{revision:>4}  {at}  {actor}  {reason}"))?;
    }
    Ok(())
}

async fn credential(layout: &Layout, command: CredentialCommand) -> Result<u8> {
    match command {
        CredentialCommand::Create { operator, reason, json } => {
            let path = format!("{}/credentials", path(&operator));
            let writer = Writer::current(layout).await?;
            issued(&writer.post(&path, &json!({ "reason": reason })).await?, json)?;
        }
        CredentialCommand::Rotate { operator, overlap_s, why } => {
            let path = format!("{}/credentials/rotate", path(&operator));
            let body = json!({ "overlap_s": overlap_s, "reason": why.reason });
            let writer = Writer::current(layout).await?;
            issued(&writer.post(&path, &body).await?, why.json)?;
        }
        CredentialCommand::Revoke { key_id, why } => {
            let what = format!("credential {key_id} is refused from now on");
            if !agreed(layout, &why, &what)? {
                return Ok(CALLED_OFF);
            }
            let path = format!("/internal/v1/credentials/{key_id}/revoke");
            let answer = post(layout, &path, &json!({ "reason": why.reason })).await?;
            return told(&why, &answer, format!("revoked {key_id}"));
        }
        CredentialCommand::List { operator, json } => {
            let shown: Value = get(layout, &path(&operator)).await?;
            let found = json!({ "credentials": shown.get("credentials") });
            if json { term::json(&found)? } else { credentials(&found)? }
        }
    }
    Ok(0)
}

fn issued(credential: &NewCredential, json: bool) -> Result<()> {
    if json {
        return term::json(credential);
    }
    term::say(format_args!("operator  {}", credential.operator))?;
    term::say(format_args!("key id    {}", credential.key_id))?;
    term::say(format_args!("secret    {}   (base64; shown this once)", credential.secret_b64))
}

fn told(why: &Why, answer: &Value, line: String) -> Result<u8> {
    if why.json {
        term::json(answer)?;
    } else {
        term::say(line)?;
    }
    Ok(0)
}

/// Whether the person agrees to what cannot be taken back.
fn agreed(layout: &Layout, why: &Why, what: &str) -> Result<bool> {
    Ok(why.yes || confirm::typed(what, layout.topology()?.cluster.as_str())?)
}

async fn get(layout: &Layout, path: &str) -> Result<Value> {
    Writer::current(layout).await?.get(path).await
}

/// Makes a change, and comes back once no writer process believes what was before.
async fn post(layout: &Layout, path: &str, body: &Value) -> Result<Value> {
    let answer = Writer::current(layout).await?.post(path, body).await?;
    tokio::time::sleep(LAPSE).await;
    Ok(answer)
}

fn path(operator: &OperatorId) -> String {
    format!("/internal/v1/operators/{operator}")
}

fn game_path(of: &OfGame) -> String {
    format!("{}/games/{}", path(&of.operator), of.game)
}
