//! Every limit of the writer, by name and with its unit.
//!
//! Invariant: no queue, wait, body, cache or loop of this package is bounded by anything that does
//! not stand here (limits of the domain – games, tokens, chains, rounds – stand in `domicile_core::limits`).

use std::ops::RangeInclusive;
use std::time::Duration;

/// Largest request body in bytes.
pub const BODY_BYTES: usize = 16 * 1024;
/// Longest wait for a request body, milliseconds.
pub const BODY_WAIT_MS: u64 = 5_000;
/// Longest handling of a request before its client is told that the outcome is unknown, milliseconds.
pub const REQUEST_MS: u64 = 30_000;
/// Longest parser message passed on to a caller, in characters.
pub const DETAIL_CHARS: usize = 200;
/// Longest wait for a database connection, milliseconds.
pub const CONNECT_MS: u64 = 2_000;
/// Longest run of one statement, milliseconds.
pub const STATEMENT_MS: u64 = 5_000;
/// Longest wait for a commit to be on disk in two regions; after it the outcome is unknown.
pub const COMMIT_WAIT: Duration = Duration::from_secs(10);
/// Longest wait of a request behind earlier ones of its session, round or request id.
pub const GATE_WAIT: Duration = Duration::from_secs(5);
/// Most requests of one session that run or wait.
pub const SESSION_REQUESTS: usize = 32;
/// Most bets and changes of one round that run or wait.
pub const ROUND_REQUESTS: usize = 4_096;
/// Most copies of one operator request that run or wait.
pub const REQUEST_COPIES: usize = 8;
/// Most keys with a gate at one time.
pub const GATES_KEYS: usize = 65_536;
/// Most queued requests per lane.
pub const LANE_QUEUE_REQUESTS: usize = 4_096;
/// Most requests that share one transaction: at 40 ms between the regions it bounds the throughput.
pub const LANE_BATCH_REQUESTS: usize = 512;
/// Workers, and so database sessions, of a lane that commits: one batch waits for the second region while
/// the next one is written.
pub const WRITE_WORKERS: usize = 2;
/// Workers, and so database sessions, of a lane that looks.
pub const LOOK_WORKERS: usize = 1;
/// Database sessions for requests that are transactions of their own.
pub const HAND_SESSIONS: usize = 8;
/// Longest wait for an answer at a desk; without one it is lost.
pub const DESK_PATIENCE: Duration = Duration::from_secs(1);
/// Silence after which the server ends a desk's session: more than a pause and the patience together.
pub const DESK_SILENCE: Duration = Duration::from_secs(3);
/// Pause between two looks at a desk: at whether the lock is free, or at what its holder has published.
pub const DESK_PAUSE: Duration = Duration::from_millis(250);
/// How long words gather at a desk before they are acted on.
pub const DESK_GATHER: Duration = Duration::from_millis(5);
/// Longest wait for a published checkpoint that covers a commitment.
pub const COVERAGE_WAIT: Duration = Duration::from_secs(2);
/// Pause between two looks at the log's index while a commitment is being sequenced.
pub const COVERAGE_POLL: Duration = Duration::from_millis(20);
/// Most requests waiting for coverage at one time.
pub const COVERAGE_WAITERS_REQUESTS: usize = 1_024;
/// Attempts of one request whose rows changed under it before it is refused as overloaded.
pub const RACE_ATTEMPTS: usize = 8;
/// Unused seeds at which the next chain is committed.
pub const CHAIN_ROLLOVER_PLAYS: u32 = 64;
/// Most wallets of operators.
pub const WALLETS: usize = 1_024;
/// Age at which the wallets are read again.
pub const WALLETS_MAX_AGE: Duration = Duration::from_secs(1);
/// Longest connect to a wallet, milliseconds.
pub const WALLET_CONNECT_MS: u64 = 2_000;
/// How long an unused connection to a wallet is kept, milliseconds.
pub const WALLET_IDLE_MS: u64 = 60_000;
/// Longest wait of a bet for a place at its operator's wallet.
pub const WALLET_PLACE_WAIT: Duration = Duration::from_secs(1);
/// How long beyond its deadline a call's transaction is left to whoever makes it: the commits before and after.
pub const WALLET_LEASE_MARGIN: Duration = Duration::from_secs(10);
/// Pause between two looks for due transactions when nobody says that there are any.
pub const WALLET_POLL: Duration = Duration::from_millis(250);
/// Pause between two counts of what waits.
pub const WALLET_SHOW_PAUSE: Duration = Duration::from_secs(5);
/// Longest address of a wallet, bytes.
pub const WALLET_URL_BYTES: usize = 2_048;
/// Most stakes that a forced move undoes in one statement.
pub const WALLET_CUT_BETS: i64 = 5_000;
/// Most wallet transactions in one listing.
pub const WALLET_LIST_JOBS: i64 = 500;
/// Most claims of lost bets in one listing.
pub const LOSS_LIST_CLAIMS: i64 = 500;
/// Bets or wallet transactions judged per statement of a conservation check.
pub const AUDIT_PAGE_ROWS: i64 = 2_000;
/// How long a conservation check may take: its snapshot keeps old rows from being cleaned.
pub const AUDIT_LONGEST: Duration = Duration::from_mins(30);
/// How long who asks for a conservation check is kept waiting for its end before asking again.
pub const AUDIT_ANSWER_WAIT: Duration = Duration::from_secs(15);
/// Longest check of a captcha unless its operator says otherwise, milliseconds.
pub const CAPTCHA_MS: u64 = 2_000;
/// Largest answer of a captcha's check, bytes.
pub const CAPTCHA_ANSWER_BYTES: usize = 16 * 1024;
/// Unused connections kept for each address that checks captchas.
pub const CAPTCHA_IDLE: usize = 16;
/// Session lifetime when the operator names none, in seconds.
pub const SESSION_DEFAULT_TTL_S: u64 = 1_800;
/// Shortest session lifetime in seconds.
pub const SESSION_MIN_TTL_S: u64 = 60;
/// How long after a session's end its chains stay open, in seconds: longer than the leeway of a token.
pub const SESSION_CLOSE_MARGIN_S: u64 = 15;
/// Bets read or paid per statement while a round is settled.
pub const SETTLE_PAGE_BETS: i64 = 1_000;
/// Most cached operators, and as many credentials.
pub const DIRECTORY_ENTRIES: usize = 1_024;
/// Age at which a cached operator or credential is read again, so that a revocation takes hold.
pub const DIRECTORY_MAX_AGE: Duration = Duration::from_secs(1);
/// Most allowed origins, jurisdictions or games of one operator.
pub const OPERATOR_LIST_ENTRIES: usize = 64;
/// Longest operator name, origin or launch address in bytes.
pub const OPERATOR_TEXT_BYTES: usize = 256;
/// Most operators in one answer.
pub const OPERATORS_PAGE: i64 = 500;
/// Most credentials in one answer.
pub const CREDENTIALS_PAGE: i64 = 100;
/// How long former credentials may go on beside a new one, seconds.
pub const OVERLAP_S: std::ops::RangeInclusive<u64> = 1..=604_800;
/// Sessions revoked per transaction.
pub const REVOKE_SESSIONS: i64 = 1_000;
/// Such transactions per request; whoever revokes more asks again.
pub const REVOKE_BATCHES: u64 = 100;
/// Revocations told to a router in one answer.
pub const REVOCATIONS_PAGE: i64 = 10_000;
/// How far back routers are told of revocations, seconds: the longest life of a token and its leeway.
pub const REVOCATION_WINDOW_S: i64 = 3_720;
/// Rounds of suspended games voided per pass.
pub const SUSPENSION_ROUNDS: i64 = 256;
/// Most revisions of a game's terms in one answer.
pub const GAME_REVISIONS: i64 = 100;
/// Most entries of the operations log in one answer.
pub const OPERATIONS_PAGE: i64 = 500;
/// Pause between two sweeps for chains of ended sessions.
pub const SWEEP_PAUSE: Duration = Duration::from_secs(2);
/// Chains closed per sweep.
pub const SWEEP_CHAINS: i64 = 64;
/// Pause between two attempts to start serving an epoch, and between two looks at whether its logs have started.
pub const START_RETRY: Duration = Duration::from_millis(500);
/// The same pause while the control record has changed lately: the epoch is opened at any moment.
pub const START_RETRY_EAGER: Duration = Duration::from_millis(10);
/// How long after a change of the control record its epoch is awaited eagerly.
pub const START_EAGER: Duration = Duration::from_secs(10);
/// Database sessions opened ahead when an epoch begins: one per lane's worker, and some hands.
pub const WARM_SESSIONS: usize = 8;
/// How long opening them waits for the logs, which are ahead of requests.
pub const WARM_AFTER: Duration = Duration::from_millis(250);
/// Longest wait for requests in flight after drain began, the writer is closing or the epoch ended.
pub const DRAIN_WAIT: Duration = Duration::from_mins(1);
/// Pause between two looks at the requests in flight.
pub const DRAIN_POLL: Duration = Duration::from_millis(2);
/// Most tables whose timed rounds one cluster runs.
pub const FLOOR_TABLES: i64 = 1_024;
/// Pause between two looks for tables without an owner.
pub const FLOOR_TICK: Duration = Duration::from_millis(250);
/// The same pause of a process that leaves and waits for its last rounds.
pub const FLOOR_LEAVE_TICK: Duration = Duration::from_millis(20);
/// Longest pause between two looks of an engine at its table.
pub const FLOOR_LOOK: Duration = Duration::from_millis(500);
/// Pause after a step that was not done.
pub const FLOOR_RETRY: Duration = Duration::from_millis(100);
/// How long a round may wait for checkpoints that cover its commitment before it is voided.
pub const FLOOR_COVER_WITHIN: Duration = Duration::from_secs(30);
/// How long after the end of its window a round that nobody ran is still closed and settled; then it is voided.
pub const FLOOR_LATE: Duration = Duration::from_mins(1);
/// A process that leaves finishes rounds that end within this time and hands over the others.
pub const FLOOR_FINISH: Duration = Duration::from_secs(10);
/// Longest wait for the steps under way of a process that leaves, beyond the time for its rounds.
pub const FLOOR_LEAVE_WAIT: Duration = Duration::from_secs(12);
/// Most rounds that one call voids.
pub const FLOOR_VOIDS: i64 = 256;
/// Most rounds in the report of a recovery; later ones push out the first.
pub const RECOVERY_ROUNDS: usize = 512;
/// Shortest and longest betting window of a schedule, milliseconds.
pub const SCHEDULE_BETTING_MS: RangeInclusive<i32> = 1_000..=600_000;
/// Shortest and longest pause of a schedule, milliseconds.
pub const SCHEDULE_PAUSE_MS: RangeInclusive<i32> = 0..=600_000;
/// Most streams of rounds in one process.
pub const STREAMS: usize = 1_024;
/// Most streams of one player in one process.
pub const STREAMS_PER_PLAYER: usize = 4;
/// What may wait for one client, in events, the last word included.
pub const STREAM_BUFFER_EVENTS: usize = 64;
/// How many rounds back a stream goes on.
pub const STREAM_HISTORY_ROUNDS: i64 = 8;
/// Pause between two looks for those who watch.
pub const STREAM_LOOK: Duration = Duration::from_millis(100);
/// Pause between two signs of life on a stream.
pub const STREAM_BEAT: Duration = Duration::from_secs(5);
/// Pause between two looks at whether those who watch still may.
pub const STREAM_CHECK: Duration = Duration::from_secs(1);
