//! Every statement of the writer that writes also reads the epoch.

#![expect(clippy::unwrap_used, reason = "an unreadable source fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "log") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_write_statement_reads_the_epoch() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut guarded = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for item in text.split("\nconst ").skip(1) {
            let statement = item.split(";\n").next().unwrap_or_default();
            if !["\"INSERT ", "\"UPDATE ", "\"DELETE "].iter().any(|verb| statement.contains(verb))
            {
                continue;
            }
            let name = statement.split(':').next().unwrap_or_default();
            assert!(statement.contains("in_term!()"), "{}: {name}", file.display());
            guarded += 1;
        }
        for verb in ["(\"INSERT ", "(\"UPDATE ", "(\"DELETE "] {
            assert!(!text.contains(verb), "{}: a write is a constant", file.display());
        }
    }
    assert!(guarded >= 15, "only {guarded} write statements were found");
}
