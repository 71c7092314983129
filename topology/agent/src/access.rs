//! Who may connect to Postgres: the text of `pg_hba.conf`.
//!
//! Invariants: no `trust`, no local sockets, every connection over TCP with SCRAM, and with a certificate of the
//! cluster's authority when TLS is configured; the whole write-ahead log – every jurisdiction's rows – streams to
//! the addresses of ledger nodes only, and so does what a rewind reads; the superuser comes from this machine only; the
//! writer's role gets in only on the primary whose epoch is open. Everything else is refused.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use domicile_topology::address::Address;
use domicile_topology::observed::NodeKind;

use crate::settings::{
    DATABASE, MAINTENANCE_DATABASE, READER_ROLE, REPLICATION_ROLE, REWIND_ROLE, SUPERUSER,
    WRITER_ROLE,
};

/// Whether the writer's role may log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The node is primary and its epoch is open.
    Admitted,
    /// Anything else.
    Refused,
}

/// Renders the access rules. `ledger_peers` are the ledger nodes of the topology, this one included or not.
pub(crate) fn render(
    kind: NodeKind,
    tls: bool,
    ledger_peers: &[Address],
    writer: Writer,
) -> String {
    let (connection, method) = if tls {
        ("hostssl", "scram-sha-256 clientcert=verify-ca")
    } else {
        ("host", "scram-sha-256")
    };
    let mut out =
        String::from("# Written by domicile-agent; the first line that matches decides.\n");
    let mut rule = |database: &str, user: &str, address: &str| {
        writeln!(out, "{connection} {database} {user} {address} {method}").ok();
    };
    rule("all", SUPERUSER, "samehost");
    match kind {
        NodeKind::Ledger => {
            let hosts: BTreeSet<String> = ledger_peers.iter().map(host_column).collect();
            for host in hosts {
                rule("replication", REPLICATION_ROLE, &host);
                rule(MAINTENANCE_DATABASE, REWIND_ROLE, &host);
                rule(DATABASE, REWIND_ROLE, &host);
            }
            rule(DATABASE, REPLICATION_ROLE, "all");
            if writer == Writer::Admitted {
                rule(DATABASE, WRITER_ROLE, "all");
            }
        }
        NodeKind::Reader => rule(DATABASE, READER_ROLE, "all"),
    }
    out.push_str("host all all all reject\nhost replication all all reject\n");
    out
}

/// Renders the rules of data that runs apart from everybody: the superuser, from this machine.
pub(crate) fn render_apart(tls: bool) -> String {
    render(NodeKind::Ledger, tls, &[], Writer::Refused)
        .lines()
        .filter(|line| !line.contains(REPLICATION_ROLE))
        .fold(String::new(), |text, line| text + line + "\n")
}

// An IP address becomes a network of one; a name stands as it is.
fn host_column(address: &Address) -> String {
    match address.host().parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => format!("{ip}/32"),
        Ok(IpAddr::V6(ip)) => format!("{ip}/128"),
        Err(_name) => address.host().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<Vec<&str>> {
        let lines = text.lines().filter(|l| !l.starts_with('#'));
        lines.map(|l| l.split_whitespace().collect()).collect()
    }

    #[test]
    fn only_scram_over_tcp_and_a_closing_refusal() {
        let peers = [Address::parse("10.0.0.1:1").unwrap(), Address::parse("10.0.0.1:2").unwrap()];
        for tls in [false, true] {
            for kind in [NodeKind::Ledger, NodeKind::Reader] {
                let text = render(kind, tls, &peers, Writer::Admitted);
                for rule in rules(&text) {
                    let permits = rule[4] == "scram-sha-256";
                    assert!(permits || rule[4] == "reject", "{rule:?}");
                    assert!(!permits || !tls || rule[0] == "hostssl", "{rule:?}");
                    assert!(!permits || !tls || rule[5] == "clientcert=verify-ca", "{rule:?}");
                }
                assert!(
                    text.ends_with("host all all all reject\nhost replication all all reject\n")
                );
            }
        }
    }

    #[test]
    fn the_whole_log_streams_to_ledger_nodes_only() {
        let peers = [Address::parse("10.0.0.1:1").unwrap(), Address::parse("10.0.0.1:2").unwrap()];
        let text = render(NodeKind::Ledger, false, &peers, Writer::Refused);
        let streams: Vec<_> = rules(&text).into_iter().filter(|r| r[1] == "replication").collect();
        assert_eq!(streams.len(), 2, "one per distinct host, and the refusal");
        assert_eq!(streams[0][3], "10.0.0.1/32");
        let rewinds: Vec<_> = rules(&text).into_iter().filter(|r| r[2] == REWIND_ROLE).collect();
        let of: Vec<_> = rewinds.iter().map(|rule| (rule[1], rule[3])).collect();
        assert_eq!(of, [(MAINTENANCE_DATABASE, "10.0.0.1/32"), (DATABASE, "10.0.0.1/32")]);
        let reader = render(NodeKind::Reader, false, &peers, Writer::Admitted);
        assert!(!reader.contains(REPLICATION_ROLE) && !reader.contains(WRITER_ROLE));
    }

    #[test]
    fn the_writer_gets_in_only_when_admitted() {
        let admitted = render(NodeKind::Ledger, false, &[], Writer::Admitted);
        assert!(admitted.contains(&format!("host {DATABASE} {WRITER_ROLE} all scram-sha-256")));
        assert!(!render(NodeKind::Ledger, false, &[], Writer::Refused).contains(WRITER_ROLE));
    }

    #[test]
    fn data_set_apart_is_for_the_superuser_alone() {
        for tls in [false, true] {
            let text = render_apart(tls);
            let permits: Vec<_> = rules(&text).into_iter().filter(|r| r[4] != "reject").collect();
            assert_eq!(permits.len(), 1, "{permits:?}");
            assert_eq!((permits[0][2], permits[0][3]), (SUPERUSER, "samehost"));
            assert_eq!(rules(&text).len(), 3);
        }
    }
}
