//! What each kind of entry consists of.
//!
//! Invariant: every key of an entry is read before any of them can end the reading, so that all its
//! mistakes are reported together.

use super::Section;
use crate::address::{Address, ServiceUrl};
use crate::check::Places;
use crate::document::{
    Durability, DurabilityPolicy, EtcdNode, FailoverMode, FailoverPolicy, JurisdictionPolicy,
    LedgerNode, LogKey, ReaderNode, ReceiptKey, Region, RouterNode, SessionKey, TokenAlgorithm,
    Topology, WriterNode,
};
use crate::keys;
use crate::limits::{MAX_GENERATION, MAX_LAG_LIMIT_MS, MIN_LAG_LIMIT_MS};
use domicile_core::ids::{ClusterId, Jurisdiction, NodeId, RegionId};

pub(super) fn topology(s: &mut Section<'_>, places: &mut Places) -> Option<Topology> {
    let cluster = s.text("cluster", ClusterId::parse);
    let generation = s.number("generation", 1, MAX_GENERATION);
    let durability = s.table("durability", places, durability);
    let failover = s.table("failover", places, failover);
    let regions = s.tables("region", places, region);
    let etcd = s.tables("etcd", places, etcd);
    let ledgers = s.tables("ledger", places, ledger);
    let readers = s.tables("reader", places, reader);
    let writers = s.tables("writer", places, writer);
    let routers = s.tables("router", places, router);
    let jurisdictions = s.tables("jurisdiction", places, jurisdiction);
    let session_keys = s.tables("session_key", places, session_key);
    let log_keys = s.tables("log_key", places, log_key);
    let receipt_keys = s.tables("receipt_key", places, receipt_key);
    Some(Topology {
        cluster: cluster?,
        generation: generation?,
        durability: durability?,
        failover: failover?,
        regions: regions?,
        etcd: etcd?,
        ledgers: ledgers?,
        readers: readers?,
        writers: writers?,
        routers: routers?,
        jurisdictions: jurisdictions?,
        session_keys: session_keys?,
        log_keys: log_keys?,
        receipt_keys: receipt_keys?,
    })
}

fn durability(s: &mut Section<'_>) -> Option<DurabilityPolicy> {
    let mode = s.choice("mode", &[("two", Durability::Two), ("one", Durability::One)])?;
    Some(DurabilityPolicy { mode })
}

fn failover(s: &mut Section<'_>) -> Option<FailoverPolicy> {
    let words = [("manual", FailoverMode::Manual), ("automatic", FailoverMode::Automatic)];
    let policy = s.choice("policy", &words);
    let preferred_region = s.text("preferred_region", RegionId::parse);
    Some(FailoverPolicy { policy: policy?, preferred_region: preferred_region? })
}

fn region(s: &mut Section<'_>) -> Option<Region> {
    let id = s.text("id", RegionId::parse);
    let country = s.text("country", Jurisdiction::parse);
    Some(Region { id: id?, country: country? })
}

fn etcd(s: &mut Section<'_>) -> Option<EtcdNode> {
    let (node, region) = node_and_region(s);
    let client = s.text("client", ServiceUrl::parse);
    let peer = s.text("peer", ServiceUrl::parse);
    Some(EtcdNode { node: node?, region: region?, client: client?, peer: peer? })
}

fn ledger(s: &mut Section<'_>) -> Option<LedgerNode> {
    let (node, region) = node_and_region(s);
    let postgres = s.text("postgres", Address::parse);
    let agent = s.text("agent", ServiceUrl::parse);
    let admin = s.text("admin", Address::parse);
    Some(LedgerNode {
        node: node?,
        region: region?,
        postgres: postgres?,
        agent: agent?,
        admin: admin?,
    })
}

fn reader(s: &mut Section<'_>) -> Option<ReaderNode> {
    let (node, region) = node_and_region(s);
    let jurisdictions = s.set("jurisdictions", Jurisdiction::parse);
    let postgres = s.text("postgres", Address::parse);
    let agent = s.text("agent", ServiceUrl::parse);
    let agent_admin = s.text("agent_admin", Address::parse);
    let endpoint = s.text("endpoint", ServiceUrl::parse);
    let admin = s.text("admin", Address::parse);
    Some(ReaderNode {
        node: node?,
        region: region?,
        jurisdictions: jurisdictions?,
        postgres: postgres?,
        agent: agent?,
        agent_admin: agent_admin?,
        endpoint: endpoint?,
        admin: admin?,
    })
}

fn writer(s: &mut Section<'_>) -> Option<WriterNode> {
    let (node, region) = node_and_region(s);
    let endpoint = s.text("endpoint", ServiceUrl::parse);
    let admin = s.text("admin", Address::parse);
    Some(WriterNode { node: node?, region: region?, endpoint: endpoint?, admin: admin? })
}

fn router(s: &mut Section<'_>) -> Option<RouterNode> {
    let (node, region) = node_and_region(s);
    let endpoint = s.text("endpoint", ServiceUrl::parse);
    let admin = s.text("admin", Address::parse);
    Some(RouterNode { node: node?, region: region?, endpoint: endpoint?, admin: admin? })
}

fn node_and_region(s: &mut Section<'_>) -> (Option<NodeId>, Option<RegionId>) {
    (s.text("node", NodeId::parse), s.text("region", RegionId::parse))
}

fn jurisdiction(s: &mut Section<'_>) -> Option<JurisdictionPolicy> {
    let code = s.text("code", Jurisdiction::parse);
    let writer_regions = s.set("writer_regions", RegionId::parse);
    let required_copy_regions = s.set("required_copy_regions", RegionId::parse);
    let allowed_regions = s.set("allowed_regions", RegionId::parse);
    let serve_regions = s.set_or("serve_regions", RegionId::parse, allowed_regions.clone());
    let lag_limit_ms = s.number("lag_limit_ms", MIN_LAG_LIMIT_MS, MAX_LAG_LIMIT_MS);
    let publish_log = s.flag("publish_log");
    Some(JurisdictionPolicy {
        code: code?,
        writer_regions: writer_regions?,
        required_copy_regions: required_copy_regions?,
        allowed_regions: allowed_regions?,
        serve_regions: serve_regions?,
        lag_limit_ms: lag_limit_ms?,
        publish_log: publish_log?,
    })
}

fn session_key(s: &mut Section<'_>) -> Option<SessionKey> {
    let kid = s.text("kid", keys::parse_kid);
    let region = s.text("region", RegionId::parse);
    let words = [("EdDSA", TokenAlgorithm::EdDsa), ("ES256", TokenAlgorithm::Es256)];
    let algorithm = s.choice("algorithm", &words);
    let public_key = match algorithm {
        Some(algorithm) => s.text("public_key", |pem| keys::parse_public_key(pem, algorithm)),
        None => s.text("public_key", |pem| Ok::<_, String>(pem.to_owned())),
    };
    Some(SessionKey { kid: kid?, region: region?, algorithm: algorithm?, public_key: public_key? })
}

fn log_key(s: &mut Section<'_>) -> Option<LogKey> {
    let jurisdiction = s.text("jurisdiction", Jurisdiction::parse);
    let epoch = s.number("epoch", 1, u64::from(u32::MAX));
    let vkey = s.text("vkey", keys::parse_vkey);
    let epoch = u32::try_from(epoch?).ok();
    Some(LogKey { jurisdiction: jurisdiction?, epoch: epoch?, vkey: vkey? })
}

fn receipt_key(s: &mut Section<'_>) -> Option<ReceiptKey> {
    let vkey = s.text("vkey", keys::parse_vkey)?;
    Some(ReceiptKey { vkey })
}
