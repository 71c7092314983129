//! The reference page shows every command's help, word for word.
//!
//! `DOMICILE_WRITE_HELP=1 cargo test -p domicile --test help` brings the blocks of the page up to date; what stands between
//! them stays.

#![cfg(test)]

use std::path::{Path, PathBuf};
use std::process::Command;

const OPEN: &str = "```text\n";
const CLOSE: &str = "```\n";

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/cli.md")
}

fn help(command: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_domicile"))
        .args(command.split(' ').skip(1))
        .arg("--help")
        .env_remove("DOMICILE_STATE")
        .output()
        .expect("run the program");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned() + "\n"
}

/// The command and all below it that do something, as the help lists them.
fn commands(command: &str, found: &mut Vec<String>) {
    let text = help(command);
    let Some((_, list)) = text.split_once("\nCommands:\n") else {
        found.push(command.to_owned());
        return;
    };
    if command == "domicile" {
        found.push(command.to_owned());
    }
    let names = list.lines().take_while(|line| !line.is_empty());
    for name in names.filter_map(|line| line.split_whitespace().next()) {
        if name != "help" {
            commands(&format!("{command} {name}"), found);
        }
    }
}

/// The page with each block replaced by the help of the command in the heading above it.
fn up_to_date(page: &str) -> String {
    let mut fresh = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (old, after) = after.split_once(CLOSE).expect("a block ends");
        let heading = before.lines().rev().find(|line| line.starts_with('#')).unwrap_or_default();
        let command = heading.trim_start_matches('#').trim();
        let new = if command.starts_with("domicile") { help(command) } else { old.to_owned() };
        fresh.extend([before, OPEN, &new, CLOSE]);
        rest = after;
    }
    fresh + rest
}

#[test]
fn the_reference_page_shows_every_commands_help() {
    let written = std::fs::read_to_string(page()).expect("the page");
    let fresh = up_to_date(&written);
    if std::env::var_os("DOMICILE_WRITE_HELP").is_some() {
        std::fs::write(page(), &fresh).expect("write the page");
        return;
    }
    assert!(
        written == fresh,
        "docs/reference/cli.md is not up to date; see topology/ctl/tests/help.rs"
    );
    let mut all = Vec::new();
    commands("domicile", &mut all);
    // `plan` takes the same verbs with the same arguments; one section speaks of all of them.
    for command in all.iter().filter(|command| !command.starts_with("domicile plan ")) {
        let heading = format!("# {command}\n");
        assert!(written.contains(&heading), "docs/reference/cli.md lacks `{command}`");
    }
}
