//! A plan, and a refusal, as a person reads them.

use super::words;
use crate::term::elapsed;
use domicile_topology::plan::{Plan, Refusal};
use std::time::Duration;

/// The plan: what it will cost, and its steps.
pub(crate) fn plan(plan: &Plan) -> String {
    let expected = &plan.expected;
    let pause = match expected.write_pause_ms {
        0 => "none: writes go on".to_owned(),
        pause_ms => format!("about {}", elapsed(Duration::from_millis(pause_ms))),
    };
    let record = &plan.record;
    let mut lines = vec![
        format!("Plan {}: {}", plan.id, words::intent(&plan.intent)),
        String::new(),
        format!(
            "made under         epoch {}, writes in {} ({}), record revision {}",
            record.epoch, record.writer_region, record.writer_node, plan.record_revision
        ),
        format!("write pause        {pause}"),
        format!("loss               {}", words::loss(expected.lost_writes)),
        format!("suspended          {}", words::list(&expected.suspended)),
        format!("readers to reseed  {}", words::list(&expected.reseeded_readers)),
        String::new(),
    ];
    for (index, step) in plan.steps.iter().enumerate() {
        lines.push(format!("{:>3}  {}", index + 1, words::action(&step.action)));
        lines.push(format!(
            "     needs: {} · within {} · if it fails: {}",
            words::precondition(&step.action),
            elapsed(Duration::from_millis(step.timeout_ms)),
            words::on_failure(step.on_failure)
        ));
    }
    if !plan.remarks.is_empty() {
        lines.push(String::new());
        lines.extend(plan.remarks.iter().map(|remark| format!("· {remark}")));
    }
    lines.join("\n")
}

/// Why there is no plan, and what would mend it.
pub(crate) fn refusal(refusal: &Refusal) -> String {
    let mut lines = vec![format!("Refused: {}", refusal.code)];
    for missing in &refusal.missing {
        lines.push(format!("\n✗ {}: {}", missing.code, missing.what));
        lines.push(format!("  {}", missing.remedy));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use crate::moves::example;

    #[test]
    fn a_plan_says_what_it_does_what_it_needs_and_what_it_costs() {
        let page = super::plan(&example());
        for line in [
            "Plan switchover-0a1b2c3d: switchover to de-1",
            "epoch 4, writes in mt-1 (ledger-mt), record revision 41",
            "write pause        about 500 ms",
            "loss               none",
            "  1  record: the writer takes no more work",
            "     needs: the standby is ready · within 5.0 s · if it fails: call off, open writes again",
            "ledger-de: become primary of epoch 5",
            "stop; `resume` goes on here",
            "· A remark for people.",
        ] {
            assert!(page.contains(line), "`{line}` is missing in:\n{page}");
        }
    }
}
