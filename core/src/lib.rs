//! Domicile's domain, pure: no IO, no clock, no randomness, no runtime.
//!
//! What a round is, how it is proven and who may see it is decided here and tested without a server.
//! Time, randomness and ids come in as arguments; bytes go out as values.

pub mod base64;
pub mod bundle;
pub mod checkpoint;
pub mod claims;
pub mod conservation;
pub mod epoch;
pub mod error;
pub mod games;
pub mod hex;
pub mod ids;
pub mod leaf;
pub mod limits;
pub mod lines;
pub mod log;
pub mod money;
pub mod note;
pub mod operation;
pub mod operator_auth;
pub mod outcome;
pub mod receipt;
pub mod record;
pub mod seal;
pub mod seed;
pub mod tlog_proof;
pub mod verify;
pub mod wallet;
