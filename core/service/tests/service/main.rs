//! The process kit over real sockets with real certificates.
#![cfg(test)]

mod drain;
mod limits;
mod mutual_tls;
mod requests;
mod support;
mod tokens;
