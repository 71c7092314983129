//! A client with several ways in: it takes the first router until that fails, then the next.

use crate::http::{Answer, Outside, Silence};
use anyhow::Result;
use bytes::Bytes;
use domicile_topology::document::RouterNode;
use http::Request;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A client of some routers.
#[derive(Debug, Clone)]
pub struct Caller {
    http: Outside,
    bases: Arc<[String]>,
    current: Arc<AtomicUsize>,
}

impl Caller {
    /// A client of these routers, in the order of preference.
    pub fn new<'a>(http: &Outside, routers: impl Iterator<Item = &'a RouterNode>) -> Self {
        let bases = routers.map(|router| router.endpoint.to_string()).collect();
        Self { http: http.clone(), bases, current: Arc::new(AtomicUsize::new(0)) }
    }

    /// Every way in.
    pub fn bases(&self) -> &[String] {
        &self.bases
    }

    /// Sends what `build` makes for a base address; a router that does not answer is left.
    pub async fn send(
        &self,
        build: impl Fn(&str) -> Result<Request<Bytes>>,
    ) -> Result<Result<Answer, Silence>> {
        let place = self.current.load(Ordering::Relaxed);
        let used = place.checked_rem(self.bases.len()).unwrap_or_default();
        let base = self.bases.get(used).map(String::as_str).unwrap_or_default();
        let answer = self.http.send(build(base)?).await;
        if answer.is_err() {
            self.leave(place);
        }
        Ok(answer)
    }

    /// Sends to one base address.
    pub async fn send_to(&self, request: Request<Bytes>) -> Result<Answer, Silence> {
        self.http.send(request).await
    }

    fn leave(&self, place: usize) {
        // Several requests that fail together leave it once.
        let next = place.wrapping_add(1);
        let _left =
            self.current.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
