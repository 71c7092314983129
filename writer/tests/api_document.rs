//! The published API document and the route table name the same operations; what the document says about
//! bodies and answers refers to schemas that exist.

#![expect(clippy::expect_used, reason = "a malformed document fails the test")]

use domicile_writer::http::{Caller, ROUTES};
use serde_json::Value;
use std::collections::BTreeSet;

fn document() -> Value {
    serde_json::from_str(include_str!("../../docs/reference/openapi/writer.json"))
        .expect("the document is JSON")
}

#[test]
fn every_route_is_documented_and_every_documented_route_exists() {
    let document = document();
    let mut documented = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            documented.insert((method.to_ascii_uppercase(), path.clone()));
        }
    }
    let served: BTreeSet<_> =
        ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(documented, served);
}

#[test]
fn every_route_states_its_callers_proof() {
    let document = document();
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.to_ascii_lowercase()];
        let schemes: BTreeSet<&str> = operation["security"][0]
            .as_object()
            .expect("security")
            .keys()
            .map(String::as_str)
            .collect();
        let expected: &[&str] = match route.caller {
            Caller::Operator => &["operatorKeyId", "operatorSignature", "operatorTimestamp"],
            Caller::Player => &["session"],
            Caller::Person(_) | Caller::Router | Caller::Conductor => &["mutualTls"],
        };
        assert_eq!(schemes, expected.iter().copied().collect(), "{} {}", route.method, route.path);
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut pending = vec![&document];
    let mut seen = 0;
    while let Some(value) = pending.pop() {
        match value {
            Value::Object(members) => {
                if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                    let pointer = target.strip_prefix('#').expect("a local reference");
                    assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
                    seen += 1;
                }
                pending.extend(members.values());
            }
            Value::Array(items) => pending.extend(items),
            _ => {}
        }
    }
    assert!(seen > 0);
}
