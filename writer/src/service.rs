//! What the handlers share: the engine of the epoch being served, if any, and the token verifier.
//!
//! Invariant: without an engine nothing is served; once leaving, or the writer's move, has begun no new work is taken.

use crate::answer::Failure;
use crate::engine::Engine;
use crate::stream::Hub;
use arc_swap::ArcSwapOption;
use domicile_core::error::Code;
use domicile_service::drain::Drain;
use domicile_service::token::TokenVerifier;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The shared state of all handlers.
#[derive(Debug)]
pub struct Service {
    /// Verifies players' tokens.
    pub tokens: TokenVerifier,
    /// Those who watch rounds.
    pub streams: Hub,
    engine: ArcSwapOption<Engine>,
    closing: AtomicBool,
    one_copy: AtomicBool,
    drain: Drain,
}

impl Service {
    /// A service that serves nothing yet.
    pub fn new(tokens: TokenVerifier, drain: Drain) -> Self {
        let engine = ArcSwapOption::const_empty();
        let (closing, one_copy) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { tokens, streams: Hub::default(), engine, closing, one_copy, drain }
    }

    /// The engine, for one request.
    pub fn engine(&self) -> Result<Arc<Engine>, Failure> {
        if self.drain.has_begun() || self.closing.load(Ordering::Acquire) {
            return Err(Failure::new(Code::WriterDraining));
        }
        let engine = self.engine.load_full().ok_or(Failure::new(Code::NotWriter))?;
        // What it would write could not be told.
        if engine.tenure.holds() { Ok(engine) } else { Err(Failure::new(Code::NotWriter)) }
    }

    /// Begins to serve with this engine.
    pub fn serve(&self, engine: Arc<Engine>) {
        self.engine.store(Some(engine));
        self.closing.store(false, Ordering::Release);
    }

    /// Takes no new work; requests that hold the engine go on. `closing`: because the writer is about to move.
    pub fn pause(&self, closing: bool) {
        self.closing.store(closing, Ordering::Release);
        self.engine.store(None);
    }

    /// Says whether answers are on one region's disk only (`durability: one`).
    pub fn set_one_copy(&self, one_copy: bool) {
        self.one_copy.store(one_copy, Ordering::Release);
        metrics::gauge!("domicile_writer_one_copy").set(if one_copy { 1.0 } else { 0.0 });
    }

    /// Whether answers are on one region's disk only.
    pub fn one_copy(&self) -> bool {
        self.one_copy.load(Ordering::Acquire)
    }
}
