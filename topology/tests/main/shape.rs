//! Findings about the syntax and about single entries.

use crate::diagnostics::{Case, run};
use crate::document::{LOCAL, with_keys};

#[test]
fn syntax() {
    run(
        LOCAL,
        &[
            Case {
                edits: &[("generation = 1", "generation = = 1"), ("country = \"GB\"", "country")],
                errors: &[("generation = = 1", "not valid TOML"), ("country\n", "not valid TOML")],
                warnings: &[],
            },
            Case {
                edits: &[("generation = 1", "generation = 1\ngeneration = 2")],
                errors: &[("generation = 2", "duplicate key")],
                warnings: &[],
            },
        ],
    );
}

#[test]
fn shape() {
    run(
        LOCAL,
        &[
            Case {
                edits: &[
                    ("generation = 1", "generation = 0\ncolour = \"red\""),
                    ("mode = \"two\"", "mode = \"three\"\nmodus = 1"),
                    ("preferred_region = \"mt-1\"\n", ""),
                    ("postgres = \"127.0.0.1:7110\"", "postgres = \"127.0.0.1\""),
                    ("agent = \"https://127.0.0.1:7141\"", "agent = \"http://127.0.0.1:7141\""),
                ],
                errors: &[
                    ("generation = 0", "not a number within the bounds"),
                    ("colour", "the document has no key `colour`"),
                    ("mode = \"three\"", "not one of the possible words"),
                    ("modus", "[durability] has no key `modus`"),
                    ("[failover]", "[failover] lacks the key `preferred_region`"),
                    ("postgres = \"127.0.0.1\"\n", "no port from 1 to 65535"),
                    ("http://127.0.0.1:7141", "not of the form https://host:port"),
                ],
                warnings: &[],
            },
            Case {
                edits: &[
                    ("cluster = \"demo\"", "cluster = \"Demo\""),
                    ("id = \"gb-1\"", "id = 7"),
                    ("country = \"GB\"", "country = \"United Kingdom\""),
                    ("jurisdictions = [\"MT\"]", "jurisdictions = \"MT\""),
                    ("jurisdictions = [\"DE\"]", "jurisdictions = [\"DE\", \"DE\"]"),
                    ("jurisdictions = [\"GB\"]", "jurisdictions = [\"gb\", 5]"),
                    (
                        "lag_limit_ms = 5000\npublish_log = true",
                        "lag_limit_ms = 99\npublish_log = 1",
                    ),
                ],
                errors: &[
                    ("cluster = \"Demo\"", "not a valid cluster"),
                    ("id = 7", "`id` in [[region]]: is of type integer"),
                    ("United Kingdom", "not a valid jurisdiction"),
                    ("jurisdictions = \"MT\"", "is of type string"),
                    ("jurisdictions = [\"DE\", \"DE\"]", "`DE` is named twice"),
                    ("jurisdictions = [\"gb\", 5]", "not a valid jurisdiction"),
                    ("jurisdictions = [\"gb\", 5]", "is of type integer"),
                    ("lag_limit_ms = 99", "not a number within the bounds"),
                    ("publish_log = 1\n", "not a boolean"),
                ],
                warnings: &[],
            },
            Case {
                edits: &[
                    ("[durability]\nmode = \"two\"\n", "durability = \"two\"\nrouter = 1\n"),
                    ("[failover]\npolicy = \"manual\"\npreferred_region = \"mt-1\"\n", ""),
                    ("[[router]]", "[[rooter]]"),
                    ("[[router]]", "[[rooter]]"),
                    ("[[router]]", "[[rooter]]"),
                ],
                errors: &[
                    ("durability = \"two\"", "`durability` in the document: is of type string"),
                    ("# Three regions", "the document lacks the key `failover`"),
                    ("router = 1", "`router` in the document: is of type integer"),
                    ("# The way in of each region.\n\n[[rooter]]", "no key `rooter`"),
                ],
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
                edits: &[
                    ("kid = \"mt-2026\"", "kid = \"mt 2026\""),
                    ("algorithm = \"EdDSA\"", "algorithm = \"HS256\""),
                    ("algorithm = \"ES256\"", "algorithm = \"EdDSA\""),
                    ("epoch = 1", "epoch = 0"),
                ],
                errors: &[
                    ("kid = \"mt 2026\"", "a key id is 1-64 characters"),
                    ("algorithm = \"HS256\"", "not one of the possible words"),
                    ("EdDSA\"\npublic_key = \"\"\"", "no key of the declared algorithm"),
                    ("epoch = 0", "not a number within the bounds"),
                ],
                warnings: &[],
            },
            Case {
                edits: &[
                    ("PUBLIC KEY-----\nMCow", "PRIVATE KEY-----\nMCow"),
                    ("bmdT9POxg==", "bmdT9POxg"),
                    ("vkey = \"demo/MT/1+", "vkey = \"demo/MT/2+"),
                    ("vkey = \"demo/receipt+", "vkey = \"demo receipt+"),
                ],
                errors: &[
                    ("EdDSA\"\npublic_key = \"\"\"", "not a PEM public key"),
                    ("ES256\"\npublic_key = \"\"\"", "not a PEM public key"),
                    ("vkey = \"demo/MT/2+", "not an Ed25519 note key"),
                    ("vkey = \"demo receipt+", "a key name is 1-128 bytes"),
                ],
                warnings: &[],
            },
        ],
    );
}
