//! The global writer: operators' and players' requests become ledger rows, log leaves and signed receipts.
//!
//! A request passes `http` (limits, identity) into a flow – `play`, `bet`, `round`, `session` – that looks at
//! the ledger, prepares and writes. Concurrent plays and bets share transactions (`lane`); operators'
//! requests are transactions of their own (`change`). Stakes and wins go to and from operators' wallets
//! (`wallet`). The log's writing side is `log`; `lifecycle` ties all of it to the control record's epoch.
//!
//! Invariants: a success answer is built from a `Durable` commit (`answer`); every write reads the epoch
//! (`ledger`); one effect per key (`ledger::requests`); a seed is revealed only by the transaction after which
//! nothing can be bet under it.
//! Deliberately absent: what wallets' answers mean (`domicile_core::wallet`).

pub mod admin;
pub mod answer;
pub mod audit;
pub mod change;
pub mod config;
pub mod desk;
pub mod engine;
pub mod hands;
pub mod http;
pub mod keys;
pub mod lane;
pub mod lease;
#[macro_use]
pub mod ledger;
pub mod lifecycle;
pub mod limits;
pub mod log;
pub mod operations;
pub mod pending;
mod recent;
pub mod round_state;
pub mod service;
pub mod sweep;
pub mod terms;

pub mod bet;
pub mod chain;
pub mod directory;
pub mod floor;
pub mod gates;
pub mod loss;
pub mod meters;
pub mod order;
pub mod play;
pub mod player;
pub mod round;
pub mod session;
pub mod stream;
pub mod wallet;
