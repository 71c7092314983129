//! The process kit: what every Domicile server, and the operator's CLI, does in the same way.
//!
//! Configuration, telemetry, TLS, listeners, bodies, problems, tokens, clients, readiness and leaving in
//! order live here once. Nothing here knows the domain beyond ids, error codes and claims.

pub mod admin;
pub mod body;
pub mod client;
pub mod clock;
pub mod config;
pub mod drain;
pub mod health;
pub mod ids;
pub mod listener;
pub mod peer;
pub mod problem;
pub mod request;
pub mod tasks;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;
pub mod token;
pub mod trace;
