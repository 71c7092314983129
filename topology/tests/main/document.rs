//! Reading, writing and succession of documents.

use domicile_core::note::SigningKey;
use domicile_topology::Topology;
use domicile_topology::document::{Succession, SuccessionRefused};

pub(crate) const LOCAL: &str = include_str!("../../examples/local.toml");

/// The example with the keys that a running cluster has.
pub(crate) fn with_keys() -> String {
    let vkey = |name: &str| SigningKey::from_seed(name, &[7; 32]).unwrap().verifier().to_string();
    format!(
        r#"{LOCAL}
[[session_key]]
kid = "mt-2026"
region = "mt-1"
algorithm = "EdDSA"
public_key = """
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""

[[session_key]]
kid = "de-2026"
region = "de-1"
algorithm = "ES256"
public_key = """
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----
"""

[[log_key]]
jurisdiction = "MT"
epoch = 1
vkey = "{}"

[[receipt_key]]
vkey = "{}"
"#,
        vkey("demo/MT/1"),
        vkey("demo/receipt"),
    )
}

#[test]
fn the_example_has_no_findings_with_and_without_keys() {
    assert_eq!(Topology::check(LOCAL).diagnostics, []);
    let checked = Topology::check(&with_keys());
    assert_eq!(checked.diagnostics, []);
    assert_eq!(checked.topology.unwrap().session_keys.len(), 2);
}

#[test]
fn toml_and_json_carry_the_whole_document() {
    let topology = Topology::parse(&with_keys()).unwrap();
    assert_eq!(Topology::parse(&topology.to_toml().unwrap()).unwrap(), topology);
    assert_eq!(Topology::from_json(&topology.to_json().unwrap()).unwrap(), topology);
}

#[test]
fn json_is_checked_like_toml() {
    let mut topology = Topology::parse(LOCAL).unwrap();
    topology.readers.clear();
    let error = Topology::from_json(&topology.to_json().unwrap()).unwrap_err().to_string();
    assert!(error.contains("jurisdiction MT has no permitted reader (3 more)"), "{error}");
    let json = String::from_utf8(Topology::parse(LOCAL).unwrap().to_json().unwrap()).unwrap();
    let error = Topology::from_json(json.replacen('{', "{\"extra\":1,", 1).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("unknown field `extra`"), "{error}");
}

#[test]
fn a_changed_document_is_checked_again() {
    let mut topology = Topology::parse(LOCAL).unwrap();
    topology.generation = 2;
    assert_eq!(topology.clone().checked().unwrap().generation, 2);
    topology.generation = u64::MAX;
    let diagnostics = topology.checked().unwrap_err();
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
}

#[test]
fn a_document_never_goes_back() {
    let present = Topology::parse(LOCAL).unwrap();
    let newer = Topology { generation: 2, ..present.clone() };
    let changed = Topology { routers: Vec::new(), ..present.clone() };
    let other = Topology { cluster: "other".parse().unwrap(), ..present.clone() };
    assert_eq!(newer.succeeds(&present), Ok(Succession::Newer));
    assert_eq!(present.succeeds(&present), Ok(Succession::Same));
    assert_eq!(present.succeeds(&newer), Err(SuccessionRefused::Older { present: 2, offered: 1 }));
    assert_eq!(changed.succeeds(&present), Err(SuccessionRefused::SameButDifferent(1)));
    assert!(matches!(other.succeeds(&present), Err(SuccessionRefused::OtherCluster { .. })));
}
