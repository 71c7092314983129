//! Looking into a node's database as its superuser: only tests do that, never a service.

use crate::cluster::Cluster;
use domicile_core::ids::NodeId;
use domicile_topology::address::Address;
use std::collections::BTreeSet;
use tokio_postgres::{Client, NoTls};

/// Connects to a node's database as superuser.
pub async fn connect(cluster: &Cluster, node: &str) -> Client {
    let node = NodeId::parse(node).expect("a node");
    let topology = cluster.topology();
    let address = topology
        .ledger(&node)
        .map(|ledger| &ledger.postgres)
        .or_else(|| topology.reader(&node).map(|reader| &reader.postgres))
        .expect("a database node");
    let password = cluster.secret(&node, "superuser-password");
    open(address, &password).await.expect("a superuser connection")
}

/// Connects to a database that may not be there yet.
#[expect(clippy::disallowed_methods, reason = "tests look at databases from outside the product")]
pub async fn open(address: &Address, password: &str) -> Result<Client, String> {
    let (host, port) = (address.host(), address.port());
    let parameters = format!(
        "host={host} port={port} user=postgres dbname=domicile password={password} connect_timeout=5"
    );
    let (client, connection) = tokio_postgres::connect(&parameters, NoTls)
        .await
        .map_err(|error| domicile_service::telemetry::chain(&error))?;
    tokio::spawn(connection);
    Ok(client)
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
