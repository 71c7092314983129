//! Every finding: what is changed in a sound document, and which findings that gives on which lines.

use domicile_topology::{Severity, Topology};

/// A mistake: texts replaced in the sound document, and the findings expected, each as the text that
/// ends on its line (once in the changed document) and a part of its message.
#[derive(Default)]
pub(crate) struct Case {
    pub(crate) edits: &'static [(&'static str, &'static str)],
    pub(crate) errors: &'static [(&'static str, &'static str)],
    pub(crate) warnings: &'static [(&'static str, &'static str)],
}

pub(crate) fn run(base: &str, cases: &[Case]) {
    for case in cases {
        let text = case.edits.iter().fold(base.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "nothing to replace: {from}");
            text.replacen(from, to, 1)
        });
        let checked = Topology::check(&text);
        for (severity, expected) in
            [(Severity::Error, case.errors), (Severity::Warning, case.warnings)]
        {
            let mut found: Vec<_> =
                checked.diagnostics.iter().filter(|d| d.severity == severity).collect();
            for (anchor, message) in expected {
                let line = line_of(&text, anchor);
                let position = found
                    .iter()
                    .position(|d| d.line == line && d.message.contains(message))
                    .unwrap_or_else(|| panic!("line {line}: no {message:?} among {found:#?}"));
                assert!(found[position].remedy.ends_with('.'), "{:?}", found[position]);
                found.remove(position);
            }
            assert!(found.is_empty(), "{:?} also gives {found:#?}", case.edits);
        }
        assert_eq!(checked.topology.is_some(), case.errors.is_empty());
    }
}

fn line_of(text: &str, anchor: &str) -> usize {
    assert_eq!(text.matches(anchor).count(), 1, "{anchor} does not mark one line");
    let end = text.find(anchor).unwrap() + anchor.trim_end().len();
    text[..end].matches('\n').count() + 1
}
