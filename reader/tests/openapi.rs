//! The published API document and the reader's paths name the same operations; what the document refers to exists.

#![expect(clippy::expect_used, reason = "a malformed document fails the test")]

use domicile_reader::routes::PATHS;
use serde_json::Value;
use std::collections::BTreeSet;

fn document() -> Value {
    serde_json::from_str(include_str!("../../docs/reference/openapi/reader.json"))
        .expect("the document is JSON")
}

#[test]
fn every_path_is_documented_and_every_documented_path_exists() {
    let document = document();
    let mut documented = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            documented.insert((method.to_ascii_uppercase(), path.clone()));
        }
    }
    let served: BTreeSet<_> =
        PATHS.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(documented, served);
}

#[test]
fn what_belongs_to_a_player_asks_for_a_token_and_the_public_log_does_not() {
    let document = document();
    for (method, path) in PATHS {
        let security = &document["paths"][*path][method.to_ascii_lowercase()]["security"][0];
        let schemes: Vec<&str> =
            security.as_object().expect("security").keys().map(String::as_str).collect();
        let expected: &[&str] = match *path {
            path if path.starts_with("/v1/") => &["session"],
            "/readyz" => &["mutualTls"],
            _ => &[],
        };
        assert_eq!(schemes, expected, "{method} {path}");
    }
}

#[test]
fn every_parameter_of_a_path_is_described() {
    let document = document();
    for (method, path) in PATHS {
        let operation = &document["paths"][*path][method.to_ascii_lowercase()];
        let described: BTreeSet<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|parameter| resolve(&document, parameter))
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().expect("a name"))
            .collect();
        let named: BTreeSet<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        assert_eq!(described, named, "{method} {path}");
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
                if members.contains_key("$ref") {
                    assert!(!resolve(&document, value).is_null(), "{value} leads nowhere");
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

/// What a local reference refers to.
fn resolve<'a>(document: &'a Value, reference: &Value) -> &'a Value {
    let target = reference["$ref"].as_str().expect("a reference");
    let pointer = target.strip_prefix('#').expect("a local reference");
    document.pointer(pointer).unwrap_or(&Value::Null)
}
