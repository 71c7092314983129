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
use std::ops::Bound;
use std::path::Path;

/// The currency of the players of tests.
const EUR: &str = "EUR";

/// A transaction as a ledger asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `bet`, `win` or `rollback`.
    pub call: String,
    /// Its id.
    pub id: String,
    /// The bet that a win or rollback is about.
    pub reference: Option<String>,
    /// The ledger's bet.
    pub bet: String,
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
            bet: text("bet")?,
            user: text("user")?,
            currency: text("currency")?,
            amount_micro: body["amount_micro"].as_u64()?,
        })
    }
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Fund { user: String, currency: String, amount_micro: u64 },
    Moved { entry: Entry, times: u32 },
    Tombstone { bet: String, by: Entry },
}

/// The store.
#[derive(Debug)]
pub struct Store {
    journal: File,
    entries: BTreeMap<String, Entry>,
    times: BTreeMap<String, u32>,
    tombstones: BTreeSet<String>,
    /// By bet: the transactions that paid it or gave it back.
    ends: BTreeMap<String, Vec<String>>,
    /// By player and currency.
    balances: BTreeMap<(String, String), i128>,
    /// By currency.
    sums: BTreeMap<String, Totals>,
    /// By currency: what players were given.
    given: BTreeMap<String, i128>,
    violations: Vec<String>,
    /// What a player who is new here gets.
    grant_micro: u64,
    /// Whether lines are on disk before they count.
    synced: bool,
}

/// What one currency comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Stakes taken.
    pub bets_micro: u64,
    /// Wins paid.
    pub wins_micro: u64,
    /// Stakes given back.
    pub rollbacks_micro: u64,
    /// What players were given to play with.
    pub given_micro: i128,
    /// What all players have.
    pub balances_micro: i128,
    /// How many there are.
    pub players: usize,
}

impl Store {
    /// Opens a journal and repeats what stands in it.
    pub fn open(path: &Path) -> Self {
        let journal = File::options().create(true).append(true).read(true).open(path);
        let mut store = Self {
            journal: journal.expect("the wallet's journal"),
            entries: BTreeMap::new(),
            times: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            ends: BTreeMap::new(),
            balances: BTreeMap::new(),
            sums: BTreeMap::new(),
            given: BTreeMap::new(),
            violations: Vec::new(),
            grant_micro: 0,
            synced: true,
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
        if self.synced {
            self.journal.sync_data().expect("sync the journal");
        }
        self.apply(line);
    }

    fn apply(&mut self, line: Line) {
        match line {
            Line::Fund { user, currency, amount_micro } => {
                *self.given.entry(currency.clone()).or_default() += i128::from(amount_micro);
                *self.balances.entry((user, currency)).or_default() += i128::from(amount_micro);
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
        let whose = (entry.user.clone(), entry.currency.clone());
        let balance = self.balances.entry(whose).or_default();
        let sums = self.sums.entry(entry.currency.clone()).or_default();
        match entry.call.as_str() {
            "bet" => {
                *balance -= i128::from(amount);
                sums.bets_micro += amount;
            }
            "win" => {
                *balance += i128::from(amount);
                sums.wins_micro += amount;
            }
            _ => {
                *balance += i128::from(amount);
                sums.rollbacks_micro += amount;
            }
        }
        if let Some(bet) = &entry.reference {
            let ends = self.ends.entry(bet.clone()).or_default();
            ends.push(entry.id.clone());
            if ends.len() > 1 {
                self.violations.push(format!("bet {bet} was ended {} times: {ends:?}", ends.len()));
            }
        }
        *self.times.entry(entry.id.clone()).or_default() += times;
        self.entries.insert(entry.id.clone(), entry);
    }

    /// Gives a player euros.
    pub fn fund(&mut self, user: &str, amount_micro: u64) {
        let (user, currency) = (user.to_owned(), EUR.to_owned());
        self.write(Line::Fund { user, currency, amount_micro });
    }

    /// Gives every player who is new here so much of the currency of the first bet.
    pub const fn grant(&mut self, amount_micro: u64) {
        self.grant_micro = amount_micro;
    }

    /// Leaves it to the system when lines reach the disk: for benches, which measure the ledger.
    pub const fn unsynced(&mut self) {
        self.synced = false;
    }

    /// Processes a transaction and says what the wallet answers. `times`: 1, or 0 for a wallet that forgets it, or 2
    /// for one that books it twice.
    pub fn process(&mut self, entry: Entry, times: u32) -> &'static str {
        if let Some(known) = self.entries.get(&entry.id) {
            return if *known == entry { "RS_OK" } else { "RS_ERROR_DUPLICATE_TRANSACTION" };
        }
        let whose = (entry.user.clone(), entry.currency.clone());
        if self.grant_micro > 0 && !self.balances.contains_key(&whose) {
            let (user, currency) = whose;
            self.write(Line::Fund { user, currency, amount_micro: self.grant_micro });
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
        let balance = self.balance_in(&entry.user, &entry.currency);
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

    /// A player's euros.
    pub fn balance(&self, user: &str) -> i128 {
        self.balance_in(user, EUR)
    }

    /// What a player has, or would be given on coming.
    pub fn would_have(&self, user: &str, currency: &str) -> i128 {
        let whose = (user.to_owned(), currency.to_owned());
        self.balances.get(&whose).copied().unwrap_or(i128::from(self.grant_micro))
    }

    fn balance_in(&self, user: &str, currency: &str) -> i128 {
        let whose = (user.to_owned(), currency.to_owned());
        self.balances.get(&whose).copied().unwrap_or_default()
    }

    /// All players' euros.
    pub fn balances(&self) -> BTreeMap<String, i128> {
        let euros = self.balances.iter().filter(|((_, currency), _)| currency == EUR);
        euros.map(|((user, _), balance)| (user.clone(), *balance)).collect()
    }

    /// What was moved in euros.
    pub fn sums(&self) -> Totals {
        self.sums.get(EUR).copied().unwrap_or_default()
    }

    /// Every currency.
    pub fn accounts(&self) -> BTreeMap<String, Account> {
        let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
        for ((_, currency), balance) in &self.balances {
            let account = accounts.entry(currency.clone()).or_default();
            account.balances_micro += balance;
            account.players += 1;
        }
        for (currency, account) in &mut accounts {
            let sums = self.sums.get(currency).copied().unwrap_or_default();
            account.bets_micro = sums.bets_micro;
            account.wins_micro = sums.wins_micro;
            account.rollbacks_micro = sums.rollbacks_micro;
            account.given_micro = self.given.get(currency).copied().unwrap_or_default();
        }
        accounts
    }

    /// Transactions in order of their id, those after this one, with how often their money moved: never, for a rollback
    /// that came before its bet.
    pub fn booked(&self, after: &str, most: usize) -> Vec<Value> {
        let later = self.entries.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let entries = later.take(most).map(|(_, entry)| {
            let times = self.times.get(&entry.id).copied().unwrap_or_default();
            let mut value = serde_json::to_value(entry).expect("an entry");
            value["times"] = times.into();
            value
        });
        entries.collect()
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
