//! Looking into a node's database as its superuser: only tests do that, never a service.

use crate::cluster::{self, Cluster};
use domicile_core::ids::NodeId;
use domicile_service::telemetry::chain;
use domicile_service::tls::ClientTls;
use domicile_topology::address::Address;
use rustls::ClientConfig;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Connects to a node's database as superuser.
pub async fn connect(cluster: &Cluster, node: &str) -> Client {
    let node = NodeId::parse(node).expect("a node");
    open(cluster.state(), &node, &cluster.postgres(&node)).await.expect("a superuser connection")
}

/// The same, of a database that may not be there yet, with what is in the cluster's folder.
pub async fn open(state: &Path, node: &NodeId, address: &Address) -> Result<Client, String> {
    let password = state.join(format!("nodes/{node}/agent/secrets/superuser-password"));
    let password = std::fs::read_to_string(password).map_err(|error| error.to_string())?;
    let own = cluster::postgres_tls(state, node).map_err(|error| error.to_string())?;
    let own = own.map(|_node| ClientTls::load(&cluster::certificate(&state.join("operator/tls"))));
    let tls = own.transpose().map_err(|error| chain(&error))?.map(|own| own.config());
    let opened = attempt(address, "postgres", password.trim(), tls).await;
    opened.map_err(|error| chain(&error))
}

/// Connects as anybody, with or without TLS.
pub async fn attempt(
    address: &Address,
    user: &str,
    password: &str,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Client, Error> {
    let mut config = Config::new();
    config.host(address.host()).port(address.port()).dbname("domicile");
    config.user(user).password(password).connect_timeout(CONNECT_WITHIN);
    if let Some(tls) = tls {
        config.ssl_mode(SslMode::Require);
        let (client, connection) =
            config.connect(MakeRustlsConnect::new(tls.as_ref().clone())).await?;
        tokio::spawn(connection);
        Ok(client)
    } else {
        let (client, connection) = config.ssl_mode(SslMode::Disable).connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// Every jurisdiction found in any table of the database that has such a column.
pub async fn jurisdictions_present(client: &Client) -> BTreeSet<String> {
    let tables = client
        .query(
            "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.columns \
             WHERE column_name = 'jurisdiction' AND table_schema NOT IN ('pg_catalog')",
            &[],
        )
        .await
        .expect("the tables");
    assert!(!tables.is_empty(), "the database has tables with a jurisdiction");
    let mut present = BTreeSet::new();
    for row in &tables {
        let table: String = row.get(0);
        let found = client
            .query(&format!("SELECT DISTINCT jurisdiction FROM {table}"), &[])
            .await
            .expect("its jurisdictions");
        present.extend(found.iter().map(|row| row.get::<_, String>(0)));
    }
    present
}

/// A single number.
pub async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect("a count").get(0)
}
