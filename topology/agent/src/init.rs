//! `init`: an empty node becomes a database.
//!
//! Invariants: a ledger is made only while the control record names this node, or does not exist; the data directory
//! appears whole or not at all; its own configuration files are removed, so that a copy of it cannot start by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domicile_topology::agent_api::{InitAnswer, Role};
use domicile_topology::observed::NodeKind;
use secrecy::ExposeSecret as _;

use crate::agent::{Agent, secret};
use crate::decide::{Authority, Disk};
use crate::error::Error;
use crate::settings::{
    DATABASE, MAINTENANCE_DATABASE, REPLICATION_ROLE, REWIND_ROLE, SUPERUSER, SyncTarget,
};

const INITDB_TIMEOUT: Duration = Duration::from_secs(40);
/// Configuration that Postgres' tools leave in a data directory.
const STRAY_FILES: [&str; 3] = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"];

impl Agent {
    /// Makes the database, unless there is one, starts it and sees to its replication role.
    pub async fn init(&self) -> Result<InitAnswer, Error> {
        let _turn = self.turn().await?;
        let created = self.postmaster.disk() == Disk::Absent;
        if created {
            self.may_create().await?;
            self.create_data().await?;
        }
        self.remember(|memory| memory.wanted = true)?;
        self.start_permitted().await?;
        let role = self.role();
        if role == Role::Primary {
            self.provision().await?;
        }
        let control = self.tools.control_data(&self.config.postgres.data_dir).await?;
        let system_identifier = control.system_identifier.to_string();
        Ok(InitAnswer { created, role, system_identifier })
    }

    async fn may_create(&self) -> Result<(), Error> {
        if self.config.kind == NodeKind::Reader {
            return Ok(());
        }
        match self.control.ask().await {
            Authority::Answered(None) => Ok(()),
            Authority::Answered(Some(record)) if record.writer_node == self.config.node => Ok(()),
            Authority::Answered(Some(record)) => Err(Error::NotNamed(format!(
                "the control record names {} as the writer: clone this node from it",
                record.writer_node
            ))),
            Authority::Away(_) => Err(Error::ControlAway("a new ledger needs its answer")),
        }
    }

    async fn create_data(&self) -> Result<(), Error> {
        let draft = self.draft_folder()?;
        let password = &self.config.postgres.superuser_password_file;
        // Read first, so that a missing or open file is refused with a clear word.
        drop(secret(password)?);
        let args = [
            "--pgdata".as_ref(),
            draft.as_os_str(),
            "--pwfile".as_ref(),
            password.as_os_str(),
            "--username".as_ref(),
            SUPERUSER.as_ref(),
            "--auth=scram-sha-256".as_ref(),
            "--data-checksums".as_ref(),
            "--encoding=UTF8".as_ref(),
            "--locale=C".as_ref(),
            "--locale-provider=builtin".as_ref(),
            "--builtin-locale=C.UTF-8".as_ref(),
        ];
        self.tools.run("initdb", args, INITDB_TIMEOUT).await?;
        self.remember(|memory| {
            memory.joined = None;
            memory.primary_in = None;
            memory.sync = SyncTarget::Off;
        })?;
        self.adopt_draft(&draft)
    }

    /// An empty place beside the data directory, in which a new one is made.
    pub(crate) fn draft_folder(&self) -> Result<PathBuf, Error> {
        let draft = self.config.postgres.data_dir.with_extension("draft");
        match std::fs::remove_dir_all(&draft) {
            Ok(()) => tracing::info!("removed an unfinished data directory"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::step("remove an unfinished data directory", error)),
        }
        Ok(draft)
    }

    /// Strips the draft of its own configuration and moves it to its place.
    pub(crate) fn adopt_draft(&self, draft: &Path) -> Result<(), Error> {
        let failed = |error| Error::step("put the data directory in place", error);
        strip_configuration(draft).map_err(failed)?;
        std::fs::rename(draft, &self.config.postgres.data_dir).map_err(failed)
    }

    // The standby is cloned before the first migration, so its role cannot come from there.
    async fn provision(&self) -> Result<(), Error> {
        let step = "provision the database";
        let server = self.open(MAINTENANCE_DATABASE).await?;
        let exists = format!("select true from pg_database where datname = '{DATABASE}'");
        if server.optional::<bool>(step, &exists).await?.is_none() {
            server.run(step, &format!("create database {DATABASE}")).await?;
        }
        if self.config.kind == NodeKind::Ledger {
            let verifier = &self.config.postgres.replication_verifier_file;
            self.set_login(&server, REPLICATION_ROLE, verifier.as_deref(), "login replication")
                .await?;
            server.run(step, &rewind_role()).await?;
        }
        Ok(())
    }

    /// Makes a role, or gives it the present verifier; changes nothing that is right already.
    pub(crate) async fn set_login(
        &self,
        server: &crate::database::Session,
        role: &'static str,
        verifier_file: Option<&Path>,
        attributes: &str,
    ) -> Result<(), Error> {
        let step = "set a role's password";
        let file = verifier_file.ok_or_else(|| Error::step(step, "no verifier is configured"))?;
        let verifier = secret(file)?;
        let verifier = verifier.expose_secret();
        if !is_scram_verifier(verifier) {
            return Err(Error::step(step, format!("{} holds no SCRAM verifier", file.display())));
        }
        let known = format!(
            "select rolpassword is not distinct from '{verifier}' from pg_authid where rolname = '{role}'"
        );
        match server.optional::<bool>(step, &known).await? {
            Some(true) => return Ok(()),
            Some(false) => {}
            None => server.run(step, &format!("create role {role} {attributes}")).await?,
        }
        server.run(step, &format!("alter role {role} {attributes} password '{verifier}'")).await
    }
}

/// Removes what would let a data directory start with settings of its own.
pub(crate) fn strip_configuration(data: &Path) -> std::io::Result<()> {
    for name in STRAY_FILES {
        match std::fs::remove_file(data.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::write(data.join("postgresql.auto.conf"), "")
}

/// The statement that makes the role with which returned nodes read: a primary's files for the rewind, and which rows of
/// unpublished tables it has (granted by a migration). It has the superuser's password, which all ledger nodes share.
pub(crate) fn rewind_role() -> String {
    format!(
        "do $$
         declare verifier text := (select rolpassword from pg_authid where rolname = '{SUPERUSER}');
         begin
           if to_regrole('{REWIND_ROLE}') is null then
             create role {REWIND_ROLE} login;
           end if;
           if exists (select from pg_authid where rolname = '{REWIND_ROLE}' and rolpassword is distinct from verifier) then
             execute format('alter role {REWIND_ROLE} password %L', verifier);
           end if;
           if not has_function_privilege('{REWIND_ROLE}', 'pg_read_binary_file(text)', 'execute') then
             grant execute on function pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean),
               pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) to {REWIND_ROLE};
           end if;
         end $$"
    )
}

// Also what keeps the verifier from ending its quotes.
fn is_scram_verifier(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+/=$:-".contains(c);
    let mut parts = text.split('$');
    parts.next() == Some("SCRAM-SHA-256") && parts.count() == 2 && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::is_scram_verifier;

    #[test]
    fn only_a_verifier_goes_into_a_statement() {
        assert!(is_scram_verifier("SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"));
        for bad in ["hunter2", "SCRAM-SHA-256$4096:a'b$c:d", "md5abc", "SCRAM-SHA-256$x"] {
            assert!(!is_scram_verifier(bad), "{bad}");
        }
    }
}
