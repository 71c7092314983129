//! The agent's own connections to Postgres, as superuser over TCP.
//!
//! Invariants: every statement has a limit; one that outlives it is left to the server, never cancelled; results are
//! read as one value or as JSON made by the server, so that a missing column is an error and not a default.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use domicile_core::ids::NodeId;
use domicile_postgres::types::{FromSqlOwned, ToSql};
use domicile_postgres::{ConnectConfig, Connection, Tx, connect};
use domicile_service::tls::ClientTls;
use serde::de::DeserializeOwned;

use crate::agent::{Agent, secret};
use crate::error::Error;
use crate::settings::{DATABASE, MAINTENANCE_DATABASE, REPLICATION_ROLE, REWIND_ROLE, SUPERUSER};

/// Until a connection is ready for statements.
const CONNECT_TIMEOUT_MS: u64 = 3_000;
/// A statement of an operation.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where and how the agent connects.
pub(crate) struct Database {
    tls: Option<Arc<ClientTls>>,
}

impl Database {
    /// Loads the certificates, if Postgres speaks TLS, and follows their renewal. Needs a runtime.
    pub(crate) fn new(tls: Option<&domicile_service::config::TlsFiles>) -> Result<Self, Error> {
        let load = |files| {
            let tls = ClientTls::load(files).inspect(ClientTls::watch);
            tls.map_err(|error| Error::step("load Postgres' certificates", error))
        };
        let tls = tls.map(load).transpose()?;
        tls.iter().for_each(ClientTls::watch);
        Ok(Self { tls })
    }

    fn config(
        &self,
        (host, port): (&str, u16),
        dbname: &str,
        user: &str,
        limit: Duration,
    ) -> ConnectConfig {
        ConnectConfig {
            host: host.to_owned(),
            port,
            dbname: dbname.to_owned(),
            user: user.to_owned(),
            password: secrecy::SecretString::default(),
            tls: self.tls.as_ref().map(|tls| tls.config()),
            application_name: "domicile-agent".to_owned(),
            connect_timeout_ms: CONNECT_TIMEOUT_MS,
            statement_timeout_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Agent {
    /// Connects to the node's own Postgres as superuser.
    pub(crate) async fn open(&self, dbname: &str) -> Result<Session, Error> {
        self.open_limited(dbname, STATEMENT_TIMEOUT).await
    }

    /// As [`Self::open`], with a statement limit of its own.
    pub(crate) async fn open_limited(
        &self,
        dbname: &str,
        limit: Duration,
    ) -> Result<Session, Error> {
        self.open_detached(dbname, limit).await
    }

    /// As [`Self::open_limited`], for work that goes on without the agent's attention.
    pub(crate) fn open_detached(
        &self,
        dbname: &str,
        limit: Duration,
    ) -> impl Future<Output = Result<Session, Error>> + Send + use<> {
        let postgres = &self.config.postgres;
        let config = self.local(postgres.listen.port(), dbname, limit);
        async move { Session::connect("connect to postgres", &config?).await }
    }

    /// Connects to this node's data, served at a port of its own.
    pub(crate) async fn open_apart(&self, port: u16) -> Result<Session, Error> {
        let config = self.local(port, DATABASE, STATEMENT_TIMEOUT)?;
        Session::connect("connect to the data set apart", &config).await
    }

    fn local(&self, port: u16, dbname: &str, limit: Duration) -> Result<ConnectConfig, Error> {
        let postgres = &self.config.postgres;
        let place = (postgres.local_host(), port);
        let mut config = self.database.config(place, dbname, SUPERUSER, limit);
        config.password = secret(&postgres.superuser_password_file)?;
        Ok(config)
    }

    /// Connects to a ledger node's Postgres as the role that a rewind reads with.
    pub(crate) async fn open_rewind_source(&self, node: &NodeId) -> Result<Session, Error> {
        let address = self.ledger_address(node)?;
        let place = (address.host(), address.port());
        let mut config =
            self.database.config(place, MAINTENANCE_DATABASE, REWIND_ROLE, STATEMENT_TIMEOUT);
        config.password = secret(&self.config.postgres.superuser_password_file)?;
        Session::connect("connect to the ledger node for a rewind", &config).await
    }

    /// Connects to a ledger node's ledger as the role of the rewind, which may read the keys of what is not published.
    pub(crate) async fn open_private(&self, node: &NodeId) -> Result<Session, Error> {
        let address = self.ledger_address(node)?;
        let place = (address.host(), address.port());
        let mut config = self.database.config(place, DATABASE, REWIND_ROLE, STATEMENT_TIMEOUT);
        config.password = secret(&self.config.postgres.superuser_password_file)?;
        Session::connect("connect to the ledger node for a comparison", &config).await
    }

    /// Connects to a ledger node's Postgres as the replication role.
    pub(crate) async fn open_ledger(&self, node: &NodeId) -> Result<Session, Error> {
        let address = self.ledger_address(node)?;
        let role = REPLICATION_ROLE;
        let place = (address.host(), address.port());
        let mut config = self.database.config(place, DATABASE, role, STATEMENT_TIMEOUT);
        config.password = secret(&self.config.postgres.replication_password_file)?;
        Session::connect("connect to the ledger node", &config).await
    }
}

/// One connection.
pub(crate) struct Session {
    connection: Connection,
}

impl Session {
    async fn connect(step: &'static str, config: &ConnectConfig) -> Result<Self, Error> {
        let connection = connect(config).await.map_err(|error| Error::step(step, error))?;
        Ok(Self { connection })
    }

    /// Whether it can still be used.
    pub(crate) fn is_open(&self) -> bool {
        !self.connection.is_closed()
    }

    /// The first column of the only row, if there is one.
    pub(crate) async fn optional<T: FromSqlOwned>(
        &self,
        step: &'static str,
        sql: &str,
    ) -> Result<Option<T>, Error> {
        let failed = |error| Error::step(step, error);
        match self.connection.query_opt(sql, &[]).await.map_err(failed)? {
            Some(row) => row.try_get(0).map(Some).map_err(|error| Error::step(step, error)),
            None => Ok(None),
        }
    }

    /// The only row's JSON, if there is one.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        step: &'static str,
        sql: &str,
    ) -> Result<Option<T>, Error> {
        self.json_of(step, sql, &[]).await
    }

    /// As [`Self::json`], with parameters.
    pub(crate) async fn json_of<T: DeserializeOwned>(
        &self,
        step: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<T>, Error> {
        let failed = |error| Error::step(step, error);
        let row = self.connection.query_opt(sql, params).await.map_err(failed)?;
        let value: Option<serde_json::Value> =
            row.map(|row| row.try_get(0)).transpose().map_err(|error| Error::step(step, error))?;
        let read = value.map(serde_json::from_value).transpose();
        read.map_err(|error| Error::step(step, error))
    }

    /// Runs statements outside a transaction.
    pub(crate) async fn run(&self, step: &'static str, sql: &str) -> Result<(), Error> {
        self.connection.batch_execute(sql).await.map_err(|error| Error::step(step, error))
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&mut self, step: &'static str) -> Result<Tx<'_>, Error> {
        self.connection.begin().await.map_err(|error| Error::step(step, error))
    }

    /// The connection itself, for the migrations.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
