//! Following the control plane: routes and verification keys from the topology, the writer's region
//! from the record.
//!
//! Invariant: what was last known stays in force while the control plane is away.

use std::sync::Arc;

use domicile_control::Watch;
use domicile_core::ids::RegionId;
use domicile_service::{
    health::Check,
    token::{TokenAlgorithm, TokenKeys, TokenVerifier},
};
use domicile_topology::{Record, Topology, document};

use crate::{forward::Forwarder, route::Routes};

/// What follows the topology.
pub struct Follower {
    /// Where this router stands.
    pub region: RegionId,
    /// Takes the routes and the writer's region.
    pub forwarder: Arc<Forwarder>,
    /// Takes the keys.
    pub verifier: Arc<TokenVerifier>,
    /// Shows the generation.
    pub check: Check,
}

impl Follower {
    /// From now on this document is in force.
    pub fn apply(&self, topology: &Topology) {
        self.verifier.replace_keys(token_keys(topology));
        self.forwarder.follow_topology(Routes::new(topology, &self.region));
        self.check.pass(format!("generation {}", topology.generation));
        tracing::info!(generation = topology.generation, "routing by topology");
    }

    /// Applies every topology as it comes.
    pub async fn follow(self, mut watch: Watch<Topology>) {
        while watch.changed().await {
            if let Some(topology) = watch.value() {
                self.apply(&topology);
            }
        }
    }
}

/// Applies the last known control record, and every one that comes.
pub async fn record(mut watch: Watch<Record>, forwarder: Arc<Forwarder>) {
    loop {
        if let Some(record) = watch.value() {
            let (epoch, region) = (record.epoch.0, record.writer_region.as_str());
            if forwarder.follow_record(&record) {
                tracing::info!(epoch, region, writes = ?record.writes, "writing to");
            } else {
                tracing::error!(epoch, region, "the control record went back; not followed");
            }
        }
        if !watch.changed().await {
            return;
        }
    }
}

fn token_keys(topology: &Topology) -> TokenKeys {
    let mut keys = TokenKeys::new();
    for key in &topology.session_keys {
        let algorithm = match key.algorithm {
            document::TokenAlgorithm::EdDsa => TokenAlgorithm::EdDsa,
            document::TokenAlgorithm::Es256 => TokenAlgorithm::Es256,
        };
        if let Err(error) = keys.add(&key.kid, algorithm, &key.public_key) {
            // Its tokens are refused; the others' are not.
            tracing::error!(kid = key.kid, %error, "session key not usable");
        }
    }
    keys
}
