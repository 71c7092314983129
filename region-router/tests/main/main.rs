//! The router as a black box: real connections, real certificates, upstreams that do as they are told.

#![cfg(test)]

mod fixture;
mod limits;
mod moves;
mod reads;
mod routing;
mod tls;
mod writes;
