//! `migrate`: schema, roles and publications, by the migrations of this build.
//!
//! Invariants: readers are migrated before the ledger by whoever calls; a ledger publishes the jurisdictions of the
//! topology and no other; passwords are set from verifiers, which are not passwords.

use domicile_topology::agent_api::{MigrateAnswer, Role};
use domicile_topology::observed::NodeKind;

use crate::agent::Agent;
use crate::error::Error;
use crate::init::rewind_role;
use crate::settings::{DATABASE, READER_ROLE, WRITER_ROLE};

impl Agent {
    /// Brings the schema to this build's version.
    pub async fn migrate(&self) -> Result<MigrateAnswer, Error> {
        let _turn = self.turn().await?;
        if self.role() != Role::Primary {
            return Err(Error::State("a standby gets its schema from its source".to_owned()));
        }
        let mut session = self.open(DATABASE).await?;
        let step = "migrate";
        let failed = |error| Error::step(step, error);
        let (report, published) = match self.config.kind {
            NodeKind::Ledger => {
                // A cluster made by an earlier build gets it here; the migrations grant it something.
                session.run("make the rewind's role", &rewind_role()).await?;
                let jurisdictions = self.jurisdictions()?;
                let migrated =
                    domicile_migrations::migrate_ledger(session.connection(), &jurisdictions).await;
                (migrated.map_err(failed)?, jurisdictions)
            }
            NodeKind::Reader => {
                let migrated = domicile_migrations::migrate_reader(session.connection()).await;
                (migrated.map_err(failed)?, Vec::new())
            }
        };
        let postgres = &self.config.postgres;
        match self.config.kind {
            NodeKind::Ledger => {
                let verifier = postgres.writer_verifier_file.as_deref();
                self.set_login(&session, WRITER_ROLE, verifier, "login").await?;
            }
            NodeKind::Reader => {
                let verifier = postgres.reader_verifier_file.as_deref();
                self.set_login(&session, READER_ROLE, verifier, "login").await?;
            }
        }
        tracing::info!(version = report.version, applied = report.applied, "migrated");
        Ok(MigrateAnswer { applied: report.applied, schema_version: report.version, published })
    }
}
