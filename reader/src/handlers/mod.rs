//! One file per subject of the API.

pub(crate) mod bets;
pub(crate) mod logs;
pub(crate) mod page;
pub(crate) mod rounds;
