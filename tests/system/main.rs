//! System tests: whole clusters of real processes, seen from outside.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod administration;
mod answers;
mod chaos;
mod crash_points;
mod demo;
mod etcd_roles;
mod faults;
mod floor;
mod forced;
mod incidents;
mod late_opening;
mod loss;
mod loss_money;
mod moves;
mod operations;
mod path;
mod refusals;
mod silent_writers;
mod standby;
mod tls;
mod tls_return;
mod wallets;
mod writers;
