//! A player: opens a session, plays, bets in a shared round, and checks the proof of each round offline.

use crate::files::{self, MODE_PUBLIC};
use crate::operator::Operator;
use crate::outside::{Answer, Outside, Refused, home_router, pinned};
use crate::secrets;
use crate::wait::{self, Look};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use domicile_core::bundle::{Bundle, Opening};
use domicile_core::error::Code;
use domicile_core::hex;
use domicile_core::ids::{BetId, Jurisdiction, RoundId};
use domicile_core::money::Micro;
use domicile_core::verify::{Verdict, verify_bundle};
use domicile_topology::Topology;
use http::{Request, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The stake of every bet, micro-units.
const STAKE_MICRO: u64 = 2_000_000;
/// How long the commitment of a new round may take to be covered by a published checkpoint.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(10);
/// The currency of every bet.
const CURRENCY: &str = "EUR";
/// The game of the demo: two sides, so that both outcomes are seen.
const GAME: &str = "hilo-dice";

/// A player with a session.
pub(super) struct Player {
    /// Where the player is.
    pub(super) jurisdiction: Jurisdiction,
    outside: Outside,
    base: String,
    token: String,
}

/// A round that was played, as the player was told.
pub(super) struct Played {
    /// `play` or `round`.
    pub(super) kind: &'static str,
    /// The round.
    pub(super) round: RoundId,
    bet: BetId,
    outcome: String,
    payout_micro: Option<Micro>,
}

/// A round whose proof was checked.
pub(super) struct Proven {
    /// The jurisdiction whose log it is in.
    pub(super) jurisdiction: Jurisdiction,
    /// `play` or `round`.
    pub(super) kind: &'static str,
    /// The round.
    pub(super) round: RoundId,
    /// What came out.
    pub(super) outcome: String,
    /// Stake and payout, micro-units.
    pub(super) stake_micro: u64,
    /// What was paid, micro-units.
    pub(super) payout_micro: Micro,
    /// The reader that served the proof, in its own words.
    pub(super) reader: String,
    /// The size of the log under the checkpoint.
    pub(super) checkpoint_size: u64,
}

#[derive(Deserialize)]
struct Session {
    token: String,
}

#[derive(Deserialize)]
struct SessionState {
    commitment: String,
    checkpoint_size: u64,
}

#[derive(Deserialize)]
struct PlayAnswer {
    round: RoundId,
    bet: BetId,
    outcome: String,
    payout_micro: Micro,
}

#[derive(Deserialize)]
struct BetAnswer {
    bet: BetId,
}

#[derive(Deserialize)]
struct RoundOpened {
    round: RoundId,
    commitment: String,
}

#[derive(Deserialize)]
struct RoundSettled {
    outcome: String,
}

impl Player {
    /// The operator opens a session; the player goes through the router of a region that serves the jurisdiction.
    pub(super) async fn open(
        topology: &Topology,
        outside: &Outside,
        operator: &Operator,
        jurisdiction: &Jurisdiction,
    ) -> Result<(String, Self)> {
        let router = home_router(topology, jurisdiction)?;
        let number: [u8; 4] = secrets::random()?;
        let player = format!("player-{}", hex::encode(&number));
        let body = json!({
            "request_id": format!("session-{player}"),
            "player": player,
            "game": GAME,
            "currency": CURRENCY,
            "jurisdiction": jurisdiction,
        });
        let session: Session = operator.post("/operator/v1/sessions", &body).await?;
        let remark = format!("through {}", router.node);
        let base = router.endpoint.to_string();
        Ok((
            remark,
            Self {
                jurisdiction: jurisdiction.clone(),
                outside: outside.clone(),
                base,
                token: session.token,
            },
        ))
    }

    async fn get(&self, path: &str) -> Result<Answer> {
        self.outside
            .send(|| {
                let request = Request::get(format!("{}{path}", self.base))
                    .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
                Ok(request.body(Bytes::new())?)
            })
            .await
    }

    async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.get(path).await?;
        serde_json::from_slice(&answer.body)
            .with_context(|| format!("the answer of GET {path} is not as documented"))
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, key: &str, body: &Value) -> Result<T> {
        let bytes = Bytes::from(serde_json::to_vec(body)?);
        let answer = self
            .outside
            .send(|| {
                let request = Request::post(format!("{}{path}", self.base))
                    .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
                    .header(header::CONTENT_TYPE, "application/json")
                    .header("Idempotency-Key", key);
                Ok(request.body(bytes.clone())?)
            })
            .await?;
        serde_json::from_slice(&answer.body)
            .with_context(|| format!("the answer of POST {path} is not as documented"))
    }

    /// The commitment to bet on and the checkpoint that covers it, as the writer shows them.
    async fn state(&self) -> Result<SessionState> {
        self.get_json("/v1/session").await
    }

    /// One instant play, high and low in turn.
    pub(super) async fn play(&self, number: u32) -> Result<(String, Played)> {
        let state = self.state().await?;
        let selection = if number % 2 == 1 { "high" } else { "low" };
        let body = bet(selection, &state.commitment, state.checkpoint_size)?;
        let key = format!("demo-{}-{number}", self.jurisdiction);
        let answer: PlayAnswer = self.post("/v1/plays", &key, &body).await?;
        let remark =
            format!("{selection}: {}, pays {}", answer.outcome, money(answer.payout_micro.get()));
        let played = Played {
            kind: "play",
            round: answer.round,
            bet: answer.bet,
            outcome: answer.outcome,
            payout_micro: Some(answer.payout_micro),
        };
        Ok((remark, played))
    }

    /// A bet in a shared round, on the newest checkpoint. One that was published before the round's commitment is
    /// refused; then the next is named.
    async fn bet(&self, round: &RoundOpened) -> Result<BetAnswer> {
        let path = format!("/v1/rounds/{}/bets", round.round);
        wait::until(
            format_args!("a checkpoint of {} with the round", self.jurisdiction),
            CHECKPOINT_WITHIN,
            || async {
                let attempt = async {
                    let state = self.state().await?;
                    let body = bet("high", &round.commitment, state.checkpoint_size)?;
                    self.post(&path, &format!("demo-round-{}", state.checkpoint_size), &body).await
                };
                match attempt.await {
                    Err(error) if Refused::is(&error, Code::CheckpointUnknown) => {
                        Look::NotYet(format!("{error:#}"))
                    }
                    decided => Look::Done(decided),
                }
            },
        )
        .await?
    }

    /// Fetches bundle and opening, writes them to files, checks them offline, compares them with what was told.
    pub(super) async fn prove(
        &self,
        topology: &Topology,
        folder: &Path,
        played: Played,
    ) -> Result<(String, Proven)> {
        let answer = self.get(&format!("/v1/rounds/{}/proof?wait_ms=2000", played.round)).await?;
        let reader = answer.headers.get("Domicile-Reader").and_then(|value| value.to_str().ok());
        let reader = reader.context("the proof does not say which reader it is from")?.to_owned();
        let opening = self.get(&format!("/v1/bets/{}/opening", played.bet)).await?;
        let name = format!("{}-{}", self.jurisdiction, played.round);
        files::write(&folder.join(format!("{name}.bundle.json")), &answer.body, MODE_PUBLIC)?;
        files::write(&folder.join(format!("{name}.opening.json")), &opening.body, MODE_PUBLIC)?;

        let bundle = Bundle::parse(&answer.body).context("the router did not serve a bundle")?;
        let opening =
            Opening::parse(&opening.body).context("the router did not serve an opening")?;
        let report = verify_bundle(&bundle, Some(&opening), &pinned(topology)?);
        if report.verdict != Verdict::Verified {
            bail!(
                "the proof of {} does not verify: {}",
                played.round,
                serde_json::to_string(&report)?
            );
        }
        if (&bundle.jurisdiction, bundle.round) != (&self.jurisdiction, played.round) {
            bail!("the bundle served for {} is of another round or jurisdiction", played.round);
        }
        let leaf = bundle.entries.last().context("the bundle is empty")?;
        let outcome = line(&leaf.leaf, "outcome ").context("the last leaf has no outcome")?;
        let payout_micro = opening.payout_micro.context("the opening has no payout")?;
        if outcome != played.outcome || played.payout_micro.is_some_and(|told| told != payout_micro)
        {
            bail!(
                "the player was told `{}`, the proof says `{outcome}` and a payout of {}",
                played.outcome,
                money(payout_micro.get())
            );
        }
        let checkpoint_size =
            checkpoint_size(&leaf.proof).context("the proof has no checkpoint")?;
        let remark = format!("verified offline; from {reader}, checkpoint {checkpoint_size}");
        let proven = Proven {
            jurisdiction: self.jurisdiction.clone(),
            kind: played.kind,
            round: played.round,
            outcome: outcome.to_owned(),
            stake_micro: STAKE_MICRO,
            payout_micro,
            reader,
            checkpoint_size,
        };
        Ok((remark, proven))
    }

    /// Fetches a proof again and compares it with the file of the first time.
    pub(super) async fn same_proof(&self, folder: &Path, round: RoundId) -> Result<()> {
        let answer = self.get(&format!("/v1/rounds/{round}/proof")).await?;
        let file = folder.join(format!("{}-{round}.bundle.json", self.jurisdiction));
        let first =
            std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        if answer.body == first {
            Ok(())
        } else {
            bail!("the bundle of {round} is not the one in {}", file.display())
        }
    }
}

/// One round in which every player bets; the operator opens, closes and settles it.
pub(super) async fn shared(
    operator: &Operator,
    players: &[Player],
) -> Result<(String, Vec<(Jurisdiction, Played)>)> {
    let jurisdictions: Vec<&Jurisdiction> =
        players.iter().map(|player| &player.jurisdiction).collect();
    let body = json!({
        "request_id": "demo-round",
        "game": GAME,
        "currency": CURRENCY,
        "jurisdictions": jurisdictions,
    });
    let opened: RoundOpened = operator.post("/operator/v1/rounds", &body).await?;
    let mut bets = Vec::new();
    for player in players {
        let answer = player.bet(&opened).await?;
        bets.push((player.jurisdiction.clone(), answer.bet));
    }
    let verb = |verb: &str| format!("/operator/v1/rounds/{}/{verb}", opened.round);
    let _closed: Value =
        operator.post(&verb("close"), &json!({ "request_id": "demo-close" })).await?;
    let settled: RoundSettled =
        operator.post(&verb("settle"), &json!({ "request_id": "demo-settle" })).await?;
    let remark = format!("{} bets, {}", bets.len(), settled.outcome);
    let played = |(jurisdiction, bet)| {
        let outcome = settled.outcome.clone();
        (
            jurisdiction,
            Played { kind: "round", round: opened.round, bet, outcome, payout_micro: None },
        )
    };
    Ok((remark, bets.into_iter().map(played).collect()))
}

fn bet(selection: &str, commitment: &str, checkpoint_size: u64) -> Result<Value> {
    let client_seed: [u8; 32] = secrets::random()?;
    Ok(json!({
        "stake_micro": STAKE_MICRO,
        "selection": selection,
        "client_seed": hex::encode(&client_seed),
        "commitment": commitment,
        "checkpoint_size": checkpoint_size,
    }))
}

/// The rest of the leaf's line that starts so.
fn line<'a>(leaf: &'a str, start: &str) -> Option<&'a str> {
    leaf.lines().find_map(|line| line.strip_prefix(start))
}

/// The tree size in the checkpoint of a proof: its second line, after the origin that follows the empty line.
fn checkpoint_size(proof: &str) -> Option<u64> {
    let (_, checkpoint) = proof.split_once("\n\n")?;
    checkpoint.lines().nth(1)?.parse().ok()
}

/// Micro-units as a person reads money.
pub(super) fn money(micro: u64) -> String {
    format!("{}.{:02} {CURRENCY}", micro / 1_000_000, (micro % 1_000_000) / 10_000)
}
