//! Where and as whom to connect, and with which limits.
//!
//! Invariant: what is built here asks the server for nothing that weakens durability; with TLS configured
//! a plain connection is refused.

use crate::{
    IDLE_IN_TRANSACTION_MAX_MS, KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_RETRIES,
    TCP_USER_TIMEOUT_MS,
};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::SslMode;

/// One server, one database, one role.
#[derive(Debug, Clone)]
pub struct ConnectConfig {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database.
    pub dbname: String,
    /// Role.
    pub user: String,
    /// The role's password.
    pub password: SecretString,
    /// TLS, required when present.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// How the session shows in `pg_stat_activity`.
    pub application_name: String,
    /// Longest wait for a connection that is ready for statements, ms.
    pub connect_timeout_ms: u64,
    /// Longest run of one statement, ms. The wait for the second region in a commit is not part of it.
    pub statement_timeout_ms: u64,
}

/// A pool: where to connect, and how many sessions at most.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Where to connect.
    pub connect: ConnectConfig,
    /// Most server connections at one time, abandoned ones included.
    pub size: usize,
}

/// What a session may do outside a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads only: writes need a transaction, whose commit tells durable from unknown.
    Pooled,
    /// Everything the role may do.
    Direct,
}

impl ConnectConfig {
    /// The server as errors and spans name it.
    pub(crate) fn target(&self) -> Arc<str> {
        format!("{}@{}:{}/{}", self.user, self.host, self.port, self.dbname).into()
    }

    pub(crate) fn driver(&self, access: Access) -> tokio_postgres::Config {
        let read_only = if access == Access::Pooled { "on" } else { "off" };
        let options = format!(
            "-c statement_timeout={} -c idle_in_transaction_session_timeout={} \
             -c default_transaction_read_only={read_only}",
            self.statement_timeout_ms, IDLE_IN_TRANSACTION_MAX_MS
        );
        let mut driver = tokio_postgres::Config::new();
        driver
            .host(&self.host)
            .port(self.port)
            .dbname(&self.dbname)
            .user(&self.user)
            .password(self.password.expose_secret())
            .application_name(&self.application_name)
            .options(options)
            .ssl_mode(if self.tls.is_some() { SslMode::Require } else { SslMode::Disable })
            .connect_timeout(Duration::from_millis(self.connect_timeout_ms))
            .tcp_user_timeout(Duration::from_millis(TCP_USER_TIMEOUT_MS))
            .keepalives_idle(Duration::from_secs(KEEPALIVE_IDLE_S))
            .keepalives_interval(Duration::from_secs(KEEPALIVE_INTERVAL_S))
            .keepalives_retries(KEEPALIVE_RETRIES);
        driver
    }
}
