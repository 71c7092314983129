//! Every connection to Postgres is mutual TLS: the services', the standby's, the subscriptions', the agents'.
//! Whoever comes without TLS, without a certificate or with one of another authority is refused, password or not.

use crate::path::{session, verified_offline};
use domicile_core::ids::{Jurisdiction, NodeId};
use domicile_service::config::TlsFiles;
use domicile_service::telemetry::chain;
use domicile_service::tls::ClientTls;
use domicile_tests::cluster::{Cluster, certificate, owned_folder};
use domicile_tests::database;
use domicile_tests::eventually::eventually;
use domicile_tests::topology::{THREE_REGIONS, document};
use domicile_topology::address::Address;
use domicile_topology::agent_api::subscription_name;
use http::StatusCode;
use rustls::ClientConfig;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;

/// How long every part may take to be seen with a connection of its own.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn every_link_to_postgres_is_mutual_tls() {
    let bin = std::env::var_os("DOMICILE_PG_TLS_BIN");
    let bin = PathBuf::from(bin.expect("DOMICILE_PG_TLS_BIN names a Postgres with TLS"));
    let places = THREE_REGIONS.get(..2).expect("two regions");
    let cluster = Cluster::start_on(&bin, "tls", &document("tls", places).text);
    rounds_are_proven(&cluster).await;
    every_connection_shows_its_certificate(&cluster).await;
    strangers_are_refused(&cluster).await;
    the_log_streams_to_no_stranger(&cluster, &bin);
}

async fn rounds_are_proven(cluster: &Cluster) {
    let operator = cluster.operator("acme", &["MT", "DE"], "MT").await;
    for code in ["MT", "DE"] {
        let (player, open) = session(cluster, &operator, code, &format!("player-{code}")).await;
        let answer = player.play(&open, &format!("tls-{code}"), 1).await;
        let proof = player.proof(answer["round"].as_str().expect("a round")).await;
        assert_eq!(proof.status, StatusCode::OK, "{code}: {}", proof.json());
        verified_offline(cluster, &proof.body, None);
    }
}

/// A connection as the server sees it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    user: String,
    application: String,
    version: String,
    certificate: String,
}

async fn links(server: &Client) -> Vec<Link> {
    let rows = server
        .query(
            "SELECT a.usename::text, a.application_name, coalesce(s.version, 'no TLS'), \
             coalesce(s.client_dn, 'no certificate') \
             FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
             WHERE a.backend_type IN ('client backend', 'walsender') AND a.usename IS NOT NULL",
            &[],
        )
        .await
        .expect("the connections");
    let link = |row: &tokio_postgres::Row| Link {
        user: row.get(0),
        application: row.get(1),
        version: row.get(2),
        certificate: row.get(3),
    };
    rows.iter().map(link).collect()
}

/// Looks until every wanted application was seen; each connection ever seen must be as it should.
async fn all_seen(server: &Client, node: &str, wanted: &[String]) {
    let seen = std::sync::Mutex::new(BTreeSet::new());
    eventually(&format!("links to {node}"), SEEN_WITHIN, || async {
        for link in links(server).await {
            assert_eq!(link.version, "TLSv1.3", "{node}: {link:?}");
            assert!(shows_its_own(&link, node), "{node}: another's certificate: {link:?}");
            seen.lock().expect("a lock").insert(link.application);
        }
        let seen = seen.lock().expect("a lock");
        let missing: Vec<_> = wanted.iter().filter(|name| !seen.contains(*name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("no {missing:?} in {seen:?}")) }
    })
    .await;
}

/// Whether the certificate is that of the process which this role and application name stand for.
fn shows_its_own(link: &Link, node: &str) -> bool {
    let issued = |node: &str, role: &str| link.certificate == format!("/CN={role}/OU={node}");
    match link.user.as_str() {
        "domicile_writer" => {
            link.application == "domicile-writer/writer-mt" && issued("writer-mt", "writer")
        }
        "domicile_reader" => link.application == node && issued(node, "reader"),
        "domicile_replication" => {
            let agent = |node: &str| issued(node, "agent");
            match link.application.as_str() {
                "domicile-agent" => ["ledger-de", "reader-mt", "reader-de"].into_iter().any(agent),
                name if name == slot("MT") => agent("reader-mt"),
                name if name == slot("DE") => agent("reader-de"),
                name => name.starts_with("ledger-de_") && agent("ledger-de"),
            }
        }
        "postgres" => match link.application.as_str() {
            "domicile-agent" => issued(node, "agent"),
            _ => issued("admin", "dr-lead"),
        },
        _ => false,
    }
}

/// The name of a jurisdiction's subscription.
fn slot(code: &str) -> String {
    let node = NodeId::parse(&format!("reader-{}", code.to_lowercase())).expect("a node");
    subscription_name(&node, &Jurisdiction::parse(code).expect("a jurisdiction"))
}

async fn every_connection_shows_its_certificate(cluster: &Cluster) {
    let primary = database::connect(cluster, "ledger-mt").await;
    let mut wanted = vec!["domicile-writer/writer-mt".to_owned(), "domicile-agent".to_owned()];
    wanted.extend([slot("MT"), slot("DE")]);
    // The standby streams under its joining's name, and its worker that copies slots adds a word to it.
    let standby = "SELECT application_name FROM pg_stat_replication WHERE sync_state = 'sync'";
    let standby: String = primary.query_one(standby, &[]).await.expect("the standby").get(0);
    wanted.extend([format!("{standby}_slotsync worker"), standby]);
    all_seen(&primary, "ledger-mt", &wanted).await;
    for node in ["reader-mt", "reader-de"] {
        let replica = database::connect(cluster, node).await;
        all_seen(&replica, node, &[node.to_owned(), "domicile-agent".to_owned()]).await;
    }
}

/// A role with its true password and the certificate of the process that has it.
struct Door {
    address: Address,
    user: &'static str,
    password: String,
    own: TlsFiles,
}

impl Door {
    fn of(cluster: &Cluster, node: &str, user: &'static str, unit: &str, secret: &str) -> Self {
        let folder = cluster.state().join("nodes").join(unit);
        let password = std::fs::read_to_string(folder.join("secrets").join(secret));
        Self {
            address: cluster.postgres(&NodeId::parse(node).expect("a node")),
            user,
            password: password.expect("the role's password").trim().to_owned(),
            own: certificate(&folder.join("tls")),
        }
    }

    async fn try_with(&self, tls: Option<Arc<ClientConfig>>) -> Result<(), String> {
        match database::attempt(&self.address, self.user, &self.password, tls).await {
            Ok(_client) => Ok(()),
            Err(error) => Err(chain(&error)),
        }
    }
}

async fn strangers_are_refused(cluster: &Cluster) {
    let stranger = another_authority(cluster);
    for door in [
        Door::of(cluster, "ledger-mt", "domicile_writer", "writer-mt/writer", "postgres-password"),
        Door::of(
            cluster,
            "ledger-mt",
            "domicile_replication",
            "reader-de/agent",
            "replication-password",
        ),
        Door::of(cluster, "ledger-mt", "postgres", "ledger-mt/agent", "superuser-password"),
        Door::of(cluster, "reader-mt", "domicile_reader", "reader-mt/reader", "postgres-password"),
        Door::of(cluster, "reader-mt", "postgres", "reader-mt/agent", "superuser-password"),
    ] {
        is_refused_to_strangers(&door, &stranger).await;
    }
}

async fn is_refused_to_strangers(door: &Door, stranger: &TlsFiles) {
    let loaded = |files: &TlsFiles| ClientTls::load(files).expect("a certificate").config();
    let nameless = ClientTls::anonymous(&door.own.ca).expect("the authority").config();
    let foreign = TlsFiles { ca: door.own.ca.clone(), ..stranger.clone() };
    let elsewhere = TlsFiles { ca: stranger.ca.clone(), ..door.own.clone() };
    let user = door.user;
    door.try_with(Some(loaded(&door.own))).await.expect("the role's own process gets in");
    for (who, tls, reason) in [
        ("without TLS", None, "no encryption"),
        ("without a certificate", Some(nameless), "valid client certificate"),
        ("with another authority's certificate", Some(loaded(&foreign)), "UnknownCA"),
        // The other way round: a client does not talk to a server that its authority does not know.
        ("trusting another authority", Some(loaded(&elsewhere)), "invalid peer certificate"),
    ] {
        let refused = door.try_with(tls).await.expect_err(&format!("{user} {who} gets in"));
        assert!(refused.contains(reason), "{user} {who}: {refused}");
    }
    let guess = Door {
        password: "guess".to_owned(),
        address: door.address.clone(),
        own: door.own.clone(),
        user,
    };
    let refused = guess.try_with(Some(loaded(&door.own))).await.expect_err("a guess gets in");
    assert!(refused.contains("password authentication failed"), "{user}: {refused}");
}

/// A certificate for a name of the cluster, issued by somebody else.
fn another_authority(cluster: &Cluster) -> TlsFiles {
    let folder = cluster.state().join("stranger");
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (authority, out) = (text(&folder.join("authority")), text(&folder.join("tls")));
    cluster.cli(&["pki", "init", "--cluster", "tls", "--authority", &authority]);
    cluster.cli(&[
        "pki",
        "issue",
        "--cluster",
        "tls",
        "--authority",
        &authority,
        "--role",
        "writer",
        "--node",
        "writer-mt",
        "--out",
        &out,
    ]);
    certificate(&folder.join("tls"))
}

/// The physical stream, which holds every jurisdiction's rows: libpq with the true password, but no certificate.
fn the_log_streams_to_no_stranger(cluster: &Cluster, bin: &Path) {
    let folder = cluster.state().join("copy");
    let owner = owned_folder(&folder);
    let node = NodeId::parse("ledger-mt").expect("a node");
    let address = cluster.postgres(&node);
    for (mode, reason) in [("disable", "no encryption"), ("require", "valid client certificate")] {
        let conninfo = format!(
            "host={} port={} user=domicile_replication sslmode={mode}",
            address.host(),
            address.port()
        );
        let output = owner
            .command(&bin.join("pg_basebackup"))
            .env("HOME", &folder)
            .env("PGPASSWORD", cluster.secret(&node, "replication-password"))
            .args(["--no-password", "-d", &conninfo, "-D"])
            .arg(folder.join("data"))
            .output()
            .expect("run pg_basebackup");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "sslmode={mode}: {said}");
    }
}
