//! The program as a person or a script meets it: exit codes, and what stands where.

#![cfg(test)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn domicile(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_domicile"))
        .args(arguments)
        .env_remove("DOMICILE_STATE")
        .output()
        .expect("run the program")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../core/testdata/verify")
}

/// `verify` with the published keys.
fn verify(files: &[&str]) -> Output {
    let keys = std::fs::read_to_string(vectors().join("keys.txt")).expect("the published keys");
    let mut arguments = vec!["verify".to_owned()];
    for key in keys.lines().map(str::trim).filter(|line| line.contains('+')) {
        arguments.extend(["--key".to_owned(), key.to_owned()]);
    }
    arguments.extend(files.iter().map(ToString::to_string));
    domicile(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn vector(name: &str) -> String {
    vectors().join(name).to_str().expect("a text path").to_owned()
}

#[test]
fn every_published_proof_verifies_and_an_open_round_is_not_revealed() {
    for kind in ["play", "round", "void"] {
        let (bundle, opening) =
            (vector(&format!("{kind}.bundle.json")), vector(&format!("{kind}.opening.json")));
        let alone = verify(&[&bundle]);
        assert_eq!(code(&alone), 0, "{}", said(&alone));
        let opened = verify(&[&bundle, "--opening", &opening]);
        assert_eq!(code(&opened), 0, "{}", said(&opened));
        assert!(
            said(&opened).ends_with("verified\n") && said(&opened).contains("✓"),
            "{}",
            said(&opened)
        );
    }
    let open = verify(&[&vector("open.bundle.json")]);
    assert_eq!(code(&open), 2, "{}", said(&open));
}

#[test]
fn what_does_not_verify_and_what_cannot_be_read_are_told_apart() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("write the file");
        path.to_str().expect("a text path").to_owned()
    };
    let good = std::fs::read_to_string(vectors().join("round.bundle.json")).expect("a vector");
    let other_log =
        file("other-log", &good.replace("\"jurisdiction\":\"MT\"", "\"jurisdiction\":\"DE\""));
    let refused = verify(&[&other_log, "--json"]);
    assert_eq!(code(&refused), 1, "{}", said(&refused));
    let report: Value = serde_json::from_slice(&refused.stdout).expect("a JSON report");
    assert_eq!(report["verdict"], "failed");

    for unreadable in [file("no-bundle", "{}"), dir.path().join("missing").display().to_string()] {
        let output = verify(&[&unreadable]);
        assert_eq!(code(&output), 3, "{}", said(&output));
    }
    let nothing_to_trust = domicile(&["verify", &vector("round.bundle.json")]);
    assert_eq!(code(&nothing_to_trust), 64, "{}", said(&nothing_to_trust));
}

#[test]
fn a_topology_is_judged_with_line_and_remedy() {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/local.toml");
    let good = domicile(&["topology", "check", local.to_str().expect("a text path")]);
    assert_eq!(code(&good), 0, "{}", said(&good));

    let dir = tempfile::tempdir().expect("a folder");
    let bad = dir.path().join("bad.toml");
    let text = std::fs::read_to_string(&local).expect("the example");
    std::fs::write(
        &bad,
        text.replace("preferred_region = \"mt-1\"", "preferred_region = \"fr-1\""),
    )
    .expect("write the file");
    let refused = domicile(&["topology", "check", bad.to_str().expect("a text path")]);
    assert_eq!(code(&refused), 1, "{}", said(&refused));
    assert!(
        said(&refused).contains("line ") && said(&refused).contains("fr-1"),
        "{}",
        said(&refused)
    );
}

#[test]
fn a_command_without_a_topology_says_how_to_start_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().to_str().expect("a text path");
    for command in [&["status"][..], &["start", "writer-mt"], &["kill", "writer-mt"], &["migrate"]]
    {
        let output = domicile(&[&["--state", state], command].concat());
        assert_eq!(code(&output), 1, "{}", said(&output));
        assert!(said(&output).contains("domicile up"), "{}", said(&output));
    }
    assert_eq!(code(&domicile(&["--state", state, "down"])), 0, "nothing to stop is fine");
    assert_eq!(code(&domicile(&["no-such-command"])), 64);
}

#[test]
fn keys_and_certificates_are_made_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let (authority, out) = (dir.path().join("authority"), dir.path().join("tls"));
    let (authority, out) = (authority.to_str().expect("text"), out.to_str().expect("text"));
    let issue = || {
        domicile(&[
            "pki",
            "issue",
            "--cluster",
            "demo",
            "--authority",
            authority,
            "--role",
            "router",
            "--node",
            "router-mt",
            "--host",
            "127.0.0.1",
            "--out",
            out,
        ])
    };
    assert_eq!(code(&issue()), 1, "no authority yet");
    assert_eq!(code(&domicile(&["pki", "init", "--cluster", "demo", "--authority", authority])), 0);
    let (first, second) = (issue(), issue());
    assert!(
        said(&first).starts_with("issued") && said(&second).starts_with("still good"),
        "{}",
        said(&second)
    );

    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/local.toml");
    let keys = dir.path().join("keys");
    let make = || {
        domicile(&[
            "keys",
            "--topology",
            local.to_str().expect("text"),
            "--keys",
            keys.to_str().expect("text"),
        ])
    };
    let (first, second) = (make(), make());
    assert_eq!(code(&first), 0, "{}", said(&first));
    assert_eq!(first.stdout, second.stdout, "the same keys again");
    assert!(
        said(&first).contains("[[log_key]]") && !said(&first).contains("PRIVATE"),
        "{}",
        said(&first)
    );
}

#[test]
fn verbs_without_a_cluster_fail_and_wrong_words_are_usage() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().to_str().expect("text");
    for arguments in [
        vec!["switchover", "--to", "de-1", "--yes"],
        vec!["plan", "failback"],
        vec!["resume"],
        vec!["drill", "switchover", "--mode", "dry-run"],
        vec!["loss-statement"],
    ] {
        let output = domicile(&[&["--state", state], &arguments[..]].concat());
        assert_eq!(code(&output), 1, "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains("there is no topology"), "{}", said(&output));
    }
    for arguments in [
        vec!["switchover"],
        vec!["switchover", "--to", "Not A Region"],
        vec!["failover", "--to", "de-1", "--waive-reader", "reader-gb"],
        vec!["degrade"],
        vec!["plan", "switchover", "--to", "de-1", "--yes"],
        vec!["drill", "switchover"],
        vec!["verify", "--report", state],
        vec!["verify", "bundle.json", "--report", state, "--key", "k"],
    ] {
        assert_eq!(code(&domicile(&arguments)), 64, "{arguments:?}");
    }
}

#[test]
fn output_that_nobody_reads_ends_quietly() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/local.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_domicile"))
        .args(["topology", "check"])
        .arg(example)
        .stdout(writer)
        .output()
        .expect("run the program");
    assert_eq!((code(&output), said(&output)), (141, String::new()));
}

#[test]
fn what_changes_a_setting_wants_a_reason() {
    let wallet = "wallet set o --url https://w.example --key-id k --key-file f --duplicate done";
    let schedule =
        "rounds schedule o --game wheel --currency EUR --jurisdiction MT --betting-ms 3000";
    for command in [wallet, schedule, "captcha set o --secret-file f", "captcha off o"] {
        let output = domicile(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(code(&output), 64, "{command}: {}", said(&output));
        assert!(said(&output).contains("--reason <REASON>"), "{command}: {}", said(&output));
    }
}

#[test]
fn a_report_without_signature_is_not_verified() {
    let dir = tempfile::tempdir().expect("a folder");
    let keys = std::fs::read_to_string(vectors().join("keys.txt")).expect("the published keys");
    let key = keys.lines().find(|line| line.contains('+')).expect("a key");
    let report = dir.path().to_str().expect("text");
    let output = domicile(&["verify", "--report", report, "--key", key.trim()]);
    assert_eq!(code(&output), 1);
    assert!(said(&output).contains("NOT verified"), "{}", said(&output));
}
