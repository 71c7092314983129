//! The region's way in: verifies the token once, reads its jurisdiction, and sends the request to the
//! current writer or to a reader that may serve it – never anywhere else.

pub mod body;
pub mod config;
pub mod connect;
pub mod forward;
pub mod headers;
pub mod proxy;
pub mod quota;
pub mod route;
pub mod upstream;
