//! What a wallet remembers: every transaction, once, on disk before it is answered.
//!
//! The rules are the ones wallets document: a transaction id is processed once; the same id with another content is a
//! duplicate; a rollback of a bet that never came leaves a tombstone that refuses it when it comes. What no
//! ledger may ever ask for – paying a bet twice, refunding a winner – is carried out and noted as a violation.

use domicile_core::wallet::reconcile::Totals;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

/// A transaction as a ledger asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `bet`, `win` or `rollback`.
    pub call: String,
    /// Its id.
    pub id: String,
    /// The bet that a win or rollback is about.
    pub reference: Option<String>,
    /// The player.
    pub user: String,
    /// The currency.
    pub currency: String,
    /// How much.
    pub amount_micro: u64,
}

impl Entry {
    /// Reads a request's body.
    pub fn read(call: &str, body: &Value) -> Option<Self> {
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        Some(Self {
            call: call.to_owned(),
            id: text("transaction_uuid")?,
            reference: text("reference_transaction_uuid"),
            user: text("user")?,
            currency: text("currency")?,
            amount_micro: body["amount_micro"].as_u64()?,
        })
    }
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Fund { user: String, amount_micro: u64 },
    Moved { entry: Entry, times: u32 },
    Tombstone { bet: String, by: Entry },
}

/// The store.
#[derive(Debug)]
pub struct Store {
    journal: File,
    entries: BTreeMap<String, Entry>,
    tombstones: BTreeSet<String>,
    /// By bet: the transactions that paid it or gave it back.
    ends: BTreeMap<String, Vec<String>>,
    balances: BTreeMap<String, i128>,
    sums: Totals,
    violations: Vec<String>,
}

impl Store {
    /// Opens a journal and repeats what stands in it.
    pub fn open(path: &Path) -> Self {
        let journal = File::options().create(true).append(true).read(true).open(path);
        let mut store = Self {
            journal: journal.expect("the wallet's journal"),
            entries: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            ends: BTreeMap::new(),
            balances: BTreeMap::new(),
            sums: Totals::default(),
            violations: Vec::new(),
        };
        let read = BufReader::new(File::open(path).expect("the wallet's journal"));
        for line in read.lines() {
            let line = serde_json::from_str(&line.expect("a line")).expect("a line of the journal");
            store.apply(line);
        }
        store
    }

    fn write(&mut self, line: Line) {
        let mut text = serde_json::to_string(&line).expect("a line of the journal");
        text.push('\n');
        self.journal.write_all(text.as_bytes()).expect("write the journal");
        self.journal.sync_data().expect("sync the journal");
        self.apply(line);
    }

    fn apply(&mut self, line: Line) {
        match line {
            Line::Fund { user, amount_micro } => {
                *self.balances.entry(user).or_default() += i128::from(amount_micro);
            }
            Line::Tombstone { bet, by } => {
                self.tombstones.insert(bet);
                self.entries.insert(by.id.clone(), by);
            }
            Line::Moved { entry, times } => self.moved(entry, times),
        }
    }

    fn moved(&mut self, entry: Entry, times: u32) {
        let amount = entry.amount_micro * u64::from(times);
        let balance = self.balances.entry(entry.user.clone()).or_default();
        match entry.call.as_str() {
            "bet" => {
                *balance -= i128::from(amount);
                self.sums.bets_micro += amount;
            }
            "win" => {
                *balance += i128::from(amount);
                self.sums.wins_micro += amount;
            }
            _ => {
                *balance += i128::from(amount);
                self.sums.rollbacks_micro += amount;
            }
        }
        if let Some(bet) = &entry.reference {
            let ends = self.ends.entry(bet.clone()).or_default();
            ends.push(entry.id.clone());
            if ends.len() > 1 {
                self.violations.push(format!("bet {bet} was ended {} times: {ends:?}", ends.len()));
            }
        }
        self.entries.insert(entry.id.clone(), entry);
    }

    /// Gives a player money.
    pub fn fund(&mut self, user: &str, amount_micro: u64) {
        self.write(Line::Fund { user: user.to_owned(), amount_micro });
    }

    /// Processes a transaction and says what the wallet answers. `times`: 1, or 0 for a wallet that forgets it, or 2
    /// for one that books it twice.
    pub fn process(&mut self, entry: Entry, times: u32) -> &'static str {
        if let Some(known) = self.entries.get(&entry.id) {
            return if *known == entry { "RS_OK" } else { "RS_ERROR_DUPLICATE_TRANSACTION" };
        }
        let refusal = match entry.call.as_str() {
            "bet" => self.refuse_bet(&entry),
            _ => self.refuse_end(&entry),
        };
        if refusal.is_none() && times > 0 {
            self.write(Line::Moved { entry, times });
        }
        refusal.unwrap_or("RS_OK")
    }

    fn refuse_bet(&self, entry: &Entry) -> Option<&'static str> {
        let balance = self.balances.get(&entry.user).copied().unwrap_or_default();
        if self.tombstones.contains(&entry.id) {
            return Some("RS_ERROR_TRANSACTION_ROLLED_BACK");
        }
        (balance < i128::from(entry.amount_micro)).then_some("RS_ERROR_NOT_ENOUGH_MONEY")
    }

    fn refuse_end(&mut self, entry: &Entry) -> Option<&'static str> {
        let Some(bet) = entry.reference.clone() else { return Some("RS_ERROR_WRONG_SYNTAX") };
        let known = self.entries.get(&bet).filter(|known| known.call == "bet");
        match (entry.call.as_str(), known.is_some()) {
            (_, true) => None,
            ("win", false) => Some("RS_ERROR_TRANSACTION_DOES_NOT_EXIST"),
            (_, false) => {
                self.write(Line::Tombstone { bet, by: entry.clone() });
                Some("RS_ERROR_TRANSACTION_DOES_NOT_EXIST")
            }
        }
    }

    /// A player's balance.
    pub fn balance(&self, user: &str) -> i128 {
        self.balances.get(user).copied().unwrap_or_default()
    }

    /// All of them.
    pub fn balances(&self) -> BTreeMap<String, i128> {
        self.balances.clone()
    }

    /// Totals.
    pub const fn sums(&self) -> Totals {
        self.sums
    }

    /// A transaction, if the wallet has it.
    pub fn entry(&self, id: &str) -> Option<Entry> {
        self.entries.get(id).cloned()
    }

    /// How many bets found a tombstone waiting or left one.
    pub fn tombstones(&self) -> usize {
        self.tombstones.len()
    }

    /// What should never have been asked for.
    pub fn violations(&self) -> Vec<String> {
        self.violations.clone()
    }
}
