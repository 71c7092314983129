//! Every limit of the domain, named, with its unit. A limit that is not here or in a service's
//! configuration does not exist; a queue, body, wait or text without one is a defect.

/// Longest session token (the whole compact JWT), bytes.
pub const TOKEN_MAX_BYTES: usize = 4096;
/// Longest life of a session token, seconds.
pub const TOKEN_MAX_LIFE_S: u64 = 3600;
/// How far two of our clocks may differ when a token's times are checked, seconds.
pub const TOKEN_LEEWAY_S: u64 = 5;
/// How far an operator's timestamp may be off in either direction, seconds.
pub const OPERATOR_WINDOW_S: u64 = 30;
/// Longest operator key id, bytes.
pub const OPERATOR_KEY_ID_MAX_BYTES: usize = 64;

/// Longest JSON body of a player or operator request, bytes.
pub const REQUEST_BODY_MAX_BYTES: usize = 64 * 1024;
/// Longest public bundle or opening that the verifier reads, bytes.
pub const BUNDLE_MAX_BYTES: usize = 1024 * 1024;
/// Longest leaf text, bytes (fits a tlog entry bundle's 16-bit length).
pub const LEAF_MAX_BYTES: usize = 16 * 1024;
/// Most jurisdictions one shared round may be enabled for.
pub const ROUND_JURISDICTIONS_MAX: usize = 64;

/// Largest signed note that is read, bytes.
pub const NOTE_MAX_BYTES: usize = 64 * 1024;
/// Most signature lines of one note; the specification asks for at least 16.
pub const NOTE_SIGNATURES_MAX: usize = 64;
/// Longest name of a note key, bytes.
pub const KEY_NAME_MAX_BYTES: usize = 128;
/// Largest `tlog-proof` text that is read, bytes: a note, a path, and as much extra data as a note.
pub const TLOG_PROOF_MAX_BYTES: usize = 3 * NOTE_MAX_BYTES;
/// Longest path of a Merkle proof, hashes: a tree of 2^63 leaves needs no more.
pub const PROOF_PATH_MAX_HASHES: usize = 64;
/// Longest tile path that is read, bytes.
pub const TILE_PATH_MAX_BYTES: usize = 64;
/// Longest free text of one line of a leaf (parameters, outcome), bytes.
pub const LINE_TEXT_MAX_BYTES: usize = 1024;

/// Longest game parameter line, bytes.
pub const GAME_PARAMS_MAX_BYTES: usize = 1024;
/// Longest selection of a bet, bytes.
pub const SELECTION_MAX_BYTES: usize = 64;
/// Longest outcome text, bytes.
pub const OUTCOME_MAX_BYTES: usize = 64;
/// Most 64-bit words one outcome may draw; reaching it by rejections is a 2^-64 event at least.
pub const OUTCOME_DRAWS_MAX_WORDS: u64 = 256;
/// Longest private bet record, bytes.
pub const RECORD_MAX_BYTES: usize = 2048;

/// Longest seed chain, plays.
pub const CHAIN_MAX_LENGTH: u32 = 4096;
/// Length of a new seed chain, plays.
pub const CHAIN_DEFAULT_LENGTH: u32 = 512;

/// Longest master key id, bytes.
pub const MASTER_KEY_ID_MAX_BYTES: usize = 64;
/// Most master keys in one key file.
pub const MASTER_KEYS_MAX: usize = 16;
/// Longest secret that is sealed, bytes.
pub const SEALED_PLAINTEXT_MAX_BYTES: usize = 64 * 1024;

/// Longest answer of an operator's wallet that is read, bytes.
pub const WALLET_ANSWER_MAX_BYTES: usize = 16 * 1024;
/// Longest line of an operator's settlement file, bytes.
pub const SETTLEMENT_LINE_MAX_BYTES: usize = 512;
