//! The writer's configuration file and what is made of it.

use crate::keys::Keys;
use crate::limits;
use domicile_control::{ControlConfig, TlsPaths};
use domicile_core::checkpoint::receipt_key_name;
use domicile_core::ids::{ClusterId, NodeId, RegionId};
use domicile_core::note::{NoteError, SigningKey};
use domicile_core::seal::{self, SealError};
use domicile_postgres::{ConnectConfig, PoolConfig};
use domicile_service::config::{self, ConfigError, ControlSection, PostgresSection, TlsFiles};
use domicile_service::drain::DrainLimits;
use domicile_service::ids::IdSource;
use domicile_service::listener::ListenerLimits;
use domicile_service::telemetry::TelemetryConfig;
use domicile_service::tls::ClientTls;
use domicile_service::token::{TokenKeyError, TokenSigner};
use domicile_topology::lease::session_name;
use secrecy::ExposeSecret;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The region this writer is in.
    pub region: RegionId,
    /// Where routers connect.
    pub listen: SocketAddr,
    /// Health, readiness, metrics.
    pub admin_listen: SocketAddr,
    /// This node's certificate.
    pub tls: TlsFiles,
    /// The control plane.
    pub control: ControlSection,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The region's ledger node.
    pub postgres: PostgresSection,
    /// Key files.
    pub keys: KeyFiles,
    /// Operators' wallets.
    #[serde(default)]
    pub wallets: WalletsSection,
    /// What clients may hold open.
    #[serde(default)]
    pub limits: ListenerLimits,
    /// How long leaving may take.
    #[serde(default)]
    pub drain: DrainLimits,
}

/// `[keys]`: files relative to the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFiles {
    /// Master keys, one per line; the first one seals.
    pub master_key_file: PathBuf,
    /// The region's token-signing key (PEM, PKCS #8, Ed25519).
    pub session_signing_key_file: PathBuf,
    /// That key's id in the topology.
    pub session_kid: String,
    /// The cluster's receipt key.
    pub receipt_key_file: PathBuf,
    /// The folder with one `log-<jurisdiction>.key` per log.
    pub log_keys_dir: PathBuf,
}

/// `[wallets]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletsSection {
    /// Authorities of the wallets' certificates (PEM), relative to the configuration file; the cluster's own
    /// authority where it is not given.
    pub ca_file: Option<PathBuf>,
}

/// Why the writer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration or a secret file is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The master key file is malformed.
    #[error("keys.master_key_file")]
    MasterKey(#[from] SealError),
    /// The receipt key is malformed.
    #[error("keys.receipt_key_file")]
    ReceiptKey(#[from] NoteError),
    /// The receipt key is another cluster's.
    #[error("keys.receipt_key_file holds the key `{found}`, expected `{expected}`")]
    ReceiptKeyName {
        /// The name in the file.
        found: String,
        /// The name of this cluster's receipt key.
        expected: String,
    },
    /// The token-signing key is unusable.
    #[error("keys.session_signing_key_file")]
    SessionKey(#[from] TokenKeyError),
    /// The control plane's addresses are unusable.
    #[error("control")]
    Control(#[from] domicile_control::Error),
}

impl Config {
    /// Reads all keys but the logs', which are read when an epoch begins.
    pub fn load_keys(&self, folder: &Path, ids: IdSource) -> Result<Keys, StartError> {
        let read = |path: &Path| config::secret(&folder.join(path));
        let master = seal::parse_keys(read(&self.keys.master_key_file)?.expose_secret())?;
        let receipt = read(&self.keys.receipt_key_file)?;
        let receipt = SigningKey::from_text(receipt.expose_secret())?;
        let expected = receipt_key_name(&self.cluster);
        if receipt.name() != expected {
            return Err(StartError::ReceiptKeyName { found: receipt.name().to_owned(), expected });
        }
        let pem = read(&self.keys.session_signing_key_file)?;
        let tokens = TokenSigner::from_pem(&self.keys.session_kid, &pem)?;
        Ok(Keys::new(master, receipt, tokens, ids))
    }

    /// The connections of `domicile_writer`.
    pub fn pool(&self, folder: &Path, tls: &ClientTls) -> Result<PoolConfig, StartError> {
        let postgres = &self.postgres;
        let connect = ConnectConfig {
            host: postgres.host.clone(),
            port: postgres.port,
            dbname: postgres.dbname.clone(),
            user: postgres.user.clone(),
            password: config::secret(&folder.join(&postgres.password_file))?,
            tls: postgres.tls.then(|| tls.config()),
            application_name: session_name(&self.node),
            connect_timeout_ms: limits::CONNECT_MS,
            statement_timeout_ms: limits::STATEMENT_MS,
        };
        Ok(PoolConfig { connect, size: postgres.pool_size })
    }

    /// The authorities of the wallets' certificates.
    pub fn wallet_authorities(&self, folder: &Path) -> PathBuf {
        let own = || self.tls.under(folder).ca;
        self.wallets.ca_file.as_ref().map_or_else(own, |file| folder.join(file))
    }

    /// The control plane's client.
    pub fn control(&self, folder: &Path) -> Result<ControlConfig, StartError> {
        let files = self.tls.under(folder);
        let tls = TlsPaths { cert: files.cert, key: files.key, ca: files.ca };
        let cache = folder.join(&self.control.topology_cache);
        Ok(ControlConfig::new(self.cluster.clone(), &self.control.endpoints, tls, cache)?)
    }
}
