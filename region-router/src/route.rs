//! Where a request may go: pure, from method, path, claim, topology, control record and health.
//!
//! Invariants: no decision names an upstream outside what the topology permits for the jurisdiction;
//! what is unknown is refused, never defaulted; a reader is used only while its last probe was good,
//! a writer only in the region the control record names.
//! Deliberately absent: IO, retries, tokens. The proxy asks, and asks again when it retries.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use domicile_core::{
    error::Code,
    ids::{Jurisdiction, NodeId, RegionId},
};
use domicile_topology::Topology;
use http::{Method, uri::Authority};

/// The kind of service behind an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes writes.
    Writer,
    /// Serves proofs of the jurisdictions it holds.
    Reader,
}

impl Role {
    /// As metrics and spans name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Reader => "reader",
        }
    }
}

/// A service this router may send requests to.
#[derive(Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The node, as the topology and its certificate name it.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// Where it listens.
    pub authority: Authority,
}

/// What a request asks for, by method and path alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An operator's signed request; the writer checks the signature.
    Operator,
    /// A browser's preflight; the writer knows the allowed origins.
    Preflight,
    /// Changes something for the token's session.
    PlayerWrite,
    /// Watches the rounds of the token's game: a long answer of the writer.
    PlayerStream,
    /// Reads something in the token's jurisdiction.
    PlayerRead,
    /// The public log of the jurisdiction in the path.
    Log(Jurisdiction),
    /// The verification page: the same everywhere, and no data in it.
    Page,
}

impl Target {
    /// As metrics and spans name it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Preflight => "preflight",
            Self::PlayerWrite => "player-write",
            Self::PlayerStream => "player-stream",
            Self::PlayerRead => "player-read",
            Self::Log(_) => "log",
            Self::Page => "page",
        }
    }

    /// Whether a verified token is needed before a decision can be made.
    pub const fn needs_token(&self) -> bool {
        matches!(self, Self::PlayerWrite | Self::PlayerStream | Self::PlayerRead)
    }
}

/// Reads method and path. Paths have one spelling: nothing is decoded or normalised, so that the
/// upstream cannot read another path than the one decided on.
pub fn classify(method: &Method, path: &str) -> Result<Target, Code> {
    if !is_plain(path) {
        return Err(Code::MalformedRequest);
    }
    let path = path.strip_prefix('/').unwrap_or(path);
    let (first, rest) = path.split_once('/').map_or((path, None), |(f, r)| (f, Some(r)));
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let writes = matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
    match (first, rest) {
        ("operator" | "v1", Some(_)) if *method == Method::OPTIONS => Ok(Target::Preflight),
        ("operator", Some(_)) if reads || writes => Ok(Target::Operator),
        // Reading the session may start its next seed chain; wallets are asked by the writer.
        ("v1", Some("session" | "session/balance")) if reads => Ok(Target::PlayerWrite),
        ("v1", Some("rounds/stream")) if *method == Method::GET => Ok(Target::PlayerStream),
        ("v1", Some(_)) if writes => Ok(Target::PlayerWrite),
        ("v1", Some(_)) if reads => Ok(Target::PlayerRead),
        ("log", Some(rest)) if reads => log_of(rest),
        ("verify", None) if reads => Ok(Target::Page),
        ("operator" | "v1" | "log", Some(_)) | ("verify", None) => Err(Code::MethodNotAllowed),
        _ => Err(Code::NotFound),
    }
}

fn log_of(rest: &str) -> Result<Target, Code> {
    let (jurisdiction, _) = rest.split_once('/').ok_or(Code::NotFound)?;
    Jurisdiction::parse(jurisdiction).ok().map(Target::Log).ok_or(Code::JurisdictionUnknown)
}

fn is_plain(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'.' | b'_');
    path.starts_with('/')
        && path.bytes().all(plain)
        && path.split('/').skip(1).all(|part| !matches!(part, "." | ".."))
        && !path.contains("//")
}

/// What the topology permits, compiled once per document for this router's region.
#[derive(Debug, Default)]
pub struct Routes {
    places: HashMap<Jurisdiction, Place>,
    writers: BTreeMap<RegionId, Vec<Arc<Upstream>>>,
    upstreams: Vec<Arc<Upstream>>,
    page_readers: Readers,
}

#[derive(Debug)]
struct Place {
    may_serve: bool,
    permitted_routers: Arc<[String]>,
    readers: Readers,
    writer_regions: BTreeSet<RegionId>,
    publish_log: bool,
}

#[derive(Debug, Default)]
struct Readers {
    near: Vec<Arc<Upstream>>,
    far: Vec<Arc<Upstream>>,
}

/// Where to send the request: the first, and those that may be tried instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// What kind of upstream.
    pub role: Role,
    /// In order of preference; never empty.
    pub candidates: Vec<Arc<Upstream>>,
}

/// Why there is nowhere to send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code the caller sees.
    pub code: Code,
    /// Base addresses of routers that may serve the jurisdiction; only for a misdirected request.
    pub permitted: Arc<[String]>,
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self { code, permitted: Arc::default() }
    }
}

/// What changes from moment to moment.
#[derive(Clone, Copy)]
pub struct Now<'a> {
    /// The region of the control record, as last known.
    pub writer_region: Option<&'a RegionId>,
    /// Whether the node's last probe was good.
    pub ready: &'a dyn Fn(&NodeId) -> bool,
    /// Any number: spreads requests over upstreams of equal preference.
    pub spread: usize,
}

impl Routes {
    /// Compiles the document for a router in `region`.
    pub fn new(topology: &Topology, region: &RegionId) -> Self {
        let mut routes = Self::default();
        for writer in &topology.writers {
            let upstream = routes.add(&writer.node, Role::Writer, &writer.endpoint.to_string());
            routes.writers.entry(writer.region.clone()).or_default().extend(upstream);
        }
        let mut readers = HashMap::new();
        for reader in &topology.readers {
            let upstream = routes.add(&reader.node, Role::Reader, &reader.endpoint.to_string());
            readers.extend(upstream.map(|upstream| (&reader.node, upstream)));
        }
        for policy in &topology.jurisdictions {
            let may_serve = topology.router_may_serve(region, &policy.code);
            let permitted_routers = topology.permitted_routers(&policy.code).into_iter();
            let mut place = Place {
                may_serve,
                permitted_routers: permitted_routers.map(|r| r.endpoint.to_string()).collect(),
                readers: Readers::default(),
                writer_regions: policy.writer_regions.clone(),
                publish_log: policy.publish_log,
            };
            for reader in topology.permitted_readers(&policy.code) {
                if let Some(upstream) = readers.get(&reader.node) {
                    let near = &reader.region == region;
                    place.readers.add(upstream, near);
                    if may_serve {
                        routes.page_readers.add(upstream, near);
                    }
                }
            }
            routes.places.insert(policy.code.clone(), place);
        }
        routes
    }

    fn add(&mut self, node: &NodeId, role: Role, endpoint: &str) -> Option<Arc<Upstream>> {
        let authority = endpoint.strip_prefix("https://")?.parse().ok()?;
        let upstream = Arc::new(Upstream { node: node.clone(), role, authority });
        self.upstreams.push(upstream.clone());
        Some(upstream)
    }

    /// Everything a request may be sent to, for probing and for checking certificates.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// Whether the document knows the jurisdiction (keeps labels of metrics few).
    pub fn knows(&self, jurisdiction: &Jurisdiction) -> bool {
        self.places.contains_key(jurisdiction)
    }

    /// Decides. `claim` is the verified token's jurisdiction.
    pub fn decide(
        &self,
        target: &Target,
        claim: Option<&Jurisdiction>,
        now: Now<'_>,
    ) -> Result<Forward, Refusal> {
        match target {
            Target::Operator | Target::Preflight => self.writer(now),
            Target::Page => self.page_readers.choose(now),
            Target::PlayerWrite | Target::PlayerStream => {
                let place = self.place(claim.ok_or(Code::TokenMissing)?)?;
                let writer_region = now.writer_region.ok_or(Code::WriterUnavailable)?;
                if !place.writer_regions.contains(writer_region) {
                    return Err(Code::JurisdictionSuspended.into());
                }
                self.writer(now)
            }
            Target::PlayerRead => self.place(claim.ok_or(Code::TokenMissing)?)?.readers.choose(now),
            Target::Log(jurisdiction) => {
                let place = self.place(jurisdiction)?;
                if !place.publish_log {
                    return Err(Code::NotFound.into());
                }
                place.readers.choose(now)
            }
        }
    }

    fn place(&self, jurisdiction: &Jurisdiction) -> Result<&Place, Refusal> {
        let place = self.places.get(jurisdiction).ok_or(Code::JurisdictionUnknown)?;
        if place.may_serve {
            Ok(place)
        } else {
            let permitted = place.permitted_routers.clone();
            Err(Refusal { code: Code::JurisdictionMisdirected, permitted })
        }
    }

    /// The writers of the record's region, the ready ones first and in turn. One that is not ready is still
    /// asked last: it refuses by itself, and its probe may only be late.
    fn writer(&self, now: Now<'_>) -> Result<Forward, Refusal> {
        let region = now.writer_region.ok_or(Code::WriterUnavailable)?;
        let writers = self.writers.get(region).ok_or(Code::WriterUnavailable)?;
        let (mut candidates, late): (Vec<_>, Vec<_>) =
            writers.iter().cloned().partition(|writer| (now.ready)(&writer.node));
        if !candidates.is_empty() {
            let first = now.spread % candidates.len();
            candidates.rotate_left(first);
        }
        candidates.extend(late);
        Ok(Forward { role: Role::Writer, candidates })
    }
}

impl Readers {
    fn add(&mut self, reader: &Arc<Upstream>, near: bool) {
        let group = if near { &mut self.near } else { &mut self.far };
        if !group.contains(reader) {
            group.push(reader.clone());
        }
    }

    fn choose(&self, now: Now<'_>) -> Result<Forward, Refusal> {
        let mut candidates = Vec::new();
        for group in [&self.near, &self.far] {
            let start = candidates.len();
            candidates.extend(group.iter().filter(|r| (now.ready)(&r.node)).cloned());
            if let Some(group) = candidates.get_mut(start..).filter(|group| !group.is_empty()) {
                group.rotate_left(now.spread % group.len());
            }
        }
        if candidates.is_empty() {
            return Err(Code::NoPermittedReader.into());
        }
        Ok(Forward { role: Role::Reader, candidates })
    }
}

#[cfg(test)]
mod tests;
