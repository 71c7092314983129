//! The control plane's client against real etcd processes, over mutual TLS.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod cluster;
mod failover;
mod leases;
mod plans;
mod record;
mod roles;
mod store;
mod tls;
mod topology;
mod watch;
