use std::collections::BTreeSet;

use domicile_topology::address::{Address, ServiceUrl};
use domicile_topology::document::{
    Durability, DurabilityPolicy, FailoverMode, FailoverPolicy, JurisdictionPolicy, ReaderNode,
    RouterNode, WriterNode,
};
use proptest::prelude::*;

use super::*;

const REGIONS: [&str; 4] = ["mt-1", "de-1", "nl-1", "us-1"];
const JURISDICTIONS: [&str; 4] = ["MT", "DE", "NL", "US-NJ"];

fn region(index: usize) -> RegionId {
    RegionId::parse(REGIONS[index]).unwrap()
}

fn jurisdiction(index: usize) -> Jurisdiction {
    Jurisdiction::parse(JURISDICTIONS[index]).unwrap()
}

fn node(text: &str) -> NodeId {
    NodeId::parse(text).unwrap()
}

fn url(port: usize) -> ServiceUrl {
    ServiceUrl::parse(&format!("https://127.0.0.1:{port}")).unwrap()
}

fn address(port: usize) -> Address {
    Address::parse(&format!("127.0.0.1:{port}")).unwrap()
}

fn regions(indexes: &BTreeSet<usize>) -> BTreeSet<RegionId> {
    indexes.iter().map(|index| region(*index)).collect()
}

fn reader(name: &str, at: usize, holds: &BTreeSet<usize>, port: usize) -> ReaderNode {
    ReaderNode {
        node: node(name),
        region: region(at),
        jurisdictions: holds.iter().map(|index| jurisdiction(*index)).collect(),
        postgres: address(port),
        agent: url(port + 1),
        agent_admin: address(port + 4),
        endpoint: url(port + 2),
        admin: address(port + 3),
    }
}

fn topology(policies: Vec<JurisdictionPolicy>, readers: Vec<ReaderNode>) -> Topology {
    let per_region = |role: &'static str, base: usize| {
        (0..REGIONS.len()).map(move |at| {
            (node(&format!("{role}-{}", REGIONS[at])), region(at), url(base + at), address(base))
        })
    };
    Topology {
        cluster: "demo".parse().unwrap(),
        generation: 1,
        durability: DurabilityPolicy { mode: Durability::Two },
        failover: FailoverPolicy { policy: FailoverMode::Manual, preferred_region: region(0) },
        regions: Vec::new(),
        etcd: Vec::new(),
        ledgers: Vec::new(),
        readers,
        writers: per_region("writer", 7000)
            .map(|(node, region, endpoint, admin)| WriterNode { node, region, endpoint, admin })
            .collect(),
        routers: per_region("router", 8000)
            .map(|(node, region, endpoint, admin)| RouterNode { node, region, endpoint, admin })
            .collect(),
        jurisdictions: policies,
        session_keys: Vec::new(),
        log_keys: Vec::new(),
        receipt_keys: Vec::new(),
    }
}

fn policy(
    index: usize,
    write: &[usize],
    allowed: &[usize],
    serve: &[usize],
    publish_log: bool,
) -> JurisdictionPolicy {
    let set = |indexes: &[usize]| regions(&indexes.iter().copied().collect());
    JurisdictionPolicy {
        code: jurisdiction(index),
        writer_regions: set(write),
        required_copy_regions: BTreeSet::new(),
        allowed_regions: set(allowed),
        serve_regions: set(serve),
        lag_limit_ms: 5000,
        publish_log,
    }
}

/// MT may be in Malta and Germany, DE in Germany alone; NL has no reader; the US has none of it.
fn example() -> Topology {
    let policies = vec![
        policy(0, &[0, 1], &[0, 1], &[0, 1], true),
        policy(1, &[1], &[1], &[0, 1], false),
        policy(2, &[0], &[2], &[0, 1, 2], true),
    ];
    let readers = vec![
        reader("reader-mt", 0, &[0].into(), 9000),
        reader("reader-mt-b", 0, &[0].into(), 9010),
        reader("reader-de", 1, &[0, 1].into(), 9020),
    ];
    topology(policies, readers)
}

struct Ask<'a> {
    at: usize,
    writer: Option<usize>,
    down: &'a [&'a str],
    spread: usize,
}

const ALL_UP: Ask<'static> = Ask { at: 0, writer: Some(0), down: &[], spread: 0 };

impl Ask<'_> {
    fn decide(
        &self,
        topology: &Topology,
        target: &Target,
        claim: Option<&Jurisdiction>,
    ) -> Result<Forward, Refusal> {
        let writer_region = self.writer.map(region);
        let ready = |node: &NodeId| !self.down.contains(&node.as_str());
        let now = Now { writer_region: writer_region.as_ref(), ready: &ready, spread: self.spread };
        Routes::new(topology, &region(self.at)).decide(target, claim, now)
    }

    fn nodes(&self, target: &Target, claim: Option<&str>) -> Result<Vec<String>, Code> {
        let claim = claim.map(|text| Jurisdiction::parse(text).unwrap());
        let decision = self.decide(&example(), target, claim.as_ref());
        let forward = decision.map_err(|refusal| refusal.code)?;
        Ok(forward.candidates.iter().map(|upstream| upstream.node.to_string()).collect())
    }
}

fn log(text: &str) -> Target {
    Target::Log(Jurisdiction::parse(text).unwrap())
}

#[test]
fn paths_have_one_reading() {
    let (get, post, options) = (Method::GET, Method::POST, Method::OPTIONS);
    let (write, read) = (Ok(Target::PlayerWrite), Ok(Target::PlayerRead));
    let cases: [(&Method, &str, Result<Target, Code>); 37] = [
        (&get, "/v1/session", write.clone()),
        (&Method::HEAD, "/v1/session", write.clone()),
        (&get, "/v1/session/balance", write.clone()),
        (&post, "/v1/plays", write.clone()),
        (&Method::DELETE, "/v1/plays", write.clone()),
        (&post, "/v1/rounds/0190/bets", write),
        (&get, "/v1/rounds/0190/proof", read.clone()),
        (&get, "/v1/bets", read.clone()),
        (&Method::HEAD, "/v1/bets", read.clone()),
        (&get, "/v1/rounds/stream", Ok(Target::PlayerStream)),
        (&Method::HEAD, "/v1/rounds/stream", read.clone()),
        (&get, "/v1/rounds/stream/x", read),
        (&options, "/v1/plays", Ok(Target::Preflight)),
        (&options, "/operator/v1/rounds", Ok(Target::Preflight)),
        (&post, "/operator/v1/sessions", Ok(Target::Operator)),
        (&get, "/operator/v1/rounds/0190", Ok(Target::Operator)),
        (&get, "/log/MT/checkpoint", Ok(log("MT"))),
        (&get, "/log/US-NJ/tile/0/x001/234.p/5", Ok(log("US-NJ"))),
        (&get, "/verify", Ok(Target::Page)),
        (&post, "/log/MT/checkpoint", Err(Code::MethodNotAllowed)),
        (&options, "/log/MT/checkpoint", Err(Code::MethodNotAllowed)),
        (&post, "/verify", Err(Code::MethodNotAllowed)),
        (&Method::TRACE, "/v1/bets", Err(Code::MethodNotAllowed)),
        (&Method::CONNECT, "/v1/bets", Err(Code::MethodNotAllowed)),
        (&get, "/log/mt/checkpoint", Err(Code::JurisdictionUnknown)),
        (&get, "/log/MT", Err(Code::NotFound)),
        (&get, "/", Err(Code::NotFound)),
        (&get, "/v1", Err(Code::NotFound)),
        (&get, "/verify/x", Err(Code::NotFound)),
        (&get, "/readyz", Err(Code::NotFound)),
        (&get, "/internal/v1/operators", Err(Code::NotFound)),
        (&post, "/internal/v1/operators", Err(Code::NotFound)),
        (&get, "/log/MT/../DE/checkpoint", Err(Code::MalformedRequest)),
        (&get, "/log/MT%2F../DE/checkpoint", Err(Code::MalformedRequest)),
        (&get, "//log/MT/checkpoint", Err(Code::MalformedRequest)),
        (&get, "/v1\\..\\internal", Err(Code::MalformedRequest)),
        (&get, "*", Err(Code::MalformedRequest)),
    ];
    for (method, path, expected) in cases {
        assert_eq!(classify(method, path), expected, "{method} {path}");
    }
}

#[test]
fn reads_go_to_permitted_ready_readers_the_near_ones_first() {
    let read = Target::PlayerRead;
    let names = |list: &[&str]| Ok(list.iter().map(ToString::to_string).collect::<Vec<_>>());
    let near_first = names(&["reader-mt", "reader-mt-b", "reader-de"]);
    assert_eq!(ALL_UP.nodes(&read, Some("MT")), near_first);
    let spread = Ask { spread: 3, ..ALL_UP };
    let other_first = names(&["reader-mt-b", "reader-mt", "reader-de"]);
    assert_eq!(spread.nodes(&read, Some("MT")), other_first);
    assert_eq!(ALL_UP.nodes(&read, Some("DE")), names(&["reader-de"]));
    assert_eq!(Ask { at: 1, ..ALL_UP }.nodes(&log("MT"), None).unwrap()[0], "reader-de");
    let down = Ask { down: &["reader-mt", "reader-mt-b"], ..ALL_UP };
    assert_eq!(down.nodes(&read, Some("MT")), names(&["reader-de"]));
    let down = Ask { down: &["reader-de"], ..ALL_UP };
    assert_eq!(down.nodes(&read, Some("DE")), Err(Code::NoPermittedReader));
    assert_eq!(ALL_UP.nodes(&read, Some("NL")), Err(Code::NoPermittedReader));
    assert_eq!(ALL_UP.nodes(&read, Some("GB")), Err(Code::JurisdictionUnknown));
    assert_eq!(ALL_UP.nodes(&read, None), Err(Code::TokenMissing));
    assert_eq!(ALL_UP.nodes(&Target::Page, None).unwrap()[0], "reader-mt");
    assert_eq!(Ask { at: 3, ..ALL_UP }.nodes(&Target::Page, None), Err(Code::NoPermittedReader));
}

#[test]
fn logs_are_served_where_they_are_published() {
    assert_eq!(ALL_UP.nodes(&log("MT"), None).unwrap()[0], "reader-mt");
    assert_eq!(ALL_UP.nodes(&log("DE"), None), Err(Code::NotFound));
    assert_eq!(ALL_UP.nodes(&log("GB"), None), Err(Code::JurisdictionUnknown));
    let abroad = Ask { at: 3, ..ALL_UP };
    assert_eq!(abroad.nodes(&log("MT"), None), Err(Code::JurisdictionMisdirected));
}

#[test]
fn writes_follow_the_record_and_the_residency_law() {
    let write = Target::PlayerWrite;
    assert_eq!(ALL_UP.nodes(&write, Some("MT")), Ok(vec!["writer-mt-1".to_owned()]));
    let moved = Ask { writer: Some(1), ..ALL_UP };
    assert_eq!(moved.nodes(&write, Some("MT")), Ok(vec!["writer-de-1".to_owned()]));
    assert_eq!(moved.nodes(&Target::Operator, None), Ok(vec!["writer-de-1".to_owned()]));
    assert_eq!(moved.nodes(&Target::Preflight, None), Ok(vec!["writer-de-1".to_owned()]));
    assert_eq!(ALL_UP.nodes(&write, Some("DE")), Err(Code::JurisdictionSuspended));
    assert_eq!(ALL_UP.nodes(&write, Some("GB")), Err(Code::JurisdictionUnknown));
    let unknown = Ask { writer: None, ..ALL_UP };
    assert_eq!(unknown.nodes(&write, Some("MT")), Err(Code::WriterUnavailable));
    assert_eq!(unknown.nodes(&Target::Operator, None), Err(Code::WriterUnavailable));
    // Not ready is not refused: the writer decides that itself.
    let late = Ask { down: &["writer-mt-1"], ..ALL_UP };
    assert_eq!(late.nodes(&write, Some("MT")), Ok(vec!["writer-mt-1".to_owned()]));
}

#[test]
fn writes_are_spread_over_the_ready_writers_of_the_region() {
    let mut topology = example();
    let second = WriterNode { node: node("writer-mt-1b"), ..topology.writers[0].clone() };
    topology.writers.push(WriterNode { endpoint: url(7500), ..second });
    let order = |ask: Ask<'_>| {
        let forward = ask.decide(&topology, &Target::Operator, None).unwrap();
        forward.candidates.iter().map(|writer| writer.node.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(order(ALL_UP), ["writer-mt-1", "writer-mt-1b"]);
    assert_eq!(order(Ask { spread: 1, ..ALL_UP }), ["writer-mt-1b", "writer-mt-1"]);
    assert_eq!(order(Ask { spread: 2, ..ALL_UP }), order(ALL_UP), "the same one for a session");
    for spread in [0, 1] {
        let ask = Ask { spread, down: &["writer-mt-1"], ..ALL_UP };
        assert_eq!(order(ask), ["writer-mt-1b", "writer-mt-1"], "the late one is asked last");
    }
}

#[test]
fn a_misdirected_caller_is_told_where_to_go() {
    let abroad = Ask { at: 3, ..ALL_UP };
    for target in [Target::PlayerRead, Target::PlayerWrite] {
        let refusal = abroad.decide(&example(), &target, Some(&jurisdiction(1))).unwrap_err();
        assert_eq!(refusal.code, Code::JurisdictionMisdirected);
        assert_eq!(*refusal.permitted, ["https://127.0.0.1:8000", "https://127.0.0.1:8001"]);
    }
}

fn some_regions() -> impl Strategy<Value = BTreeSet<usize>> {
    prop::collection::btree_set(0..REGIONS.len(), 0..=REGIONS.len())
}

fn some_policy(index: usize) -> impl Strategy<Value = JurisdictionPolicy> {
    (some_regions(), some_regions(), some_regions(), any::<bool>()).prop_map(
        move |(write, allowed, serve, publish_log)| {
            let list = |set: &BTreeSet<usize>| set.iter().copied().collect::<Vec<_>>();
            policy(index, &list(&write), &list(&allowed), &list(&serve), publish_log)
        },
    )
}

/// Documents that no check has seen: the router must not depend on the check either.
fn some_topology() -> impl Strategy<Value = Topology> {
    let policies = (some_policy(0), some_policy(1), some_policy(2));
    let readers = prop::collection::vec((0..REGIONS.len(), some_regions()), 0..6);
    (policies, readers).prop_map(|((a, b, c), readers)| {
        let readers = readers.iter().enumerate().map(|(number, (at, holds))| {
            reader(&format!("reader-{number}"), *at, holds, 9000 + number * 10)
        });
        topology(vec![a, b, c], readers.collect())
    })
}

fn some_target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Operator),
        Just(Target::Preflight),
        Just(Target::PlayerWrite),
        Just(Target::PlayerStream),
        Just(Target::PlayerRead),
        (0..JURISDICTIONS.len()).prop_map(|index| Target::Log(jurisdiction(index))),
        Just(Target::Page),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_decision_ever_leaves_the_permitted_set(
        topology in some_topology(),
        target in some_target(),
        claim in prop::option::of(0..JURISDICTIONS.len()),
        at in 0..REGIONS.len(),
        writer in prop::option::of(0..REGIONS.len()),
        down in prop::collection::btree_set(0usize..6, 0..6),
        spread: usize,
    ) {
        let (here, claim) = (region(at), claim.map(jurisdiction));
        let down: Vec<_> = down.iter().map(|number| format!("reader-{number}")).collect();
        let down: Vec<_> = down.iter().map(String::as_str).collect();
        let ask = Ask { at, writer, down: &down, spread };
        let decision = ask.decide(&topology, &target, claim.as_ref());
        let about = if let Target::Log(named) = &target { Some(named) } else { claim.as_ref() };
        match decision {
            Ok(forward) => {
                prop_assert!(!forward.candidates.is_empty());
                for upstream in &forward.candidates {
                    prop_assert_eq!(upstream.role, forward.role);
                    if let Some(reader) = topology.reader(&upstream.node) {
                        prop_assert_eq!(upstream.role, Role::Reader);
                        prop_assert!(!down.contains(&upstream.node.as_str()));
                        let permitted = |j: &Jurisdiction| {
                            reader.jurisdictions.contains(j)
                                && topology.may_hold(&reader.region, j)
                                && topology.router_may_serve(&here, j)
                        };
                        match &target {
                            Target::Page => prop_assert!(reader.jurisdictions.iter().any(permitted)),
                            _ => prop_assert!(about.is_some_and(permitted)),
                        }
                    } else {
                        let region = region(writer.unwrap());
                        let names: Vec<_> =
                            topology.writers_in(&region).iter().map(|w| w.node.clone()).collect();
                        prop_assert!(names.contains(&upstream.node));
                        if matches!(target, Target::PlayerWrite | Target::PlayerStream) {
                            let about = about.unwrap();
                            prop_assert!(topology.writer_may_write(&region, about));
                            prop_assert!(topology.router_may_serve(&here, about));
                        }
                    }
                }
            }
            Err(refusal) if refusal.code == Code::JurisdictionMisdirected => {
                let about = about.unwrap();
                prop_assert!(!topology.router_may_serve(&here, about));
                let routers = topology.permitted_routers(about);
                let expected: Vec<_> = routers.iter().map(|r| r.endpoint.to_string()).collect();
                prop_assert_eq!(refusal.permitted.to_vec(), expected);
            }
            Err(refusal) => prop_assert!(refusal.permitted.is_empty()),
        }
    }

    #[test]
    fn any_path_is_read_without_leaving_its_meaning(path in "/?[a-zA-Z/.%_*-]{0,30}") {
        for method in [Method::GET, Method::POST, Method::OPTIONS, Method::TRACE] {
            let target = classify(&method, &path);
            let ours = ["/v1/", "/operator/", "/log/"].iter().any(|p| path.starts_with(p));
            prop_assert!(target.is_err() || ours || path == "/verify");
            prop_assert!(target.is_err() || !path.contains(".."));
        }
    }
}
