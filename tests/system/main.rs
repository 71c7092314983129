//! System tests: whole clusters of real processes, seen from outside.

mod faults;
mod path;
mod refusals;
mod standby;
