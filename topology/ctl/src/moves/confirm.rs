//! Asking the person before anything is changed: yes or no, and the cluster's name for what cannot be undone.

use super::words;
use crate::term;
use anyhow::{Result, bail};
use domicile_topology::plan::{Intent, LostWrites, Plan};
use std::io::{BufRead, IsTerminal};

/// Longest answer that is read, bytes.
const ANSWER_MAX_BYTES: u64 = 1_024;

/// What is asked, and what has to be typed.
#[derive(Debug, PartialEq, Eq)]
struct Question<'a> {
    text: String,
    wanted: &'a str,
}

/// Whether the person agrees to the plan.
pub(crate) fn confirmed(plan: &Plan, cluster: &str) -> Result<bool> {
    ask(&question(plan, cluster))
}

/// Whether the person agrees by typing the cluster's name.
pub(crate) fn typed(what: &str, cluster: &str) -> Result<bool> {
    let text = format!("\n{what}. Type the cluster's name to go on:");
    ask(&Question { text, wanted: cluster })
}

/// Without a terminal nobody can be asked: then `--yes` has to be given.
fn ask(question: &Question<'_>) -> Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("nobody can be asked here; `--yes` says that it is agreed to");
    }
    term::note(&question.text)?;
    let mut answer = String::new();
    std::io::Read::take(input.lock(), ANSWER_MAX_BYTES).read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case(question.wanted))
}

fn question<'a>(plan: &Plan, cluster: &'a str) -> Question<'a> {
    let what = words::intent(&plan.intent);
    match irreversible(plan) {
        Some(why) => Question {
            text: format!(
                "\n{what}: {why}\nThis cannot be undone. Type the cluster's name to go on:"
            ),
            wanted: cluster,
        },
        None => Question { text: format!("\n{what}? Type `yes` to go on:"), wanted: "yes" },
    }
}

/// Why it cannot be undone, if so.
fn irreversible(plan: &Plan) -> Option<String> {
    let reseeded = &plan.expected.reseeded_readers;
    match &plan.intent {
        Intent::Failover { .. } if plan.expected.lost_writes != LostWrites::None => {
            Some(format!("it may lose {}", words::loss(plan.expected.lost_writes)))
        }
        Intent::ReaderReseed { node } => {
            Some(format!("the rows of {node} are deleted and copied anew"))
        }
        Intent::ReaderRemove { node } => {
            Some(format!("{node} gets no more rows; to return it is copied anew"))
        }
        Intent::WaiveReader { node, .. } => {
            Some(format!("logs are signed although nobody has compared them with {node}"))
        }
        _ if !reseeded.is_empty() => {
            Some(format!("the rows of {} are deleted and copied anew", words::list(reseeded)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moves::example;
    use domicile_core::ids::NodeId;
    use std::collections::BTreeSet;

    #[test]
    fn what_cannot_be_undone_wants_the_clusters_name() {
        let mut plan = example();
        assert_eq!(question(&plan, "demo").wanted, "yes");
        plan.expected.lost_writes = LostWrites::Tail { at_most_bytes: Some(2_000) };
        assert_eq!(question(&plan, "demo").wanted, "yes", "a switchover loses nothing");
        let to = "de-1".parse().unwrap();
        let accept_data_loss = Some("the region burns".to_owned());
        plan.intent = Intent::Failover { to, accept_data_loss, waived_readers: BTreeSet::new() };
        let asked = question(&plan, "demo");
        assert_eq!(asked.wanted, "demo");
        assert!(
            asked.text.contains("2.0 kB") && asked.text.contains("the region burns"),
            "{}",
            asked.text
        );
        plan = example();
        let node = NodeId::parse("reader-gb").unwrap();
        plan.intent = Intent::WaiveReader { node, reason: "its host is gone".to_owned() };
        assert_eq!(question(&plan, "demo").wanted, "demo");
        plan = example();
        plan.intent = Intent::ReaderRemove { node: NodeId::parse("reader-gb").unwrap() };
        assert_eq!(question(&plan, "demo").wanted, "demo");
    }
}
