//! Commands that make credentials: `pki`, `keys`, `operator create`, `token inspector`.

use crate::agents::Agents;
use crate::cli::{
    IssueArgs, KeysArgs, OperatorCommand, OperatorCreateArgs, PkiCommand, TokenCommand,
};
use crate::keys::KeyFolder;
use crate::layout::{self, Layout};
use crate::pki::{Authority, Issue, Subject};
use crate::term;
use crate::up::Cluster;
use crate::wait::chain;
use anyhow::{Context, Result, anyhow, bail};
use domicile_core::claims::Claims;
use domicile_core::games;
use domicile_core::ids::{ClusterId, Jurisdiction, PlayerRef};
use domicile_service::clock::{Clock, SystemClock};
use domicile_service::config;
use domicile_service::token::TokenSigner;
use serde::{Deserialize, Serialize};

/// `domicile pki`.
pub(crate) fn pki(command: PkiCommand) -> Result<u8> {
    let now_unix_s = SystemClock.now_unix_s();
    match command {
        PkiCommand::Init { cluster, authority } => {
            Authority::open_or_create(&authority, &ClusterId::parse(&cluster)?, now_unix_s)?;
            term::say(format_args!("authority of {cluster} in {}", authority.display()))?;
        }
        PkiCommand::Issue(args) => issue(args, now_unix_s)?,
    }
    Ok(0)
}

fn issue(args: IssueArgs, now_unix_s: u64) -> Result<()> {
    if !args.authority.join("ca.key").exists() {
        bail!(
            "there is no authority in {}; `domicile pki init` makes one",
            args.authority.display()
        );
    }
    let authority =
        Authority::open_or_create(&args.authority, &ClusterId::parse(&args.cluster)?, now_unix_s)?;
    let subject = Subject { role: args.role, node: args.node, hosts: args.hosts };
    let what = match authority.ensure(&args.out, &subject, args.days)? {
        Issue::Kept => "still good",
        Issue::Written => "issued",
    };
    term::say(format_args!("{what}: {}/{} in {}", subject.role, subject.node, args.out.display()))
}

/// `domicile keys`: the topology with the public halves, on standard output.
pub(crate) fn keys(args: &KeysArgs) -> Result<u8> {
    let topology = layout::parse_topology(&args.topology)?;
    let complete = KeyFolder::open(&args.keys)?.complete(topology)?;
    term::say(complete.to_toml()?.trim_end())?;
    Ok(0)
}

/// What the writer is asked to register.
#[derive(Debug, Serialize)]
pub(crate) struct NewOperator {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) jurisdictions: Vec<String>,
    pub(crate) games: Vec<String>,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) launch_base_url: String,
}

/// The credential it answers with; the secret is told this once.
#[derive(Deserialize, Serialize)]
pub(crate) struct NewCredential {
    pub(crate) operator: String,
    pub(crate) key_id: String,
    pub(crate) secret_b64: String,
}

/// `domicile operator`.
pub(crate) async fn operator(layout: &Layout, command: OperatorCommand) -> Result<u8> {
    let OperatorCommand::Create(args) = command;
    let json = args.json;
    let credential = create_operator(layout, wanted(args)).await?;
    if json {
        term::json(&credential)?;
    } else {
        term::say(format_args!("operator  {}", credential.operator))?;
        term::say(format_args!("key id    {}", credential.key_id))?;
        term::say(format_args!("secret    {}   (base64; shown this once)", credential.secret_b64))?;
    }
    Ok(0)
}

fn wanted(args: OperatorCreateArgs) -> NewOperator {
    let all = || games::ALL.iter().map(|game| game.code().to_owned()).collect();
    NewOperator {
        name: args.name.unwrap_or_else(|| args.id.clone()),
        id: args.id,
        jurisdictions: args.jurisdictions,
        games: if args.games.is_empty() { all() } else { args.games },
        allowed_origins: args.origins,
        launch_base_url: args.launch_base_url,
    }
}

/// Registers the operator at the writer that the control record names.
pub(crate) async fn create_operator(
    layout: &Layout,
    operator: NewOperator,
) -> Result<NewCredential> {
    let topology = layout.topology()?;
    let record = Cluster::connect(&topology, layout)?
        .record()
        .await?
        .context("the cluster has no writer yet")?;
    let writer = topology.writers.iter().find(|writer| writer.region == record.writer_region);
    let writer =
        writer.with_context(|| format!("region {} has no writer", record.writer_region))?;
    let url = format!("{}/internal/v1/operators", writer.endpoint);
    Agents::new(layout)?
        .client()
        .post_json(&url, &operator)
        .await
        .map_err(|error| anyhow!(chain(&error)))
}

/// `domicile token`.
pub(crate) fn token(layout: &Layout, command: TokenCommand) -> Result<u8> {
    let TokenCommand::Inspector { jurisdiction, subject, minutes } = command;
    let topology = layout.topology()?;
    let jurisdiction = Jurisdiction::parse(&jurisdiction)?;
    if !topology.jurisdictions.iter().any(|policy| policy.code == jurisdiction) {
        bail!("the topology has no jurisdiction {jurisdiction}");
    }
    let keys = KeyFolder::open(&layout.operator().join("keys"))?;
    let region = &topology.failover.preferred_region;
    let secret = config::secret(&keys.session(region))?;
    let signer = TokenSigner::from_pem(&keys.session_key(region)?.kid, &secret)?;
    let now_unix_s = SystemClock.now_unix_s();
    let claims = Claims::inspector(
        &topology.cluster,
        &PlayerRef::parse(&subject)?,
        &jurisdiction,
        now_unix_s,
        minutes * 60,
    );
    term::say(signer.sign(&claims)?)?;
    Ok(0)
}
