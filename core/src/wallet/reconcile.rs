//! The daily comparison of an operator's settlement file with the ledger.
//!
//! The file has one row per operator, date and currency:
//! `operatorId,date,currency,betsAmountMicro,winsAmountMicro,rollbacksAmountMicro`. Compared are the stakes that stayed
//! (bets − rollbacks) and the wins: a bet that one side rolled back and the other never saw moves no money, so it is
//! no drift. Invariants: lines are read one at a time; every line is checked, also those of other operators; a row that
//! stands there twice is an error, never a sum.

use thiserror::Error;

use crate::ids::OperatorId;
use crate::limits::SETTLEMENT_LINE_MAX_BYTES;
use crate::money::{Currency, Micro};

/// The first line.
pub const HEADER: &str =
    "operatorId,date,currency,betsAmountMicro,winsAmountMicro,rollbacksAmountMicro";
/// The share of the turnover from which a drift is major, in thousandths.
const MAJOR_PER_MILLE: u128 = 1;

/// What a settlement file is not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileError {
    /// The first line is another one.
    #[error("the first line is not `{HEADER}`")]
    Header,
    /// A line cannot be read.
    #[error("line {line}: {reason}")]
    Line {
        /// Which one, from 1.
        line: u64,
        /// Why.
        reason: &'static str,
    },
    /// The row that is looked for is not there.
    #[error("the file has no row for this operator, date and currency")]
    Missing,
}

/// A day's totals, micro-units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Stakes taken.
    pub bets_micro: u64,
    /// Wins paid.
    pub wins_micro: u64,
    /// Stakes given back.
    pub rollbacks_micro: u64,
}

/// Which row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowKey {
    /// The operator.
    pub operator: OperatorId,
    /// The UTC day, `YYYY-MM-DD`.
    pub date: String,
    /// The currency.
    pub currency: Currency,
}

/// Whether a text is a calendar day's form `YYYY-MM-DD`.
pub fn is_date(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut number = |digits: usize, range: std::ops::RangeInclusive<u16>| {
        let part =
            parts.next().filter(|p| p.len() == digits && p.bytes().all(|b| b.is_ascii_digit()));
        part.and_then(|part| part.parse().ok()).is_some_and(|part| range.contains(&part))
    };
    number(4, 1970..=9999) && number(2, 1..=12) && number(2, 1..=31) && parts.next().is_none()
}

/// Looks for one row in a file that is fed line by line.
#[derive(Debug)]
pub struct FileReader {
    wanted: RowKey,
    found: Option<Totals>,
    lines: u64,
}

impl FileReader {
    /// Looks for this row.
    pub const fn new(wanted: RowKey) -> Self {
        Self { wanted, found: None, lines: 0 }
    }

    /// Reads the next line, without its end.
    pub fn line(&mut self, text: &str) -> Result<(), FileError> {
        self.lines = self.lines.saturating_add(1);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if self.lines == 1 {
            return if text == HEADER { Ok(()) } else { Err(FileError::Header) };
        }
        let fault = |reason| FileError::Line { line: self.lines, reason };
        if text.len() > SETTLEMENT_LINE_MAX_BYTES {
            return Err(fault("too long"));
        }
        let fields: Vec<_> = text.split(',').collect();
        let [operator, date, currency, bets, wins, rollbacks] = *fields else {
            return Err(fault("not six fields"));
        };
        let amount = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let amount = text.parse::<u64>().ok().filter(|_| digits);
            amount.and_then(|amount| Micro::new(amount).ok()).map(Micro::get)
        };
        let amount =
            |text| amount(text).ok_or(fault("an amount is no whole number of micro-units"));
        let totals = Totals {
            bets_micro: amount(bets)?,
            wins_micro: amount(wins)?,
            rollbacks_micro: amount(rollbacks)?,
        };
        if !is_date(date) {
            return Err(fault("the date is not YYYY-MM-DD"));
        }
        let wanted = &self.wanted;
        if (operator, date, currency)
            != (wanted.operator.as_str(), &*wanted.date, wanted.currency.as_str())
        {
            return Ok(());
        }
        if self.found.replace(totals).is_some() {
            return Err(fault("the row stands in the file twice"));
        }
        Ok(())
    }

    /// The row, once all lines were read.
    pub fn finish(self) -> Result<Totals, FileError> {
        if self.lines == 0 {
            return Err(FileError::Header);
        }
        self.found.ok_or(FileError::Missing)
    }
}

/// What a comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No drift.
    Match,
    /// Below a thousandth of the turnover: worth a look.
    MinorDrift,
    /// A thousandth of the turnover or more: worth waking someone.
    MajorDrift,
}

impl Verdict {
    /// The command's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Match => 0,
            Self::MinorDrift => 1,
            Self::MajorDrift => 2,
        }
    }

    /// The word that is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Match => "MATCH",
            Self::MinorDrift => "MINOR_DRIFT",
            Self::MajorDrift => "MAJOR_DRIFT",
        }
    }
}

/// Two days' totals beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// Ours minus theirs, of the stakes that stayed.
    pub stakes_micro: i128,
    /// Ours minus theirs, of the wins.
    pub wins_micro: i128,
    /// What to make of it.
    pub verdict: Verdict,
}

/// Compares our totals with the operator's.
pub fn compare(ours: Totals, theirs: Totals) -> Comparison {
    let stakes =
        |totals: Totals| i128::from(totals.bets_micro) - i128::from(totals.rollbacks_micro);
    let wins = |totals: Totals| i128::from(totals.wins_micro);
    let (stakes_micro, wins_micro) = (stakes(ours) - stakes(theirs), wins(ours) - wins(theirs));
    let drift = stakes_micro.unsigned_abs() + wins_micro.unsigned_abs();
    let turnover = |totals: Totals| stakes(totals).unsigned_abs() + wins(totals).unsigned_abs();
    let verdict = if drift == 0 {
        Verdict::Match
    } else if drift * 1000 < turnover(ours).max(turnover(theirs)) * MAJOR_PER_MILLE {
        Verdict::MinorDrift
    } else {
        Verdict::MajorDrift
    };
    Comparison { stakes_micro, wins_micro, verdict }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> Result<Totals, FileError> {
        let mut reader = FileReader::new(RowKey {
            operator: OperatorId::parse("acme").unwrap(),
            date: "2026-04-22".to_owned(),
            currency: Currency::parse("LKR").unwrap(),
        });
        for line in lines {
            reader.line(line)?;
        }
        reader.finish()
    }

    fn totals(bets_micro: u64, wins_micro: u64, rollbacks_micro: u64) -> Totals {
        Totals { bets_micro, wins_micro, rollbacks_micro }
    }

    #[test]
    fn the_row_is_found_among_others() {
        let row = "acme,2026-04-22,LKR,12500000000000,11675000000000,0";
        let others = [
            "acme,2026-04-22,EUR,1,1,1",
            "acme,2026-04-21,LKR,1,1,1\r",
            "other,2026-04-22,LKR,1,1,1",
        ];
        let found = read(&[HEADER, others[0], row, others[1], others[2]]);
        assert_eq!(found, Ok(totals(12_500_000_000_000, 11_675_000_000_000, 0)));
        assert_eq!(read(&[HEADER, others[0]]), Err(FileError::Missing));
        assert!(matches!(read(&[HEADER, row, row]), Err(FileError::Line { line: 3, .. })));
        assert_eq!(read(&[row]), Err(FileError::Header));
        assert_eq!(read(&[]), Err(FileError::Header));
        for bad in [
            "",
            "acme,2026-04-22,LKR,1,1",
            "acme,2026-04-22,LKR,1,1,1,1",
            "acme,2026-04-22,LKR,-1,1,1",
            "acme,2026-04-22,LKR,1.0,1,1",
            "acme,2026-04-22,LKR,9000000000000001,1,1",
            "x,2026-13-01,LKR,1,1,1",
            "x,22.04.2026,LKR,1,1,1",
            "x,2026-04-22,LKR,+1,1,1",
        ] {
            assert!(matches!(read(&[HEADER, bad]), Err(FileError::Line { line: 2, .. })), "{bad}");
        }
    }

    #[test]
    fn a_thousandth_of_the_turnover_is_major() {
        let ours = totals(600_000, 400_000, 0);
        let verdict = |theirs| compare(ours, theirs).verdict;
        assert_eq!(verdict(ours), Verdict::Match);
        assert_eq!(
            verdict(totals(600_050, 400_000, 50)),
            Verdict::Match,
            "rolled back on one side only"
        );
        assert_eq!(verdict(totals(599_001, 400_000, 0)), Verdict::MinorDrift);
        assert_eq!(verdict(totals(599_000, 400_000, 0)), Verdict::MajorDrift);
        assert_eq!(
            verdict(totals(601_000, 399_000, 0)),
            Verdict::MajorDrift,
            "drifts do not cancel out"
        );
        assert_eq!(verdict(Totals::default()), Verdict::MajorDrift);
        assert_eq!(compare(Totals::default(), Totals::default()).verdict, Verdict::Match);
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "\\PC{0,120}") {
            let read = read(&[HEADER, &line]);
            prop_assert!(read.is_err());
        }

        #[test]
        fn a_comparison_is_symmetric(a: (u32, u32, u32), b: (u32, u32, u32)) {
            let [ours, theirs] = [a, b].map(|(x, y, z)| totals(x.into(), y.into(), z.into()));
            let (there, back) = (compare(ours, theirs), compare(theirs, ours));
            prop_assert_eq!(there.verdict, back.verdict);
            prop_assert_eq!(there.stakes_micro, -back.stakes_micro);
        }
    }
}
