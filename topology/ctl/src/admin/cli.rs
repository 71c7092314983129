//! What can be said about operators, their games and credentials, and sessions.

use clap::{Args, Subcommand};
use domicile_core::ids::{GameCode, OperatorId, PlayerRef};
use uuid::Uuid;

/// What every change is given.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Why; kept in the operations log with who did it
    #[arg(long)]
    pub(crate) reason: String,
    /// The answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Ask nothing
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Register an operator; prints its key id and secret once
    Create(CreateArgs),
    /// Show an operator and its credentials
    Show {
        /// The operator's id
        id: OperatorId,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List operators
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Change an operator; what is not named stays
    Update(UpdateArgs),
    /// Refuse an operator's requests, and send its players away
    Disable {
        /// The operator's id
        id: OperatorId,
        #[command(flatten)]
        why: Why,
    },
    /// On what terms it offers a game
    #[command(subcommand)]
    Game(GameCommand),
    /// Its credentials
    #[command(subcommand)]
    Credential(CredentialCommand),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The operator's id, a lower-case slug
    pub(crate) id: OperatorId,
    /// Its name for people [default: the id]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A jurisdiction it is licensed for; may be repeated
    #[arg(long = "jurisdiction", value_name = "CODE", required = true)]
    pub(crate) jurisdictions: Vec<String>,
    /// A game it offers; may be repeated [default: all]
    #[arg(long = "game", value_name = "CODE")]
    pub(crate) games: Vec<String>,
    /// A browser origin its players come from; may be repeated
    #[arg(long = "origin", value_name = "URL")]
    pub(crate) origins: Vec<String>,
    /// Where its players' sessions are launched
    #[arg(long, value_name = "URL", default_value = "https://game.example/launch")]
    pub(crate) launch_base_url: String,
    /// Why; kept in the operations log with who did it
    #[arg(long, default_value = "registered")]
    pub(crate) reason: String,
    /// The answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The operator's id
    pub(crate) id: OperatorId,
    /// Its name for people
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Its jurisdictions from now on; may be repeated
    #[arg(long = "jurisdiction", value_name = "CODE")]
    pub(crate) jurisdictions: Vec<String>,
    /// Its games from now on; may be repeated
    #[arg(long = "game", value_name = "CODE")]
    pub(crate) games: Vec<String>,
    /// Its players' browser origins from now on; may be repeated
    #[arg(long = "origin", value_name = "URL")]
    pub(crate) origins: Vec<String>,
    /// Where its players' sessions are launched
    #[arg(long, value_name = "URL")]
    pub(crate) launch_base_url: Option<String>,
    /// Whether it may do anything
    #[arg(long)]
    pub(crate) enabled: Option<bool>,
    #[command(flatten)]
    pub(crate) why: Why,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GameCommand {
    /// Change the terms; in force within a second, what began keeps its parameters
    Set(Box<GameSetArgs>),
    /// Show the terms and every change of them
    Show {
        #[command(flatten)]
        of: OfGame,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop the game at once: rounds in flight are voided and their stakes go back
    Suspend(GameAct),
    /// Offer it again
    Resume(GameAct),
}

/// Whose game.
#[derive(Debug, Args)]
pub(crate) struct OfGame {
    /// The operator's id
    pub(crate) operator: OperatorId,
    /// The game's code
    pub(crate) game: GameCode,
}

#[derive(Debug, Args)]
pub(crate) struct GameAct {
    #[command(flatten)]
    pub(crate) of: OfGame,
    #[command(flatten)]
    pub(crate) why: Why,
}

#[derive(Debug, Args)]
pub(crate) struct GameSetArgs {
    #[command(flatten)]
    pub(crate) of: OfGame,
    /// Whether it is offered; rounds in flight end as usual
    #[arg(long)]
    pub(crate) enabled: Option<bool>,
    /// The parameters of what begins from now on, or `own` for the game's
    #[arg(long, value_name = "TEXT")]
    pub(crate) params: Option<String>,
    /// The commission within the parameters, parts per million
    #[arg(long, value_name = "PPM")]
    pub(crate) commission_ppm: Option<u64>,
    /// The smallest stake in micro-units, or `none`
    #[arg(long, value_name = "MICRO")]
    pub(crate) stake_min: Option<String>,
    /// The largest stake in micro-units, or `none`
    #[arg(long, value_name = "MICRO")]
    pub(crate) stake_max: Option<String>,
    /// The largest payout that a bet may lead to, in micro-units, or `none`
    #[arg(long, value_name = "MICRO")]
    pub(crate) payout_max: Option<String>,
    #[command(flatten)]
    pub(crate) why: Why,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CredentialCommand {
    /// Add a credential, or replace a lost one; prints it once
    Create {
        /// The operator's id
        operator: OperatorId,
        /// Why; kept in the operations log with who did it
        #[arg(long, default_value = "added")]
        reason: String,
        /// The answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a credential and let the others end; prints it once
    Rotate {
        /// The operator's id
        operator: OperatorId,
        /// How long the former ones are good beside it, at most a week
        #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=604_800))]
        overlap_s: u64,
        #[command(flatten)]
        why: Why,
    },
    /// Withdraw a credential: it is refused everywhere within a second
    Revoke {
        /// The credential's key id
        key_id: String,
        #[command(flatten)]
        why: Why,
    },
    /// List an operator's credentials, without their secrets
    List {
        /// The operator's id
        operator: OperatorId,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Revoke a session: its token is refused everywhere within seconds
    Revoke {
        /// The session's id
        session: Uuid,
        #[command(flatten)]
        why: Why,
    },
}

/// Whose tokens are revoked.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The token of this session
    #[arg(long, value_name = "ID", required_unless_present = "operator", conflicts_with_all = ["player", "operator"])]
    pub(crate) session: Option<Uuid>,
    /// All of this player of the operator
    #[arg(long, value_name = "REF", requires = "operator")]
    pub(crate) player: Option<PlayerRef>,
    /// All of this operator
    #[arg(long, value_name = "ID")]
    pub(crate) operator: Option<OperatorId>,
    #[command(flatten)]
    pub(crate) why: Why,
}
