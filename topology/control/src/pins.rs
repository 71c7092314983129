//! What the control plane holds of the operations log, outside the ledger: its newest checkpoint, and which entries no
//! checkpoint covers yet.
//!
//! Keys: `operations/pin`, and `operations/cut/<epoch>`: the pin that the ledger of that epoch did not live up to.
//! Invariants: a pin replaces the one its writer has seen, and no other; a pin that was cut is kept for good.
//! Deliberately absent: the entries themselves; and the judgement, which is of who knows the ledger.

use crate::Versioned;
use crate::client::ControlClient;
use crate::error::Error;
use crate::etcd::{Change, Condition, Transaction};
use domicile_core::epoch::Epoch;
use domicile_topology::pin::Pin;

const PIN: &str = "operations/pin";

/// The pins of one cluster.
#[derive(Debug, Clone)]
pub struct Pins {
    control: ControlClient,
}

impl Pins {
    /// The pins that this client reaches.
    pub fn new(control: &ControlClient) -> Self {
        Self { control: control.clone() }
    }

    /// The pin of now.
    pub async fn read(&self) -> Result<Option<Versioned<Pin>>, Error> {
        let key = self.control.key(PIN);
        let (entry, _) = self.control.etcd().get(&key).await?;
        let Some(entry) = entry else { return Ok(None) };
        let value = serde_json::from_slice(&entry.value)
            .map_err(|error| Error::Malformed { key, cause: error.to_string() })?;
        Ok(Some(Versioned { value, revision: entry.modified }))
    }

    /// Puts a pin in the place of the one before; `None` when that one was replaced meanwhile.
    pub async fn replace(
        &self,
        before: Option<&Versioned<Pin>>,
        pin: Pin,
    ) -> Result<Option<Versioned<Pin>>, Error> {
        let key = self.control.key(PIN);
        let condition = match before {
            Some(before) => Condition::Unchanged(key.clone(), before.revision),
            None => Condition::Absent(key.clone()),
        };
        let change = Change::Put { value: encode(&key, &pin)?, key, lease: None };
        Ok(match self.control.etcd().transact(&[condition], vec![change]).await? {
            Transaction::Done(revision) => Some(Versioned { value: pin, revision }),
            Transaction::Refused(_) => None,
        })
    }

    /// Keeps a pin that the ledger of `epoch` does not live up to; the first one stays.
    pub async fn keep_cut(&self, epoch: Epoch, pin: &Pin) -> Result<(), Error> {
        let key = self.control.key(&format!("operations/cut/{epoch}"));
        let change = Change::Put { key: key.clone(), value: encode(&key, pin)?, lease: None };
        self.control.etcd().transact(&[Condition::Absent(key)], vec![change]).await.map(drop)
    }
}

fn encode(key: &str, pin: &Pin) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(pin)
        .map_err(|error| Error::Malformed { key: key.to_owned(), cause: error.to_string() })
}
