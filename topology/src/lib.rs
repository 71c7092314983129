//! The topology of a cluster, pure: the document, its residency policy, what agents observe and answer.

pub mod agent_api;
pub mod member;
