//! Leases: keys that end when their holder falls silent.
//!
//! A holder takes the time on its own clock *before* it sends a keep-alive: the lease runs at least
//! the returned time to live from that moment.

use super::Etcd;
use super::endpoints::{Attempts, Method, chain, method, with_leader};
use super::messages::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseRevokeRequest, LeaseRevokeResponse,
};
use crate::config::limits;
use crate::error::Error;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

const GRANT: Method = method("lease-grant", "/etcdserverpb.Lease/LeaseGrant");
const REVOKE: Method = method("lease-revoke", "/etcdserverpb.Lease/LeaseRevoke");
const KEEP_ALIVE: Method = Method {
    attempt_timeout_ms: limits::KEEP_ALIVE_ATTEMPT_TIMEOUT_MS,
    ..method("lease-keep-alive", "/etcdserverpb.Lease/LeaseKeepAlive")
};

/// The number of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(pub i64);

/// A lease as granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its number.
    pub id: LeaseId,
    /// How long it runs without a keep-alive, seconds; at least what was asked for.
    pub ttl_s: i64,
}

impl Etcd {
    /// Asks for a lease of `ttl_s` seconds.
    ///
    /// After a lost answer another one is asked for; the first ends by itself, with nothing on it.
    pub async fn lease_grant(&self, ttl_s: i64) -> Result<Lease, Error> {
        let request = LeaseGrantRequest { ttl_s };
        let answer: LeaseGrantResponse = self.0.call(GRANT, request, Attempts::Repeatable).await?;
        Ok(Lease { id: LeaseId(answer.id), ttl_s: answer.ttl_s })
    }

    /// Renews a lease once; how long it runs from when this was sent, seconds.
    pub async fn lease_keep_alive(&self, lease: LeaseId) -> Result<i64, Error> {
        self.lease_keep_alive_noting(lease, || ()).await
    }

    /// The same; `sending` is called just before each attempt.
    pub(crate) async fn lease_keep_alive_noting(
        &self,
        lease: LeaseId,
        sending: impl Fn(),
    ) -> Result<i64, Error> {
        let renew = |channel| {
            sending();
            keep_alive(channel, lease)
        };
        match self.0.ask(KEEP_ALIVE, Attempts::Repeatable, renew).await? {
            ttl_s if ttl_s > 0 => Ok(ttl_s),
            _ => Err(Error::LeaseGone),
        }
    }

    /// Ends a lease and removes the keys on it; one that has ended already is fine.
    pub async fn lease_revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let request = LeaseRevokeRequest { id: lease.0 };
        let answer = self.0.call(REVOKE, request, Attempts::Repeatable).await;
        match answer.map(|_: LeaseRevokeResponse| ()) {
            Err(Error::Refused { cause, .. }) if cause.contains("lease not found") => Ok(()),
            Err(Error::RoleInsufficient { operation, .. }) => {
                let needed = "this needs a role that may change every key on the lease".to_owned();
                Err(Error::RoleInsufficient { operation, needed })
            }
            other => other,
        }
    }
}

/// One renewal over a stream that ends with it.
async fn keep_alive(channel: Channel, lease: LeaseId) -> Result<i64, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
    let requests = tokio_stream::once(LeaseKeepAliveRequest { id: lease.0 });
    let path = PathAndQuery::from_static(KEEP_ALIVE.path);
    let codec = ProstCodec::<LeaseKeepAliveRequest, LeaseKeepAliveResponse>::default();
    let mut answers = client.streaming(with_leader(requests), path, codec).await?.into_inner();
    let answer = answers.message().await?;
    answer.map(|answer| answer.ttl_s).ok_or_else(|| Status::unavailable("the stream ended"))
}
