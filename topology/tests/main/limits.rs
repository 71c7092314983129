//! The bounds of a document.

use crate::document::{LOCAL, with_keys};
use domicile_topology::limits::{
    MAX_DIAGNOSTICS, MAX_DOCUMENT_BYTES, MAX_ETCD_MEMBERS, MAX_JURISDICTIONS, MAX_LOG_KEYS,
    MAX_NODES, MAX_RECEIPT_KEYS, MAX_REGIONS, MAX_SESSION_KEYS,
};
use domicile_topology::{Diagnostic, Severity, Topology};
use std::fmt::Write;

/// The findings of the example with `count` more entries of the given form.
fn with_more(count: usize, entry: impl Fn(usize) -> String) -> Vec<Diagnostic> {
    let mut text = with_keys();
    for number in 0..count {
        writeln!(text, "{}", entry(number)).unwrap();
    }
    Topology::check(&text).diagnostics
}

#[track_caller]
fn assert_limit(found: &[Diagnostic], message: &str) {
    let errors: Vec<_> = found.iter().filter(|d| d.severity == Severity::Error).collect();
    assert!(errors.iter().any(|d| d.message.contains(message)), "{errors:#?}");
}

#[test]
fn every_kind_of_entry_has_a_limit() {
    let regions =
        with_more(MAX_REGIONS - 2, |n| format!("[[region]]\nid = \"x-{n}\"\ncountry = \"MT\""));
    assert_limit(&regions, "33 [[region]] entries exceed the limit");
    let routers = with_more(MAX_NODES - 14, |n| {
        format!(
            "[[router]]\nnode = \"r-{n}\"\nregion = \"mt-1\"\nendpoint = \"https://10.0.0.{n}:1\"\nadmin = \"10.0.1.{n}:1\""
        )
    });
    assert_limit(&routers, "129 nodes exceed the limit");
    let members = with_more(MAX_ETCD_MEMBERS - 2, |n| {
        format!(
            "[[etcd]]\nnode = \"e-{n}\"\nregion = \"mt-1\"\nclient = \"https://10.0.0.{n}:1\"\npeer = \"https://10.0.1.{n}:1\""
        )
    });
    assert_limit(&members, "8 [[etcd]] entries exceed the limit");
    let jurisdictions = with_more(MAX_JURISDICTIONS - 2, |n| {
        format!(
            "[[jurisdiction]]\ncode = \"US-{n}\"\nwriter_regions = []\nrequired_copy_regions = []\nallowed_regions = []\nlag_limit_ms = 100\npublish_log = false"
        )
    });
    assert_limit(&jurisdictions, "65 [[jurisdiction]] entries exceed the limit");
}

#[test]
fn keys_have_limits() {
    let topology = Topology::parse(&with_keys()).unwrap();
    let mut many = topology.clone();
    many.session_keys = vec![topology.session_keys[0].clone(); MAX_SESSION_KEYS + 1];
    many.receipt_keys = vec![topology.receipt_keys[0].clone(); MAX_RECEIPT_KEYS + 1];
    for (index, key) in many.session_keys.iter_mut().enumerate() {
        key.kid = index.to_string();
    }
    let found = many.checked().unwrap_err();
    assert_limit(&found, "65 [[session_key]] entries exceed the limit");
    assert_limit(&found, "65 [[receipt_key]] entries exceed the limit");
    let mut many = topology.clone();
    many.log_keys = vec![topology.log_keys[0].clone(); MAX_LOG_KEYS + 1];
    let found = many.checked().unwrap_err();
    assert_limit(&found, "log key `MT/1` already stands");
    assert_limit(&found, "further findings");
    assert_eq!(found.len(), MAX_DIAGNOSTICS + 1);
}

#[test]
fn some_entries_must_be_there() {
    let headings = LOCAL.find("[[region]]").unwrap();
    let found = Topology::check(&LOCAL[..headings]).diagnostics;
    let missing = ["region", "etcd", "ledger", "writer", "router", "jurisdiction"];
    for section in missing {
        assert_limit(&found, &format!("there is no [[{section}]]"));
    }
    assert_eq!(found.len(), missing.len() + 1, "the preferred region is unknown too: {found:#?}");
}

#[test]
fn a_huge_text_is_not_even_parsed() {
    let found = Topology::check(&"x".repeat(MAX_DOCUMENT_BYTES + 1)).diagnostics;
    assert_eq!(found.len(), 1);
    assert_limit(&found, "the document has 524289 bytes");
}

#[test]
fn no_text_is_too_odd_to_be_answered() {
    for text in ["", "\0", "[[", "region = [[1]]", "[region]", "a = 1e999", "\u{feff}cluster = 1"] {
        let checked = Topology::check(text);
        assert!(checked.topology.is_none() && !checked.diagnostics.is_empty(), "{text:?}");
    }
}
