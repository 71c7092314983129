//! Findings about what lies between the entries: names, placement, residency, keys.

use crate::diagnostics::{Case, run};
use crate::document::{LOCAL, with_keys};
use domicile_topology::{Severity, Topology};

#[test]
fn names_are_unique() {
    run(
        &with_keys(),
        &[
            Case {
                edits: &[(
                    "country = \"GB\"",
                    "country = \"GB\"\n[[region]]\nid = \"de-1\"\ncountry = \"AT\"",
                )],
                errors: &[(
                    "country = \"GB\"\n[[region]]\nid = \"de-1\"",
                    "region `de-1` already stands on line",
                )],
                warnings: &[],
            },
            Case {
                edits: &[("node = \"writer-de\"", "node = \"ledger-mt\"")],
                errors: &[(
                    "[[writer]]\nnode = \"ledger-mt\"",
                    "node `ledger-mt` already stands on line",
                )],
                warnings: &[],
            },
            Case {
                edits: &[("code = \"DE\"", "code = \"MT\"")],
                errors: &[
                    (
                        "log = true\n\n[[jurisdiction]]\ncode = \"MT\"",
                        "jurisdiction `MT` already stands on line",
                    ),
                    ("jurisdictions = [\"DE\"]", "jurisdiction `DE` is not declared"),
                ],
                warnings: &[],
            },
            Case {
                edits: &[("postgres = \"127.0.0.1:7150\"", "postgres = \"127.0.0.1:7101\"")],
                errors: &[(
                    "postgres = \"127.0.0.1:7101\"",
                    "address `127.0.0.1:7101` already stands on line",
                )],
                warnings: &[],
            },
            Case {
                edits: &[("agent_admin = \"127.0.0.1:7124\"", "agent_admin = \"127.0.0.1:7160\"")],
                errors: &[(
                    "endpoint = \"https://127.0.0.1:7160\"",
                    "address `127.0.0.1:7160` already stands on line",
                )],
                warnings: &[],
            },
            Case {
                edits: &[("kid = \"de-2026\"", "kid = \"mt-2026\" # again")],
                errors: &[("kid = \"mt-2026\" # again", "key id `mt-2026` already stands on line")],
                warnings: &[],
            },
        ],
    );
}

#[test]
fn the_operations_logs_code_is_no_jurisdiction() {
    run(
        &with_keys(),
        &[Case {
            edits: &[
                ("code = \"GB\"", "code = \"XO\""),
                ("jurisdictions = [\"GB\"]", "jurisdictions = [\"XO\"]"),
            ],
            errors: &[("code = \"XO\"", "`XO` stands for the operations log")],
            warnings: &[],
        }],
    );
}

#[test]
fn keys_are_unique() {
    let keys = with_keys();
    let added = &keys[keys.find("[[log_key]]").unwrap()..];
    let added = added.replace("epoch = 1", "epoch = 1 # again").replace("vkey =", "vkey  =");
    run(
        &format!("{keys}\n{added}"),
        &[Case {
            edits: &[],
            errors: &[
                ("epoch = 1 # again", "log key `MT/1` already stands on line"),
                ("[[receipt_key]]\nvkey  =", "already stands on line"),
            ],
            warnings: &[],
        }],
    );
}

#[test]
fn names_are_known() {
    run(
        &with_keys(),
        &[Case {
            edits: &[
                ("preferred_region = \"mt-1\"", "preferred_region = \"fr-1\""),
                (
                    "node = \"reader-gb\"\nregion = \"gb-1\"",
                    "node = \"reader-gb\"\nregion = \"fr-2\"",
                ),
                (
                    "code = \"GB\"\nwriter_regions = [\"mt-1\", \"de-1\"]",
                    "code = \"GB\"\nwriter_regions = [\"mt-1\", \"fr-3\"]",
                ),
                ("serve_regions = [\"gb-1\"]", "serve_regions = [\"gb-1\", \"fr-4\"]"),
                ("required_copy_regions = [\"gb-1\"]", "required_copy_regions = [\"fr-5\"]"),
                (
                    "allowed_regions = [\"gb-1\", \"mt-1\", \"de-1\"]",
                    "allowed_regions = [\"gb-1\", \"fr-6\"]",
                ),
                ("kid = \"de-2026\"\nregion = \"de-1\"", "kid = \"de-2026\"\nregion = \"fr-7\""),
                ("jurisdictions = [\"MT\"]", "jurisdictions = [\"MT\", \"FR\"]"),
                ("jurisdiction = \"MT\"", "jurisdiction = \"ES\""),
            ],
            errors: &[
                ("preferred_region = \"fr-1\"", "region `fr-1` is not declared"),
                ("node = \"reader-gb\"\nregion = \"fr-2\"", "region `fr-2` is not declared"),
                ("[\"mt-1\", \"fr-3\"]", "region `fr-3` is not declared"),
                ("[\"gb-1\", \"fr-4\"]", "region `fr-4` is not declared"),
                ("[\"fr-5\"]", "region `fr-5` is not declared"),
                ("[\"gb-1\", \"fr-6\"]", "region `fr-6` is not declared"),
                ("region = \"fr-7\"", "region `fr-7` is not declared"),
                ("[\"MT\", \"FR\"]", "jurisdiction `FR` is not declared"),
                ("jurisdiction = \"ES\"", "jurisdiction `ES` is not declared"),
            ],
            warnings: &[],
        }],
    );
}

#[test]
fn writers_and_ledgers() {
    run(
        LOCAL,
        &[
            Case {
                edits: &[("preferred_region = \"mt-1\"", "preferred_region = \"gb-1\"")],
                errors: &[
                    ("preferred_region = \"gb-1\"", "the preferred region `gb-1` has no ledger"),
                    ("preferred_region = \"gb-1\"", "the preferred region `gb-1` has no writer"),
                    (
                        "code = \"MT\"\nwriter_regions = [\"mt-1\", \"de-1\"]",
                        "would be suspended while the writer is in `gb-1`, its preferred region",
                    ),
                    (
                        "code = \"DE\"\nwriter_regions = [\"mt-1\", \"de-1\"]",
                        "would be suspended while the writer is in `gb-1`, its preferred region",
                    ),
                    (
                        "code = \"GB\"\nwriter_regions = [\"mt-1\", \"de-1\"]",
                        "would be suspended while the writer is in `gb-1`, its preferred region",
                    ),
                ],
                warnings: &[],
            },
            Case {
                edits: &[(
                    "node = \"ledger-de\"\nregion = \"de-1\"",
                    "node = \"ledger-de\"\nregion = \"mt-1\"",
                )],
                errors: &[
                    ("mode = \"two\"", "durability \"two\" with ledger nodes in 1 region(s)"),
                    (
                        "node = \"writer-de\"\nregion = \"de-1\"",
                        "writer `writer-de` has no ledger node in region `de-1`",
                    ),
                    (
                        "node = \"writer-de-2\"\nregion = \"de-1\"",
                        "writer `writer-de-2` has no ledger node in region `de-1`",
                    ),
                ],
                warnings: &[],
            },
            Case {
                edits: &[
                    (
                        "node = \"writer-de\"\nregion = \"de-1\"",
                        "node = \"writer-de\"\nregion = \"gb-1\"",
                    ),
                    (
                        "node = \"writer-de-2\"\nregion = \"de-1\"",
                        "node = \"writer-de-2\"\nregion = \"gb-1\"",
                    ),
                ],
                errors: &[
                    (
                        "node = \"writer-de\"\nregion = \"gb-1\"",
                        "writer `writer-de` has no ledger node in region `gb-1`",
                    ),
                    (
                        "node = \"writer-de-2\"\nregion = \"gb-1\"",
                        "writer `writer-de-2` has no ledger node in region `gb-1`",
                    ),
                ],
                warnings: &[(
                    "node = \"ledger-de\"\nregion = \"de-1\"",
                    "nobody could write in region `de-1` after a promotion",
                )],
            },
        ],
    );
}

#[test]
fn a_region_has_a_few_writers() {
    let entry = |n: u16| {
        format!(
            "[[writer]]\nnode = \"writer-mt-{n}\"\nregion = \"mt-1\"\n\
             endpoint = \"https://127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\n\n",
            9_000 + n,
            9_100 + n
        )
    };
    let before = "# One reader per jurisdiction";
    let errors = |last: u16| {
        let more: String = (3..=last).map(entry).collect();
        let text = LOCAL.replace(before, &format!("{more}{before}"));
        let found = Topology::check(&text).diagnostics.into_iter();
        found.filter(|found| found.severity == Severity::Error).map(|found| found.message).collect()
    };
    let (four, five): (Vec<String>, Vec<String>) = (errors(4), errors(5));
    assert_eq!(four, Vec::<String>::new());
    assert_eq!(five, ["region `mt-1` has more than 4 writers"]);
}

#[test]
fn observers_and_idle_entries() {
    run(
        LOCAL,
        &[
            Case {
                edits: &[("policy = \"manual\"", "policy = \"automatic\"")],
                errors: &[],
                warnings: &[],
            },
            Case {
                edits: &[
                    ("policy = \"manual\"", "policy = \"automatic\""),
                    (
                        "node = \"reader-gb\"\nregion = \"gb-1\"",
                        "node = \"reader-gb\"\nregion = \"de-1\"",
                    ),
                ],
                errors: &[
                    ("policy = \"automatic\"", "automatic failover with agents in 2 region(s)"),
                    ("required_copy_regions = [\"gb-1\"]", "no node holds GB in region `gb-1`"),
                ],
                warnings: &[],
            },
            Case {
                edits: &[(
                    "id = \"gb-1\"",
                    "id = \"fr-1\"\ncountry = \"FR\"\n[[region]]\nid = \"gb-1\"",
                )],
                errors: &[],
                warnings: &[("id = \"fr-1\"", "region `fr-1` has no node")],
            },
            Case {
                edits: &[("jurisdictions = [\"GB\"]", "jurisdictions = []")],
                errors: &[
                    ("jurisdictions = []", "reader `reader-gb` holds no jurisdiction"),
                    ("code = \"GB\"", "jurisdiction GB has no permitted reader"),
                    ("required_copy_regions = [\"gb-1\"]", "no node holds GB in region `gb-1`"),
                ],
                warnings: &[],
            },
        ],
    );
}

#[test]
fn the_control_plane_survives_a_region() {
    run(
        LOCAL,
        &[
            Case {
                edits: &[(
                    "\n[[etcd]]\nnode = \"etcd-gb\"\nregion = \"gb-1\"\nclient = \"https://127.0.0.1:7161\"\npeer = \"https://127.0.0.1:7162\"\n",
                    "",
                )],
                errors: &[],
                warnings: &[
                    ("node = \"etcd-de\"", "2 etcd members survive no more failures than 1"),
                    ("node = \"etcd-de\"", "losing region `de-1` takes"),
                    ("node = \"etcd-de\"", "losing region `mt-1` takes"),
                ],
            },
            Case {
                edits: &[(
                    "node = \"etcd-gb\"\nregion = \"gb-1\"",
                    "node = \"etcd-gb\"\nregion = \"mt-1\"",
                )],
                errors: &[],
                warnings: &[(
                    "node = \"etcd-gb\"",
                    "losing region `mt-1` takes the control plane's majority",
                )],
            },
            Case {
                edits: &[
                    (
                        "\n[[etcd]]\nnode = \"etcd-gb\"\nregion = \"gb-1\"\nclient = \"https://127.0.0.1:7161\"\npeer = \"https://127.0.0.1:7162\"\n",
                        "",
                    ),
                    (
                        "\n[[etcd]]\nnode = \"etcd-de\"\nregion = \"de-1\"\nclient = \"https://127.0.0.1:7131\"\npeer = \"https://127.0.0.1:7132\"\n",
                        "",
                    ),
                ],
                errors: &[],
                warnings: &[],
            },
        ],
    );
}

#[test]
fn who_may_hold_what() {
    run(
        LOCAL,
        &[
            Case {
                edits: &[(
                    "allowed_regions = [\"gb-1\", \"mt-1\", \"de-1\"]",
                    "allowed_regions = [\"gb-1\", \"mt-1\"]",
                )],
                errors: &[
                    (
                        "code = \"GB\"\nwriter_regions = [\"mt-1\", \"de-1\"]",
                        "`writer_regions` of GB names `de-1`, which is not allowed",
                    ),
                    (
                        "node = \"ledger-de\"\nregion = \"de-1\"",
                        "ledger `ledger-de` would hold GB in region `de-1`, which is not allowed",
                    ),
                ],
                warnings: &[],
            },
            Case {
                edits: &[(
                    "required_copy_regions = [\"mt-1\"]",
                    "required_copy_regions = [\"mt-1\", \"gb-1\"]\nserve_regions = [\"mt-1\", \"gb-1\"]",
                )],
                errors: &[
                    (
                        "required_copy_regions = [\"mt-1\", \"gb-1\"]",
                        "`required_copy_regions` of MT names `gb-1`, which is not allowed",
                    ),
                    (
                        "required_copy_regions = [\"mt-1\", \"gb-1\"]",
                        "no node holds MT in region `gb-1`",
                    ),
                    (
                        "serve_regions = [\"mt-1\", \"gb-1\"]",
                        "`serve_regions` of MT names `gb-1`, which is not allowed",
                    ),
                ],
                warnings: &[],
            },
            Case {
                edits: &[("jurisdictions = [\"GB\"]", "jurisdictions = [\"GB\", \"MT\"]")],
                errors: &[(
                    "jurisdictions = [\"GB\", \"MT\"]",
                    "reader `reader-gb` would hold MT in region `gb-1`, which is not allowed",
                )],
                warnings: &[],
            },
            Case {
                edits: &[("jurisdictions = [\"DE\"]", "jurisdictions = [\"GB\"] # DE")],
                errors: &[("code = \"DE\"", "jurisdiction DE has no permitted reader")],
                warnings: &[],
            },
        ],
    );
}

#[test]
fn who_writes_and_who_serves() {
    run(
        LOCAL,
        &[
            Case {
                edits: &[(
                    "code = \"GB\"\nwriter_regions = [\"mt-1\", \"de-1\"]",
                    "code = \"GB\"\nwriter_regions = [\"de-1\"]",
                )],
                errors: &[(
                    "writer_regions = [\"de-1\"]",
                    "GB would be suspended while the writer is in `mt-1`, its preferred region",
                )],
                warnings: &[],
            },
            Case {
                edits: &[(
                    "code = \"GB\"\nwriter_regions = [\"mt-1\", \"de-1\"]",
                    "code = \"GB\"\nwriter_regions = [\"mt-1\"]",
                )],
                errors: &[],
                warnings: &[(
                    "writer_regions = [\"mt-1\"]",
                    "GB is suspended whenever the writer is in `de-1`",
                )],
            },
            Case {
                edits: &[(
                    "node = \"router-gb\"\nregion = \"gb-1\"",
                    "node = \"router-gb\"\nregion = \"mt-1\"",
                )],
                errors: &[("serve_regions = [\"gb-1\"]", "no router may serve GB")],
                warnings: &[],
            },
        ],
    );
}

#[test]
fn keys() {
    run(
        &with_keys(),
        &[
            Case {
                edits: &[(
                    "kid = \"de-2026\"\nregion = \"de-1\"",
                    "kid = \"de-2026\"\nregion = \"gb-1\"",
                )],
                errors: &[(
                    "kid = \"de-2026\"\nregion = \"gb-1\"",
                    "session key `de-2026` is of region `gb-1`, which has no ledger",
                )],
                warnings: &[],
            },
            Case {
                edits: &[("jurisdiction = \"MT\"", "jurisdiction = \"DE\"")],
                errors: &[("vkey = \"demo/MT/1", "the verifier key is named `demo/MT/1`")],
                warnings: &[],
            },
            Case {
                edits: &[("cluster = \"demo\"", "cluster = \"other\"")],
                errors: &[
                    ("vkey = \"demo/MT/1", "named `demo/MT/1`"),
                    ("vkey = \"demo/receipt", "named `demo/receipt`"),
                ],
                warnings: &[],
            },
        ],
    );
}
