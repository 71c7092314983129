//! The shape of a document: which keys an entry has and what each value may be.
//!
//! Invariants: an unknown key is an error; a missing one too, unless the reference says otherwise;
//! every value is parsed into its type here, so that the rules see only well-formed ones.
//! Deliberately absent: serde. It stops at the first mistake, and a person wants all of them.

mod entries;

use crate::check::{Lines, Places, Report};
use crate::document::Topology;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Reads a document into a topology and the lines its entries stand on.
pub(crate) fn document(root: &DeTable<'_>, report: &mut Report) -> Option<(Topology, Places)> {
    let mut places = Places::default();
    let mut section = Section::new("the document".to_owned(), 1, root, report);
    let topology = entries::topology(&mut section, &mut places);
    places.insert("", 0, section.finish());
    Some((topology?, places))
}

/// One table of the document while it is being read.
struct Section<'a> {
    what: String,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
    lines: Lines,
    report: &'a mut Report,
}

impl<'a> Section<'a> {
    fn new(what: String, line: usize, table: &'a DeTable<'a>, report: &'a mut Report) -> Self {
        let line_of = |key: &Spanned<_>| report.line(key.span().start);
        let keys: BTreeMap<String, usize> =
            table.keys().map(|key| (key.get_ref().to_string(), line_of(key))).collect();
        Self { what, table, known: Vec::new(), lines: Lines { first: line, keys }, report }
    }

    /// Reports the keys nobody asked for and gives the lines of the rest.
    fn finish(self) -> Lines {
        for key in self.table.keys() {
            if !self.known.contains(&key.get_ref().as_ref()) {
                self.report.error(
                    self.report.line(key.span().start),
                    format!("{} has no key `{}`", self.what, key.get_ref()),
                    format!("Remove it; the keys here are: {}.", self.known.join(", ")),
                );
            }
        }
        self.lines
    }

    fn optional(&mut self, key: &'static str) -> Option<&'a DeValue<'a>> {
        self.known.push(key);
        self.table.get(key).map(Spanned::get_ref)
    }

    fn required(&mut self, key: &'static str) -> Option<&'a DeValue<'a>> {
        let value = self.optional(key);
        if value.is_none() {
            let message = format!("{} lacks the key `{key}`", self.what);
            self.report.error(self.lines.first, message, "Add it.");
        }
        value
    }

    fn wrong(&mut self, key: &str, found: impl Display, expected: impl Display) {
        let line = self.lines.keys.get(key).copied().unwrap_or(self.lines.first);
        let message = format!("`{key}` in {}: {found}", self.what);
        self.report.error(line, message, format!("Write {expected}."));
    }

    /// A text that `parse` accepts.
    fn text<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.required(key)?;
        self.parsed(key, value, parse)
    }

    fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        value: &DeValue<'_>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let Some(text) = value.as_str() else {
            self.wrong(key, format_args!("is of type {}", value.type_str()), "a string");
            return None;
        };
        match parse(text) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.wrong(key, error, "a value of that form");
                None
            }
        }
    }

    /// One of a few words.
    fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.required(key)?;
        let chosen = choices.iter().find(|(word, _)| value.as_str() == Some(*word));
        if chosen.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.wrong(key, "not one of the possible words", words.join(" or "));
        }
        chosen.map(|(_, meaning)| *meaning)
    }

    /// A whole number within bounds, both included.
    fn number(&mut self, key: &'static str, least: u64, most: u64) -> Option<u64> {
        let value = self.required(key)?;
        let number = value
            .as_integer()
            .and_then(|digits| u64::from_str_radix(digits.as_str(), digits.radix()).ok())
            .filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let expected = format!("a whole number from {least} to {most}");
            self.wrong(key, "not a number within the bounds", expected);
        }
        number
    }

    fn flag(&mut self, key: &'static str) -> Option<bool> {
        let flag = self.required(key)?.as_bool();
        if flag.is_none() {
            self.wrong(key, "not a boolean", "true or false");
        }
        flag
    }

    /// A list of different texts that `parse` accepts.
    fn set<T: Ord, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<BTreeSet<T>> {
        let value = self.required(key)?;
        self.set_of(key, value, parse)
    }

    /// Like [`Section::set`], with a fallback for a key that may be left out.
    fn set_or<T: Ord, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
        fallback: Option<BTreeSet<T>>,
    ) -> Option<BTreeSet<T>> {
        match self.optional(key) {
            None => fallback,
            Some(value) => self.set_of(key, value, parse),
        }
    }

    fn set_of<T: Ord, E: Display>(
        &mut self,
        key: &'static str,
        value: &DeValue<'_>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<BTreeSet<T>> {
        let Some(items) = value.as_array() else {
            self.wrong(key, format_args!("is of type {}", value.type_str()), "a list of strings");
            return None;
        };
        let mut set = BTreeSet::new();
        let mut sound = true;
        for item in items {
            let Some(parsed) = self.parsed(key, item.get_ref(), &parse) else {
                sound = false;
                continue;
            };
            if !set.insert(parsed) {
                let text = item.get_ref().as_str().unwrap_or_default();
                self.wrong(key, format_args!("`{text}` is named twice"), "each name once");
                sound = false;
            }
        }
        sound.then_some(set)
    }

    /// A single table, `[key]`.
    fn table<T>(
        &mut self,
        key: &'static str,
        places: &mut Places,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        let value = self.required(key)?;
        let line = self.lines.keys.get(key).copied().unwrap_or(1);
        let DeValue::Table(table) = value else {
            self.wrong(
                key,
                format_args!("is of type {}", value.type_str()),
                format_args!("[{key}]"),
            );
            return None;
        };
        let mut section = Section::new(format!("[{key}]"), line, table, self.report);
        let read = read(&mut section);
        places.insert(key, 0, section.finish());
        read
    }

    /// A list of tables, `[[key]]`; no such table is an empty list.
    fn tables<T>(
        &mut self,
        key: &'static str,
        places: &mut Places,
        read: impl Fn(&mut Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(value) = self.optional(key) else {
            return Some(Vec::new());
        };
        let items = value.as_array().filter(|a| a.iter().all(|item| item.get_ref().is_table()));
        let Some(items) = items else {
            let expected = format!("each entry under its own [[{key}]]");
            self.wrong(key, format_args!("is of type {}", value.type_str()), expected);
            return None;
        };
        let mut entries = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let DeValue::Table(table) = item.get_ref() else { continue };
            let line = self.report.line(item.span().start);
            let mut section = Section::new(format!("[[{key}]]"), line, table, self.report);
            let entry = read(&mut section);
            places.insert(key, index, section.finish());
            entries.push(entry);
        }
        entries.into_iter().collect()
    }
}
