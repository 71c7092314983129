//! What each role may change in etcd: the one table from which etcd's users are made and its refusals explained.
//!
//! etcd takes the common name of a client's certificate for its user, and the common name is the role. Every role here
//! reads all keys of its cluster; what it changes is what its programs do, and no more.
//! Deliberately absent: the members themselves, whose certificate is for each other and has no user.

use crate::etcd::auth::{PERMIT_READ, PERMIT_WRITE, Permission};
use crate::etcd::prefix_end;
use domicile_core::ids::ClusterId;
use domicile_topology::lease::KEY_FOLDER;

/// The user that may change users; its certificate is for setting them up.
pub const ROOT: &str = "root";
/// The role of the members, the only ones that may speak as members.
pub const MEMBER: &str = "etcd";

/// Keys of a cluster, by what follows its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// This one.
    One(&'static str),
    /// All in this folder.
    Under(&'static str),
}

use Keys::{One, Under};

/// Moves the writer by hand, and publishes the topology.
const MOVES: &[Keys] = &[One("record"), One("topology"), Under("plan")];

/// Every role with what it changes.
const ROLES: [(&str, &[Keys]); 8] = [
    ("agent", &[One("record"), Under("plan"), Under("operations")]),
    ("ctl", MOVES),
    ("dr-lead", MOVES),
    ("operator", &[]),
    ("reader", &[]),
    ("router", &[]),
    ("viewer", &[]),
    ("writer", &[Under(KEY_FOLDER)]),
];

/// The users of a cluster's etcd, each with what its role permits.
pub(crate) fn users(cluster: &ClusterId) -> Vec<(&'static str, Vec<Permission>)> {
    let all = format!("/domicile/{cluster}/");
    let permission = |kind, key: String, range_end| Permission { kind, key: key.into(), range_end };
    let users = ROLES.iter().map(|(name, keys)| {
        let whole = permission(PERMIT_READ, all.clone(), prefix_end(&all));
        let changes = keys.iter().map(|keys| match keys {
            One(name) => permission(PERMIT_WRITE, format!("{all}{name}"), Vec::new()),
            Under(folder) => {
                let prefix = format!("{all}{folder}/");
                let end = prefix_end(&prefix);
                permission(PERMIT_WRITE, prefix, end)
            }
        });
        (*name, std::iter::once(whole).chain(changes).collect())
    });
    users.collect()
}

/// Which roles may change all of these keys, in words.
pub(crate) fn who_changes(keys: &[String]) -> String {
    let may = |granted: &[Keys]| keys.iter().all(|key| granted.iter().any(|g| g.holds(key)));
    name_those(|granted| may(granted))
}

/// Which roles may read, in words.
pub(crate) fn who_reads() -> String {
    name_those(|_| true)
}

fn name_those(may: impl Fn(&[Keys]) -> bool) -> String {
    let names = ROLES.iter().filter(|(_, granted)| may(granted)).map(|(name, _)| *name);
    match names.collect::<Vec<_>>().as_slice() {
        [] => "no role may".to_owned(),
        [only] => format!("this needs the role {only}"),
        [first @ .., last] => format!("this needs the role {} or {last}", first.join(", ")),
    }
}

impl Keys {
    /// Whether it is among them; the cluster is whichever the key names.
    fn holds(self, key: &str) -> bool {
        let name = key.strip_prefix("/domicile/").and_then(|rest| rest.split_once('/'));
        let Some((_, name)) = name else { return false };
        match self {
            One(one) => name == one,
            Under(folder) => name.split_once('/').is_some_and(|(first, _)| first == folder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changers(name: &str) -> String {
        who_changes(&[format!("/domicile/demo/{name}")])
    }

    #[test]
    fn a_refusal_names_who_may() {
        assert_eq!(changers("record"), "this needs the role agent, ctl or dr-lead");
        assert_eq!(changers("topology"), "this needs the role ctl or dr-lead");
        assert_eq!(changers("writer-lease/writer-mt"), "this needs the role writer");
        assert_eq!(changers("operations/pin"), "this needs the role agent");
        assert_eq!(changers("recorded"), "no role may");
        let both = ["record", "topology"].map(|name| format!("/domicile/demo/{name}"));
        assert_eq!(who_changes(&both), "this needs the role ctl or dr-lead");
    }

    #[test]
    fn everyone_reads_their_own_cluster_only() {
        let cluster = ClusterId::parse("demo").unwrap();
        for (name, permissions) in users(&cluster) {
            let (first, changes) = permissions.split_first().unwrap();
            assert_eq!(first.kind, PERMIT_READ, "{name}");
            assert_eq!(
                (first.key.as_slice(), first.range_end.as_slice()),
                (&b"/domicile/demo/"[..], &b"/domicile/demo0"[..])
            );
            assert!(
                changes
                    .iter()
                    .all(|p| p.kind == PERMIT_WRITE && p.key.starts_with(b"/domicile/demo/"))
            );
        }
    }
}
