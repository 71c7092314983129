//! The error reference is generated: every code has its section, and the committed page is the present one.

#![cfg(test)]

use domicile_core::error::Code;
use std::fmt::Write as _;
use std::path::Path;

fn page() -> String {
    let mut page = String::from(
        "# Error codes\n\nEvery error is an RFC 9457 problem document with a stable `code`. This page is generated from\n\
         `core/src/error.rs` (`DOMICILE_REGENERATE=1 cargo test -p domicile-core --test error_reference`).\n\n\
         | code | status | class |\n|---|---|---|\n",
    );
    let class = |code: &Code| {
        serde_json::to_value(code.class())
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .expect("a class has a name")
    };
    for code in Code::ALL {
        let _written =
            writeln!(page, "| [`{code}`](#{code}) | {} | {} |", code.status(), class(code));
    }
    for code in Code::ALL {
        let _written = write!(
            page,
            "\n## {code}\n\n{} ({}, class `{}`)\n\n**What to do:** {}\n",
            code.title(),
            code.status(),
            class(code),
            code.remedy()
        );
    }
    page
}

#[test]
fn the_committed_page_is_the_present_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/errors.md");
    if std::env::var_os("DOMICILE_REGENERATE").is_some() {
        std::fs::write(&path, page()).expect("write the page");
    }
    let committed = std::fs::read_to_string(&path).expect("docs/reference/errors.md");
    assert!(committed == page(), "docs/reference/errors.md is not up to date: regenerate it");
}
