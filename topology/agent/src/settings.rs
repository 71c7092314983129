//! Postgres' configuration as text: one file common to a node's whole life, one that follows its role.
//!
//! Both live outside the data directory, where no copy of the data takes them along: a raw copy of a node starts with
//! no upstream, no credentials and no network. Invariants: a standby is never left with an empty
//! `synchronous_standby_names`, so that one promoted behind the agent's back acknowledges nothing; no setting lets a
//! server timeout fire in the wait for the second region; slots are never invalidated by age or size.
//! Deliberately absent: reading or writing files, and tuning of memory, which is the operator's `tuning` table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use domicile_core::ids::NodeId;
use domicile_service::config::TlsFiles;
use domicile_topology::address::Address;
use domicile_topology::member::Member;
use domicile_topology::observed::NodeKind;
use serde::{Deserialize, Serialize};

/// The database that holds the ledger, or a reader's part of it.
pub const DATABASE: &str = "domicile";
/// The role of standbys and subscriptions.
pub const REPLICATION_ROLE: &str = "domicile_replication";
/// The database that every server has.
pub const MAINTENANCE_DATABASE: &str = "postgres";
/// The role that reads a primary's files for the rewind of a returned node.
pub const REWIND_ROLE: &str = "domicile_rewind";
/// The role of the writer service: let in by the access rules while its epoch is open.
pub const WRITER_ROLE: &str = "domicile_writer";
/// The role of the reader service.
pub const READER_ROLE: &str = "domicile_reader";
/// The agent's own role.
pub const SUPERUSER: &str = "postgres";

/// A name that no standby ever has: what a commit waits for on a node that nobody made primary.
const NOBODY_YET: &str = "nobody_yet";
/// Silence after which a replication connection is given up, on both ends, in milliseconds.
const REPLICATION_TIMEOUT_MS: u32 = 5_000;
/// Connection attempts to another node, in seconds.
const CONNECT_TIMEOUT_S: u32 = 3;
/// Walsenders and slots: standbys, readers and their table copies, with room to rejoin.
const MAX_REPLICATION: u32 = 60;
/// How long a server that lost its source waits before it asks again.
const RETRY_MS: u32 = 500;
/// The same while it is promoted: Postgres sits out this wait even when the promotion comes within it.
const RETRY_PROMOTING_MS: u32 = 10;
/// Client connections: the pools of all writers of the region plus the agent's own.
const MAX_CONNECTIONS: u32 = 200;
/// Background processes: apply and table-copy workers of a reader that hosts many jurisdictions.
const MAX_WORKERS: u32 = 64;

/// What commits wait for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncTarget {
    /// For a name nobody has: the state of every node that was not made primary.
    #[default]
    Closed,
    /// For nobody: the first primary until its standby has joined, and the degraded mode.
    Off,
    /// For this member.
    Member(Member),
}

/// Where a standby streams from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream<'a> {
    /// The source's Postgres.
    pub address: &'a Address,
    /// Own membership: names the connection and the slot.
    pub member: &'a Member,
}

/// Input of the common file.
#[derive(Debug, Clone)]
pub struct Common<'a> {
    /// Ledger or reader.
    pub kind: NodeKind,
    /// Where Postgres listens.
    pub listen: &'a Address,
    /// The access rules' file.
    pub hba_file: &'a Path,
    /// The (empty) user-map file.
    pub ident_file: &'a Path,
    /// The role file, included last.
    pub role_file: &'a Path,
    /// Postgres' own logs.
    pub log_dir: &'a Path,
    /// Certificates, when Postgres speaks TLS.
    pub tls: Option<&'a TlsFiles>,
    /// The operator's own settings, such as `shared_buffers`.
    pub tuning: &'a BTreeMap<String, String>,
}

/// Input of the role file.
#[derive(Debug, Clone)]
pub struct RoleSettings<'a> {
    /// This node.
    pub node: &'a NodeId,
    /// Set on a standby.
    pub upstream: Option<Upstream<'a>>,
    /// What commits wait for.
    pub sync: &'a SyncTarget,
    /// Off for a moment to restart the worker that copies slots; on otherwise.
    pub slot_sync: bool,
    /// The replication password's file.
    pub passfile: &'a Path,
    /// Certificates, when Postgres speaks TLS.
    pub tls: Option<&'a TlsFiles>,
}

/// Settings an operator may add: sizes and planner hints, nothing that touches durability or access.
pub const TUNABLE: &[&str] = &[
    "checkpoint_timeout",
    "effective_cache_size",
    "effective_io_concurrency",
    "huge_pages",
    "io_method",
    "maintenance_work_mem",
    "max_wal_size",
    "min_wal_size",
    "shared_buffers",
    "wal_buffers",
    "wal_keep_size",
    "work_mem",
];

/// Renders the common file.
pub fn render_common(input: &Common<'_>) -> String {
    let mut out = String::from("# Written by domicile-agent at each start; changes are lost.\n");
    let mut set = |name: &str, value: &str| put(&mut out, name, value);
    set("listen_addresses", input.listen.host());
    set("port", &input.listen.port().to_string());
    set("unix_socket_directories", "");
    set("hba_file", &input.hba_file.to_string_lossy());
    set("ident_file", &input.ident_file.to_string_lossy());
    set("allow_alter_system", "off");
    set("password_encryption", "scram-sha-256");
    set("max_connections", &MAX_CONNECTIONS.to_string());
    set("max_worker_processes", &MAX_WORKERS.to_string());
    set("max_logical_replication_workers", &MAX_WORKERS.to_string());
    set("max_sync_workers_per_subscription", "2");
    set("wal_keep_size", "256MB");
    for (name, value) in input.tuning {
        set(name, value);
    }
    durability(input.kind, &mut set);
    replication(&mut set);
    logging(input.log_dir, &mut set);
    if let Some(tls) = input.tls {
        set("ssl", "on");
        set("ssl_cert_file", &tls.cert.to_string_lossy());
        set("ssl_key_file", &tls.key.to_string_lossy());
        set("ssl_ca_file", &tls.ca.to_string_lossy());
        set("ssl_min_protocol_version", "TLSv1.3");
    }
    writeln!(out, "include {}", quote(&input.role_file.to_string_lossy())).ok();
    out
}

fn durability(kind: NodeKind, set: &mut impl FnMut(&str, &str)) {
    let wal_level = match kind {
        NodeKind::Ledger => "logical",
        NodeKind::Reader => "replica",
    };
    set("wal_level", wal_level);
    set("fsync", "on");
    set("full_page_writes", "on");
    set("synchronous_commit", "on");
    set("restart_after_crash", "on");
    for name in ["statement_timeout", "lock_timeout", "transaction_timeout"] {
        set(name, "0");
    }
}

fn replication(set: &mut impl FnMut(&str, &str)) {
    let timeout = format!("{REPLICATION_TIMEOUT_MS}ms");
    set("max_wal_senders", &MAX_REPLICATION.to_string());
    set("max_replication_slots", &MAX_REPLICATION.to_string());
    set("max_active_replication_origins", &MAX_REPLICATION.to_string());
    set("max_slot_wal_keep_size", "-1");
    set("idle_replication_slot_timeout", "0");
    set("hot_standby", "on");
    set("hot_standby_feedback", "on");
    set("wal_sender_timeout", &timeout);
    set("wal_receiver_timeout", &timeout);
    set("wal_receiver_status_interval", "1s");
    set("wal_retrieve_retry_interval", &format!("{RETRY_MS}ms"));
    set("tcp_keepalives_idle", "5");
    set("tcp_keepalives_interval", "1");
    set("tcp_keepalives_count", "5");
}

// Terse, because details and contexts quote row values, which are personal data of one jurisdiction.
fn logging(log_dir: &Path, set: &mut impl FnMut(&str, &str)) {
    set("logging_collector", "on");
    set("log_directory", &log_dir.to_string_lossy());
    set("log_filename", "postgresql-%H.log");
    set("log_file_mode", "0600");
    set("log_rotation_age", "1h");
    set("log_rotation_size", "0");
    set("log_truncate_on_rotation", "on");
    set("log_error_verbosity", "terse");
    set("log_statement", "none");
    set("log_min_error_statement", "panic");
    set("log_parameter_max_length", "0");
    set("log_line_prefix", "%m [%p] %q%u@%d/%a ");
    set("log_timezone", "UTC");
    set("timezone", "UTC");
    set("lc_messages", "C");
}

/// Renders the role file.
pub fn render_role(input: &RoleSettings<'_>) -> String {
    let mut out = String::from("# Written by domicile-agent with each change of role.\n");
    let name = match &input.upstream {
        Some(upstream) => upstream.member.replication_name(),
        None => input.node.to_string(),
    };
    put(&mut out, "cluster_name", &name);
    if let Some(upstream) = &input.upstream {
        let conninfo =
            conninfo(&Login::replication(upstream.address, None), input.passfile, input.tls);
        put(&mut out, "primary_conninfo", &conninfo);
        put(&mut out, "primary_slot_name", &upstream.member.slot_name());
        // Only a standby that is being promoted has anything to wait for.
        if *input.sync != SyncTarget::Closed {
            put(&mut out, "wal_retrieve_retry_interval", &format!("{RETRY_PROMOTING_MS}ms"));
        }
    }
    put(&mut out, "sync_replication_slots", if input.slot_sync { "on" } else { "off" });
    put(&mut out, "synchronous_standby_names", &standby_names(input.sync));
    let slots = match input.sync {
        SyncTarget::Member(member) => member.slot_name(),
        SyncTarget::Closed | SyncTarget::Off => String::new(),
    };
    put(&mut out, "synchronized_standby_slots", &slots);
    out
}

/// Renders the role file of data that runs apart from everybody, to be read: it follows nobody, nobody follows it, and
/// nothing can commit on it.
pub fn render_role_apart() -> String {
    let mut out = String::from(
        "# Written by domicile-agent to look into data that is about to be replaced.\n",
    );
    for (name, value) in [
        ("sync_replication_slots", "off"),
        ("synchronous_standby_names", &standby_names(&SyncTarget::Closed)),
        ("default_transaction_read_only", "on"),
        ("autovacuum", "off"),
    ] {
        put(&mut out, name, value);
    }
    out
}

/// The value of `synchronous_standby_names`.
pub fn standby_names(sync: &SyncTarget) -> String {
    match sync {
        SyncTarget::Closed => format!("FIRST 1 (\"{NOBODY_YET}\")"),
        SyncTarget::Off => String::new(),
        SyncTarget::Member(member) => format!("FIRST 1 (\"{}\")", member.replication_name()),
    }
}

/// Where a connection string leads, and as whom.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// The server.
    pub address: &'a Address,
    /// The role; its password is in the passfile.
    pub role: &'a str,
    /// The database.
    pub database: &'a str,
    /// The name the connection shows.
    pub application_name: Option<&'a str>,
}

impl<'a> Login<'a> {
    /// The replication role: for standbys (named by `cluster_name`) and subscriptions.
    pub fn replication(address: &'a Address, application_name: Option<&'a str>) -> Self {
        Self { address, role: REPLICATION_ROLE, database: DATABASE, application_name }
    }

    /// The role that a rewind reads with.
    pub fn rewind(address: &'a Address) -> Self {
        let database = MAINTENANCE_DATABASE;
        Self { address, role: REWIND_ROLE, database, application_name: None }
    }
}

/// A connection string.
pub fn conninfo(login: &Login<'_>, passfile: &Path, tls: Option<&TlsFiles>) -> String {
    let mut parts = vec![
        ("host", login.address.host().to_owned()),
        ("port", login.address.port().to_string()),
        ("user", login.role.to_owned()),
        ("dbname", login.database.to_owned()),
        ("passfile", passfile.to_string_lossy().into_owned()),
        ("connect_timeout", CONNECT_TIMEOUT_S.to_string()),
        ("tcp_user_timeout", REPLICATION_TIMEOUT_MS.to_string()),
        ("keepalives_idle", "5".to_owned()),
        ("gssencmode", "disable".to_owned()),
    ];
    if let Some(name) = login.application_name {
        parts.push(("application_name", name.to_owned()));
    }
    match tls {
        None => parts.push(("sslmode", "disable".to_owned())),
        Some(tls) => {
            let path = |path: &Path| path.to_string_lossy().into_owned();
            parts.push(("sslmode", "verify-full".to_owned()));
            parts.push(("sslrootcert", path(&tls.ca)));
            parts.push(("sslcert", path(&tls.cert)));
            parts.push(("sslkey", path(&tls.key)));
        }
    }
    let pairs: Vec<String> =
        parts.iter().map(|(key, value)| format!("{key}={}", quote_conninfo(value))).collect();
    pairs.join(" ")
}

/// A line of the password file for a role, at any address.
pub fn passfile_line(role: &str, password: &str) -> String {
    let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
    format!("*:*:*:{role}:{escaped}\n")
}

fn put(out: &mut String, name: &str, value: &str) {
    writeln!(out, "{name} = {}", quote(value)).ok();
}

// A line break would end the setting and start another: it never occurs in the inputs, and is taken out here anyway.
fn quote(value: &str) -> String {
    let plain: String = value.chars().filter(|c| !c.is_control()).collect();
    format!("'{}'", plain.replace('\\', "\\\\").replace('\'', "''"))
}

fn quote_conninfo(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_topology::member::JoinId;

    fn member() -> Member {
        Member {
            node: NodeId::parse("ledger-de").unwrap(),
            join_id: JoinId::parse("00000000000000ab").unwrap(),
        }
    }

    fn line<'a>(text: &'a str, name: &str) -> &'a str {
        let mut found = text.lines().filter(|l| l.starts_with(&format!("{name} = ")));
        let line = found.next().unwrap_or_else(|| panic!("{name} is not set"));
        assert!(found.next().is_none(), "{name} is set twice");
        line.split_once(" = ").unwrap().1
    }

    fn role(upstream: bool, sync: &SyncTarget) -> String {
        let (node, own) = (NodeId::parse("ledger-de").unwrap(), member());
        let address = Address::parse("10.0.0.1:5432").unwrap();
        render_role(&RoleSettings {
            node: &node,
            upstream: upstream.then_some(Upstream { address: &address, member: &own }),
            sync,
            slot_sync: true,
            passfile: Path::new("/srv/o'brien/pass"),
            tls: None,
        })
    }

    #[test]
    fn a_standby_is_named_by_its_joining_and_closed_to_commits() {
        let text = role(true, &SyncTarget::Closed);
        assert_eq!(line(&text, "cluster_name"), "'ledger-de_00000000000000ab'");
        assert_eq!(line(&text, "primary_slot_name"), "'phys_ledger_de_00000000000000ab'");
        assert_eq!(line(&text, "synchronous_standby_names"), "'FIRST 1 (\"nobody_yet\")'");
        let conninfo = line(&text, "primary_conninfo");
        assert!(conninfo.contains("dbname=''domicile''"), "slot copying needs a database");
        assert!(!conninfo.contains("application_name"), "the name comes from cluster_name");
        assert!(conninfo.contains(r"o\\''brien"), "{conninfo}");
    }

    #[test]
    fn only_a_standby_being_promoted_asks_its_source_at_short_intervals() {
        let interval = "wal_retrieve_retry_interval";
        for sync in [SyncTarget::Off, SyncTarget::Member(member())] {
            assert_eq!(line(&role(true, &sync), interval), "'10ms'");
            assert!(!role(false, &sync).contains(interval));
        }
        assert!(!role(true, &SyncTarget::Closed).contains(interval));
    }

    #[test]
    fn a_primary_waits_for_its_member_alone() {
        let text = role(false, &SyncTarget::Member(member()));
        let names = line(&text, "synchronous_standby_names");
        assert_eq!(names, "'FIRST 1 (\"ledger-de_00000000000000ab\")'");
        let slots = line(&text, "synchronized_standby_slots");
        assert_eq!(slots, "'phys_ledger_de_00000000000000ab'");
        assert!(!text.contains("primary_conninfo"));
        assert_eq!(line(&role(false, &SyncTarget::Off), "synchronous_standby_names"), "''");
    }

    #[test]
    fn the_common_file_keeps_the_rules_whatever_is_tuned() {
        let listen = Address::parse("127.0.0.1:7110").unwrap();
        let tuning = BTreeMap::from([("shared_buffers".to_owned(), "64MB".to_owned())]);
        let text = render_common(&Common {
            kind: NodeKind::Ledger,
            listen: &listen,
            hba_file: Path::new("/c/pg_hba.conf"),
            ident_file: Path::new("/c/pg_ident.conf"),
            role_file: Path::new("/c/role.conf"),
            log_dir: Path::new("/c/log"),
            tls: None,
            tuning: &tuning,
        });
        for (name, value) in [
            ("wal_level", "'logical'"),
            ("allow_alter_system", "'off'"),
            ("unix_socket_directories", "''"),
            ("idle_replication_slot_timeout", "'0'"),
            ("max_slot_wal_keep_size", "'-1'"),
            ("lc_messages", "'C'"),
            ("synchronous_commit", "'on'"),
            ("statement_timeout", "'0'"),
            ("shared_buffers", "'64MB'"),
        ] {
            assert_eq!(line(&text, name), value);
        }
        assert!(text.ends_with("include '/c/role.conf'\n"), "the role file has the last word");
    }

    #[test]
    fn with_certificates_the_peer_is_verified() {
        let address = Address::parse("db.example:5432").unwrap();
        let file = |name: &str| Path::new("/tls").join(name);
        let tls = TlsFiles { cert: file("cert"), key: file("key"), ca: file("ca") };
        let login = Login::replication(&address, Some("sub_x"));
        let text = conninfo(&login, Path::new("/p"), Some(&tls));
        for part in ["sslmode='verify-full'", "sslrootcert='/tls/ca'", "sslcert='/tls/cert'"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.contains("application_name='sub_x'") && !text.contains("password"), "{text}");
    }

    #[test]
    fn a_password_with_separators_survives_the_passfile() {
        assert_eq!(passfile_line("role", r"a:b\c"), "*:*:*:role:a\\:b\\\\c\n");
    }
}
