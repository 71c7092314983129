//! The verifier against every way a proof can be wrong, and the published files made from them.
//!
//! `testdata/verify/` is generated: run this test with `DOMICILE_REGENERATE=1` after a change of format.

#![cfg(test)]

mod cases;
mod draft;
mod flips;

use std::{collections::BTreeSet, fs, path::Path};

use domicile_core::verify::{Report, Status, StepId, Verdict, verify_bundle};
use serde_json::json;

use draft::Keys;

fn verify(case: &cases::Case) -> Report {
    verify_bundle(&case.bundle, case.opening.as_ref(), &Keys::new().pinned())
}

#[test]
fn every_case_ends_as_it_must() {
    let mut names = BTreeSet::new();
    for case in cases::all() {
        let report = verify(&case);
        assert_eq!(report.verdict, case.verdict, "{}: {:#?}", case.name, report.steps);
        assert_eq!(report.failed_step(), case.failed_step, "{}: {:#?}", case.name, report.steps);
        assert!(names.insert(case.name), "{} twice", case.name);
    }
}

#[test]
fn a_report_has_every_step_in_order_and_checks_nothing_after_a_failure() {
    for case in cases::all() {
        let report = verify(&case);
        let ids: Vec<StepId> = report.steps.iter().map(|step| step.id).collect();
        assert_eq!(ids, StepId::ALL, "{}", case.name);
        let after = report.steps.iter().skip_while(|step| step.status != Status::Failed).skip(1);
        for step in after {
            assert_eq!(step.status, Status::NotChecked, "{}: {step:?}", case.name);
        }
    }
}

#[test]
fn steps_without_anything_to_check_say_so() {
    let status = |name: &str, id: StepId| {
        let case = cases::all().into_iter().find(|case| case.name == name).unwrap();
        verify(&case).steps.into_iter().find(|step| step.id == id).unwrap().status
    };
    assert_eq!(status("round-public", StepId::Record), Status::NotApplicable);
    assert_eq!(status("void", StepId::Outcome), Status::NotApplicable);
    assert_eq!(status("void", StepId::Record), Status::Passed);
    for step in [StepId::Settlement, StepId::Seed, StepId::Outcome, StepId::Record] {
        assert_eq!(status("open", step), Status::NotRevealed);
    }
    assert_eq!(status("open-public", StepId::Record), Status::NotApplicable);
}

#[test]
fn nothing_verifies_without_pinned_keys() {
    for case in cases::all() {
        let report = verify_bundle(&case.bundle, case.opening.as_ref(), &[]);
        assert_eq!(report.verdict, Verdict::Failed, "{}", case.name);
        assert_eq!(report.failed_step(), Some(StepId::Signature), "{}", case.name);
    }
}

#[test]
fn the_published_files_are_the_generated_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/verify");
    for (name, text) in published() {
        let path = folder.join(&name);
        if std::env::var_os("DOMICILE_REGENERATE").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == text, "{name} differs: see the head of this file");
    }
}

/// Every published file: the pinned keys, the good pairs as separate files, and all cases in one.
fn published() -> Vec<(String, String)> {
    let keys: Vec<String> = Keys::new().pinned().iter().map(ToString::to_string).collect();
    let mut files = vec![("keys.txt".to_owned(), format!("{}\n", keys.join("\n")))];
    let mut all = Vec::new();
    for case in cases::all() {
        let report = verify(&case);
        if let (None, Some(opening)) = (case.failed_step, &case.opening) {
            let bundle = case.bundle.to_json().unwrap() + "\n";
            files.push((format!("{}.bundle.json", case.name), bundle));
            let opening = opening.to_json().unwrap() + "\n";
            files.push((format!("{}.opening.json", case.name), opening));
        }
        let statuses: serde_json::Map<_, _> = report
            .steps
            .iter()
            .map(|step| (step.id.as_str().to_owned(), json!(step.status)))
            .collect();
        all.push(json!({
            "name": case.name,
            "why": case.why,
            "verdict": case.verdict,
            "failed_step": case.failed_step,
            "steps": statuses,
            "bundle": case.bundle,
            "opening": case.opening,
        }));
    }
    let cases = json!({ "keys": keys, "cases": all });
    files.push(("cases.json".to_owned(), serde_json::to_string_pretty(&cases).unwrap() + "\n"));
    files
}
