//! `observe`: what can be seen of another ledger node from here – the second observer's word.
//!
//! Invariants: a short bounded time; an agent that answers is reachable whatever state its Postgres is in, and says itself
//! how long that has been quiet; a stream is alive only if something arrived lately by this machine's own clock.
//! Deliberately absent: concluding anything.

use std::sync::Arc;

use domicile_core::ids::NodeId;
use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::tls::ClientTls;
use domicile_topology::agent_api::{AliveAnswer, ObserveAnswer, ObserveRequest, paths};
use domicile_topology::observed::NodeKind;

use crate::agent::Agent;
use crate::error::Error;

/// The longest wait for another agent's sign of life, milliseconds.
const ANSWER_TIMEOUT_MS: u64 = 500;
/// A stream on which nothing arrived for longer is not alive, milliseconds: several beats of the primary.
pub(crate) const SILENCE_MS: u64 = 1_000;

// A new connection each time: an old one would tell how things were.
const LIMITS: ClientLimits = ClientLimits {
    connect_timeout_ms: ANSWER_TIMEOUT_MS,
    request_timeout_ms: ANSWER_TIMEOUT_MS,
    response_max_bytes: 16 * 1024,
    pool_idle_timeout_ms: 0,
    pool_max_idle_per_host: 0,
};

impl Agent {
    /// Says what can be seen of the node.
    pub async fn observe_node(&self, request: &ObserveRequest) -> Result<ObserveAnswer, Error> {
        let (sign, alive) =
            tokio::join!(self.sign_of_life(&request.node), self.stream_alive(&request.node));
        let (sign, stream_alive) = (sign?, alive?);
        let quiet_ms = sign.as_ref().and_then(|sign| sign.quiet_ms);
        Ok(ObserveAnswer { agent_reachable: sign.is_some(), stream_alive, quiet_ms })
    }

    /// What the ledger node's agent says, if it gives a sign of life.
    pub(crate) async fn sign_of_life(&self, node: &NodeId) -> Result<Option<AliveAnswer>, Error> {
        let topology = self.control.topology();
        let topology = topology.ok_or(Error::ControlAway("no topology is known yet"))?;
        let ledger = topology.ledger(node);
        let ledger = ledger
            .ok_or_else(|| Error::State(format!("the topology has no ledger node {node}")))?;
        let url = format!("{}{}", ledger.agent, paths::ALIVE);
        let answer = self.outside()?.get_json::<AliveAnswer>(&url).await;
        Ok(answer.ok().filter(|answer| &answer.node == node))
    }

    // `None` when this node does not stream from that one.
    async fn stream_alive(&self, node: &NodeId) -> Result<Option<bool>, Error> {
        let follows = match self.config.kind {
            NodeKind::Ledger => self.memory().joined.is_some_and(|joined| &joined.source == node),
            NodeKind::Reader => self.subscribes_to(node).await?,
        };
        let lately = self.silence_ms().filter(|_| follows);
        Ok(lately.map(|silence_ms| silence_ms < SILENCE_MS))
    }

    /// The agent's certificates as a client; follows their renewal. Needs a runtime.
    pub(crate) fn outside_tls(&self) -> Result<Arc<ClientTls>, Error> {
        let tls = ClientTls::load(&self.config.tls).inspect(ClientTls::watch);
        tls.map_err(|error| Error::step("load the agent's certificates", error))
    }

    // Made when it is first needed: most agents are never asked.
    fn outside(&self) -> Result<&HttpClient, Error> {
        if let Some(client) = self.outside.get() {
            return Ok(client);
        }
        let tls = self.outside_tls()?;
        Ok(self.outside.get_or_init(|| HttpClient::new(&tls, LIMITS)))
    }
}
