//! Commands that make credentials: `pki`, `keys`, `token inspector`; and calls to the writer.

use crate::admin;
use crate::agents::Agents;
use crate::cli::{InspectorArgs, IssueArgs, KeysArgs, PersonArgs, PkiCommand, TokenCommand};
use crate::files::{self, MODE_FOLDER_SECRET};
use crate::keys::KeyFolder;
use crate::layout::{self, Layout};
use crate::operations::submit::{self, Record};
use crate::pki::{Authority, Issue, Subject};
use crate::term;
use crate::up::{Cluster, roles};
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use domicile_core::claims::Claims;
use domicile_core::ids::{ClusterId, Jurisdiction, NodeId, PlayerRef};
use domicile_execute::{LOOK_TIMEOUT_MS, chain};
use domicile_service::client::HttpClient;
use domicile_service::clock::{Clock, SystemClock};
use domicile_service::config;
use domicile_service::token::TokenSigner;
use domicile_topology::address::{Address, ServiceUrl};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Above the writer's own deadline, so that it says itself what happened.
const WRITER_TIMEOUT_MS: u64 = 35_000;

/// `domicile pki`.
pub(crate) async fn pki(
    command: PkiCommand,
    layout: impl FnOnce() -> Result<Layout>,
) -> Result<u8> {
    let now_unix_s = SystemClock.now_unix_s();
    match command {
        PkiCommand::Init { cluster, authority } => {
            Authority::open_or_create(&authority, &ClusterId::parse(&cluster)?, now_unix_s)?;
            term::say(format_args!("authority of {cluster} in {}", authority.display()))?;
        }
        PkiCommand::Issue(args) => issue(args, now_unix_s)?,
        PkiCommand::Person(args) => person(&layout()?, args, now_unix_s)?,
        PkiCommand::Enforce => enforce(&layout()?, now_unix_s).await?,
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

fn person(layout: &Layout, args: PersonArgs, now_unix_s: u64) -> Result<()> {
    let authority = own_authority(layout, &layout.topology()?.cluster, now_unix_s)?;
    let out = args.out.unwrap_or_else(|| layout.person_tls(&args.name));
    out.parent().map_or(Ok(()), |parent| files::folder(parent, MODE_FOLDER_SECRET))?;
    let subject = Subject { role: args.role, node: args.name.to_string(), hosts: Vec::new() };
    let what = match authority.ensure(&out, &subject, args.days)? {
        Issue::Kept => "still good",
        Issue::Written => "issued",
    };
    term::say(format_args!("{what}: {}/{} in {}", subject.role, subject.node, out.display()))
}

async fn enforce(layout: &Layout, now_unix_s: u64) -> Result<()> {
    let topology = layout.topology()?;
    roles::issue_root(layout, &own_authority(layout, &topology.cluster, now_unix_s)?)?;
    term::say(format_args!("roles in etcd: {}", roles::enforce(&topology, layout).await?))
}

/// The authority in the state folder, which must be there.
fn own_authority(layout: &Layout, cluster: &ClusterId, now_unix_s: u64) -> Result<Authority> {
    let folder = layout.operator().join("authority");
    if !folder.join("ca.key").exists() {
        bail!("there is no authority in {}; `domicile up` makes one", folder.display());
    }
    Authority::open_or_create(&folder, cluster, now_unix_s)
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
    pub(crate) reason: String,
}

/// The credential it answers with; the secret is told this once.
#[derive(Deserialize, Serialize)]
pub(crate) struct NewCredential {
    pub(crate) operator: String,
    pub(crate) key_id: String,
    pub(crate) secret_b64: String,
}

/// A writer of the region that the control record names, called in the name of whoever acts.
pub(crate) struct Writer {
    client: HttpClient,
    endpoint: ServiceUrl,
}

impl Writer {
    /// The first one that is ready; when none is, the first one, which says why.
    pub(crate) async fn current(layout: &Layout) -> Result<Self> {
        let mut all = Self::all_current(layout).await?;
        Ok(all.swap_remove(0).1)
    }

    /// All of the current region, with their names, the ready ones first; at least one.
    pub(crate) async fn all_current(layout: &Layout) -> Result<Vec<(NodeId, Self)>> {
        let topology = layout.topology()?;
        let record = Cluster::connect(&topology, layout)?
            .record()
            .await?
            .context("the cluster has no writer yet")?;
        let client = Agents::new(layout)?.client().within_ms(WRITER_TIMEOUT_MS);
        let mut all = Vec::new();
        for writer in topology.writers_in(&record.writer_region) {
            let is_late = !is_ready(&client, &writer.admin).await;
            let (client, endpoint) = (client.clone(), writer.endpoint.clone());
            all.push((is_late, (writer.node.clone(), Self { client, endpoint })));
        }
        if all.is_empty() {
            bail!("region {} has no writer", record.writer_region);
        }
        all.sort_by_key(|(is_late, _)| *is_late);
        Ok(all.into_iter().map(|(_, writer)| writer).collect())
    }

    /// Reads something.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let url = format!("{}{path}", self.endpoint);
        self.client.get_json(&url).await.map_err(|error| anyhow!(chain(&error)))
    }

    /// One internal operation.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T> {
        let url = format!("{}{path}", self.endpoint);
        self.client.post_json(&url, body).await.map_err(|error| anyhow!(chain(&error)))
    }
}

async fn is_ready(client: &HttpClient, admin: &Address) -> bool {
    let request = http::Request::get(format!("http://{admin}/readyz")).body(Bytes::new());
    let Ok(request) = request else { return false };
    let answer = client.within_ms(LOOK_TIMEOUT_MS).send(request).await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// `domicile token`.
pub(crate) async fn token(layout: &Layout, command: TokenCommand) -> Result<u8> {
    match command {
        TokenCommand::Revoke(args) => admin::revoke(layout, &args).await,
        TokenCommand::Inspector(args) => inspector(layout, &args).await,
    }
}

/// Signs a token for an inspector, and gives it out once the operations log has it.
async fn inspector(layout: &Layout, args: &InspectorArgs) -> Result<u8> {
    let topology = layout.topology()?;
    let jurisdiction = Jurisdiction::parse(&args.jurisdiction)?;
    if !topology.jurisdictions.iter().any(|policy| policy.code == jurisdiction) {
        bail!("the topology has no jurisdiction {jurisdiction}");
    }
    let keys = KeyFolder::open(&layout.operator().join("keys"))?;
    let region = &topology.failover.preferred_region;
    let secret = config::secret(&keys.session(region))?;
    let signer = TokenSigner::from_pem(&keys.session_key(region)?.kid, &secret)?;
    let claims = Claims::inspector(
        &topology.cluster,
        &PlayerRef::parse(&args.subject)?,
        &jurisdiction,
        SystemClock.now_unix_s(),
        args.minutes * 60,
    );
    let token = signer.sign(&claims)?;
    let record = Record::inspector(args, &token);
    submit::first(layout, &record).await.context("no token is given out")?;
    term::say(token)?;
    Ok(0)
}
