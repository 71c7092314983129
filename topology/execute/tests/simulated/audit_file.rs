//! The audit file: complete, in order, and telling when somebody touched it.

use crate::faults::Fault;
use crate::scenario::{case, run};
use domicile_control::{Revision, StoredEntry, StoredPlan};
use domicile_execute::Ended;
use domicile_execute::audit::{Fault as Finding, GENESIS, Line, Verified, verify};
use domicile_topology::plan::Intent;
use std::io::BufReader;
use std::path::Path;

fn check(path: &Path) -> Result<Verified, Finding> {
    verify(BufReader::new(std::fs::File::open(path).unwrap()))
}

fn check_text(text: &str) -> Result<Verified, Finding> {
    verify(text.as_bytes())
}

#[test]
fn a_file_is_complete_wherever_its_executor_was_killed() {
    let calls = run(&case("failover"), &[], None).calls.len() as u64;
    for call in 1..=calls {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let ended = run(&case("failover"), &[(call, Fault::KilledAfter)], Some(&path));
        assert_eq!(ended.finished.audit_fault, None);
        let last = ended.finished.history.next - 1;
        let verified = check(&path).unwrap();
        assert_eq!(verified.plans.get("plan-1"), Some(&last), "killed after call {call}");
        if let Some(known) = ended.finished.audit {
            assert_eq!(known, verified);
        }
    }
}

#[test]
fn several_plans_share_a_file_and_a_torn_line_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    run(&case("degrade"), &[], Some(&path));
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &whole.as_bytes()[..whole.len() - 40]).unwrap();
    assert!(matches!(check(&path), Err(Finding::Malformed { .. })));
    // The same plan again, elsewhere, with this file: what was torn off is there again.
    let ended = run(&case("degrade"), &[], Some(&path));
    let verified = check(&path).unwrap();
    assert_eq!(verified.plans.get("plan-1"), Some(&(ended.finished.history.next - 1)));
}

#[test]
fn whatever_was_touched_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    run(&case("switchover"), &[], Some(&path));
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let whole = check_text(&text).unwrap();
    assert_eq!(whole.lines, lines.len() as u64);
    assert_eq!(check_text("").unwrap().head, GENESIS);
    let join = |lines: &[&str]| lines.join("\n") + if lines.is_empty() { "" } else { "\n" };
    for (index, line) in lines.iter().enumerate() {
        let changed = line.replacen("executor 0", "executor 9", 1);
        let mut touched = lines.clone();
        touched[index] = &changed;
        let is_last = index + 1 == lines.len();
        let found = check_text(&join(&touched));
        // The last line has none after it: whoever signs the head finds a change there.
        assert!(if is_last {
            found.unwrap().head != whole.head
        } else {
            found.is_err() || index == 0
        });
        let mut shorter = lines.clone();
        shorter.remove(index);
        let found = check_text(&join(&shorter));
        assert!(if is_last { found.unwrap().head != whole.head } else { found.is_err() });
        if !is_last {
            let mut swapped = lines.clone();
            swapped.swap(index, index + 1);
            assert!(check_text(&join(&swapped)).is_err());
        }
    }
}

#[test]
fn the_operations_log_is_told_of_a_plan_by_what_its_journal_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    run(&case("failover"), &[], Some(&path));
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Line>(line).unwrap());
    let plan = lines.next().unwrap().begins.unwrap();
    let stored = |line: Line| StoredEntry {
        number: line.number,
        value: serde_json::to_vec(&line.entry.unwrap()).unwrap(),
        revision: Revision(1),
    };
    let mut stored = StoredPlan { plan, journal: lines.map(stored).collect() };
    let ended = Ended::read(&stored).unwrap().unwrap();
    assert_eq!((ended.verb.as_str(), ended.outcome.as_str()), ("failover", "completed"));
    assert_eq!(ended.actor, "executor 0");
    assert_eq!(ended.sha256, check(&path).unwrap().head, "an audit file that holds it alone");
    assert_eq!(ended.reason, "failover completed", "nobody was asked for one");
    stored.plan.intent = Intent::Degrade { reason: "the link is cut".to_owned() };
    assert_eq!(Ended::read(&stored).unwrap().unwrap().reason, "the link is cut");
    stored.journal.pop();
    assert_eq!(Ended::read(&stored).unwrap(), None, "it is under way");
}
