//! What an answer means, as the reference tells those who write wallets: its table, read line by line.
//!
//! Tests that follow it provoke what is promised there, and a line that is added to it is provoked without being asked for.

use crate::wallet::fault::{Fault, Reply};
use domicile_core::wallet::Call;
use domicile_core::wallet::answer::{Answer, Duplicate, Meaning, Status};
use std::collections::BTreeSet;
use std::time::Duration;

const REFERENCE: &str = include_str!("../../docs/reference/wallet.md");
const HEADER: &str = "| `status` | bet | win | rollback |";
/// A text that is no code.
const UNLISTED: &str = "RS_ERROR_OF_TOMORROW";

/// One way to answer a call, and what each call's transaction comes to by it.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it is, as the reference calls it.
    pub name: String,
    /// The answer as the ledger takes it down.
    pub answer: Answer,
    /// For wallets that mean this by a duplicate only.
    pub only: Option<Duplicate>,
    reply: Reply,
    is_late: bool,
    meanings: [Meaning; 3],
}

impl Line {
    /// What it means for this call.
    pub fn meaning(&self, call: Call) -> Meaning {
        let [bet, win, rollback] = self.meanings;
        match call {
            Call::Bet => bet,
            Call::Win => win,
            Call::Rollback => rollback,
        }
    }

    /// A call that is answered so, by a wallet that has carried it out or not; `too_long` is longer than the ledger waits.
    pub const fn fault(&self, is_carried_out: bool, too_long: Duration) -> Fault {
        Fault {
            times: if is_carried_out { Some(1) } else { None },
            after: if self.is_late { too_long } else { Duration::ZERO },
            reply: self.reply,
            ..Fault::NONE
        }
    }
}

/// The table; every listed code stands in it.
pub fn lines() -> Vec<Line> {
    let (_, table) = REFERENCE.split_once(HEADER).expect("the table of answers");
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    let lines: Vec<Line> = rows.flat_map(row).collect();
    let told: BTreeSet<_> = lines.iter().map(|line| line.answer.as_str()).collect();
    for status in Status::all() {
        assert!(told.contains(status.as_str()), "the reference is silent on {}", status.as_str());
    }
    lines
}

fn row(row: &str) -> Vec<Line> {
    let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
    let &[answers, bet, win, rollback] = cells.as_slice() else { panic!("not four cells: {row}") };
    let (answers, only) = match answers.split_once(", where `duplicate` is ") {
        None => (answers, None),
        Some((answers, meaning)) => {
            let only = Duplicate::parse(meaning.trim_matches('`'));
            (answers, Some(only.unwrap_or_else(|| panic!("no meaning of a duplicate: {row}"))))
        }
    };
    let meanings = [bet, win, rollback].map(meaning);
    let line = |name: &str| {
        let (answer, reply, is_late) = answer(name);
        Line { name: name.to_owned(), answer, only, reply, is_late, meanings }
    };
    answers.split(", ").map(line).collect()
}

fn meaning(word: &str) -> Meaning {
    match word {
        "done" => Meaning::Done,
        "refused" => Meaning::Refused,
        "retry" => Meaning::Retry,
        "unknown" => Meaning::Unknown,
        other => panic!("no meaning: {other}"),
    }
}

/// What is answered, and whether too late.
fn answer(name: &str) -> (Answer, Reply, bool) {
    let none = |reply, is_late| (Answer::None, reply, is_late);
    match name {
        "any other text" => none(Reply::Code(UNLISTED), false),
        "no `status`" => none(Reply::NoStatus, false),
        "HTTP 5xx" => none(Reply::Http500, false),
        "a broken connection" => none(Reply::Broken, false),
        "nothing within the deadline" => none(Reply::Own, true),
        code => {
            let code = code.trim_matches('`');
            // A row of several codes writes the common beginning once.
            let full = if code.starts_with('_') { format!("RS_ERROR{code}") } else { code.into() };
            let status = Status::parse(&full).unwrap_or_else(|| panic!("no listed code: {full}"));
            (Answer::Listed(status), Reply::Code(status.as_str()), false)
        }
    }
}
