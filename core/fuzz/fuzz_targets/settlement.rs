//! Any settlement file is read or refused; totals that were read can be compared.
#![no_main]

use domicile_core::ids::OperatorId;
use domicile_core::money::Currency;
use domicile_core::wallet::reconcile::{FileReader, HEADER, RowKey, Totals, Verdict, compare};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|rows: &str| {
    let mut reader = FileReader::new(RowKey {
        operator: OperatorId::parse("acme").expect("an operator"),
        date: "2026-04-22".to_owned(),
        currency: Currency::parse("EUR").expect("a currency"),
    });
    let mut lines = std::iter::once(HEADER).chain(rows.split('\n'));
    if lines.all(|line| reader.line(line).is_ok())
        && let Ok(totals) = reader.finish()
    {
        assert_eq!(compare(totals, totals).verdict, Verdict::Match);
        compare(totals, Totals::default());
    }
});
