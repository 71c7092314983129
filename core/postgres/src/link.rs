//! One server connection's socket: driven by its own task, listened to for what the server says aside.
//!
//! Invariants: the task owns the socket until the server has answered everything that was sent to it, even
//! when nobody waits for the answer any more; a notice is recorded before the answer it precedes.

use crate::NOTIFICATIONS_KEPT_MAX;
use crate::config::{Access, ConnectConfig};
use std::any::Any;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{AsyncMessage, Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What the connection's task and the connection's user share.
#[derive(Default)]
pub(crate) struct Link {
    warned: AtomicBool,
    unconfirmed: AtomicBool,
    terminated: AtomicBool,
    keepsake: Mutex<Option<Box<dyn Any + Send>>>,
    heard: Mutex<BTreeSet<String>>,
    hears: Notify,
}

impl Link {
    fn record(&self, notice: &DbError) {
        let code = notice.code();
        let terminated = [&SqlState::ADMIN_SHUTDOWN, &SqlState::CRASH_SHUTDOWN].contains(&code);
        if terminated {
            self.terminated.store(true, Ordering::Release);
        }
        // The text depends on lc_messages, which is checked at connection time; the code does not.
        if terminated || notice.message().contains("synchronous replication") {
            self.unconfirmed.store(true, Ordering::Release);
        }
        if notice.severity() == "WARNING" || code == &SqlState::WARNING {
            self.warned.store(true, Ordering::Release);
        }
        tracing::debug!(code = code.code(), severity = notice.severity(), "notice");
    }

    /// Forgets warnings of statements before a commit, which the commit must not be blamed for.
    pub(crate) fn forget_warnings(&self) {
        self.warned.store(false, Ordering::Release);
    }

    /// Whether the server warned since [`Self::forget_warnings`].
    pub(crate) fn warned(&self) -> bool {
        self.warned.load(Ordering::Acquire)
    }

    /// Whether the server ever said that a commit was not confirmed by the second region.
    pub(crate) fn unconfirmed(&self) -> bool {
        self.unconfirmed.load(Ordering::Acquire)
    }

    /// Whether the server said that an administrator or a crash ended the session.
    pub(crate) fn terminated(&self) -> bool {
        self.terminated.load(Ordering::Acquire)
    }

    /// Notes a notification. One like it that nobody has taken yet is the same; one too many is dropped.
    fn hear(&self, payload: &str) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() < NOTIFICATIONS_KEPT_MAX {
            heard.insert(payload.to_owned());
        }
        drop(heard);
        self.hears.notify_one();
    }

    /// Waits for notifications and takes them.
    pub(crate) async fn heard(&self) -> BTreeSet<String> {
        self.hears.notified().await;
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps `thing` alive for as long as the connection's task runs.
    pub(crate) fn keep(&self, thing: Box<dyn Any + Send>) {
        *self.keepsake.lock().unwrap_or_else(PoisonError::into_inner) = Some(thing);
    }
}

/// Connects and starts the task that drives the connection.
pub(crate) async fn open(
    config: &ConnectConfig,
    access: Access,
) -> Result<(Client, Arc<Link>), tokio_postgres::Error> {
    let link = Arc::new(Link::default());
    let driver = config.driver(access);
    let client = if let Some(tls) = &config.tls {
        let tls = MakeRustlsConnect::new(tls.as_ref().clone());
        let (client, connection) = driver.connect(tls).await?;
        tokio::spawn(drive(connection, Arc::clone(&link)));
        client
    } else {
        let (client, connection) = driver.connect(NoTls).await?;
        tokio::spawn(drive(connection, Arc::clone(&link)));
        client
    };
    Ok((client, link))
}

async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, link: Arc<Link>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notice(notice))) => link.record(&notice),
            Some(Ok(AsyncMessage::Notification(said))) => link.hear(said.payload()),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                if error.code().is_some_and(|code| code.code().starts_with("57P")) {
                    link.terminated.store(true, Ordering::Release);
                }
                tracing::debug!(%error, "connection ended");
                return;
            }
            None => return,
        }
    }
}
