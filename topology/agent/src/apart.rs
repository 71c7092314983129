//! Running a former primary's data apart from everybody, to read what it holds before it is thrown away.
//!
//! Invariants: a port of its own, the superuser from this machine alone, no standby, no subscriber, no writer; commits
//! wait for a name that nobody has, so it can acknowledge nothing; it stops cleanly before anything else is done.

use std::net::{SocketAddr, TcpListener};

use domicile_topology::address::Address;

use crate::access;
use crate::agent::{Agent, write_file};
use crate::database::Session;
use crate::error::Error;
use crate::memory::Returning;
use crate::postmaster::Postmaster;
use crate::settings::render_role_apart;

/// A server on the node's data that nobody else can reach.
pub(crate) struct Apart {
    postmaster: Postmaster,
    /// The only connection to it.
    pub(crate) session: Session,
}

impl Agent {
    /// Starts the data apart. Remembered, so that nobody takes the server for the node's own.
    pub(crate) async fn start_apart(&self) -> Result<Apart, Error> {
        self.remember(|memory| memory.returning = Some(Returning::Apart))?;
        self.unmark_standby()?;
        let postgres = &self.config.postgres;
        let port = free_port(postgres.local_host())?;
        let listen = format!("{}:{port}", postgres.local_host());
        let listen =
            Address::parse(&listen).map_err(|error| Error::step("run data apart", error))?;
        let file = |name: &str| postgres.config_dir.join(name);
        let (common, rules, role) =
            (file("apart.conf"), file("apart-hba.conf"), file("apart-role.conf"));
        write_file(&rules, &access::render_apart(postgres.tls.is_some()))?;
        write_file(&role, &render_role_apart())?;
        write_file(&common, &self.common(&listen, &rules, &role))?;
        let start_log = postgres.log_dir().join("start.log");
        let postmaster =
            Postmaster::new(self.tools.clone(), &postgres.data_dir, &common, &start_log);
        postmaster.start().await?;
        let session = self.open_apart(port).await?;
        Ok(Apart { postmaster, session })
    }
}

impl Apart {
    /// Stops the server cleanly.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        drop(self.session);
        self.postmaster.stop_cleanly(&[]).await.map(drop)
    }
}

fn free_port(host: &str) -> Result<u16, Error> {
    let free = TcpListener::bind((host, 0)).and_then(|listener| listener.local_addr());
    free.as_ref().map(SocketAddr::port).map_err(|error| Error::step("find a free port", error))
}
