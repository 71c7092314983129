-- What the ledger publishes and a reader holds: one definition for both sides.
--
-- Every table starts its key with the jurisdiction, because a publication's row filter may only use columns
-- of the replica identity. Text is compared by byte (collation "C"), so that an index means the same on
-- every machine that gets a copy of it. Hashes are 32 bytes. No foreign keys: they lock rows of others.

CREATE TABLE IF NOT EXISTS ledger.round (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    id uuid NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('round', 'play')),
    operator_id text COLLATE "C" NOT NULL CHECK (octet_length(operator_id) BETWEEN 1 AND 32),
    game text COLLATE "C" NOT NULL CHECK (octet_length(game) BETWEEN 1 AND 32),
    params text COLLATE "C" NOT NULL CHECK (octet_length(params) BETWEEN 1 AND 1024),
    currency text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    commitment bytea NOT NULL CHECK (octet_length(commitment) = 32),
    state text COLLATE "C" NOT NULL CHECK (state IN ('open', 'closed', 'settled', 'voided')),
    outcome text COLLATE "C" CHECK (octet_length(outcome) BETWEEN 1 AND 64),
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (jurisdiction, id),
    CONSTRAINT round_outcome_when_settled CHECK ((state = 'settled') = (outcome IS NOT NULL)),
    CONSTRAINT round_ended_when_terminal CHECK ((state IN ('settled', 'voided')) = (ended_at IS NOT NULL))
) WITH (fillfactor = 85);

CREATE TABLE IF NOT EXISTS ledger.bet (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    id uuid NOT NULL,
    round_id uuid NOT NULL,
    session_id uuid NOT NULL,
    operator_id text COLLATE "C" NOT NULL CHECK (octet_length(operator_id) BETWEEN 1 AND 32),
    player_ref text COLLATE "C" NOT NULL CHECK (octet_length(player_ref) BETWEEN 1 AND 64),
    currency text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    stake_micro bigint NOT NULL CHECK (stake_micro > 0),
    selection text COLLATE "C" NOT NULL CHECK (octet_length(selection) BETWEEN 1 AND 64),
    client_seed bytea NOT NULL CHECK (octet_length(client_seed) = 32),
    record text COLLATE "C" NOT NULL CHECK (octet_length(record) BETWEEN 1 AND 2048),
    salt bytea NOT NULL CHECK (octet_length(salt) = 32),
    record_commitment bytea NOT NULL CHECK (octet_length(record_commitment) = 32),
    checkpoint_size bigint NOT NULL CHECK (checkpoint_size > 0),
    payout_micro bigint CHECK (payout_micro >= 0),
    receipt text COLLATE "C" NOT NULL CHECK (octet_length(receipt) BETWEEN 1 AND 4096),
    placed_at timestamptz NOT NULL,
    PRIMARY KEY (jurisdiction, id)
) WITH (fillfactor = 90);

-- The bets of a round, in the order in which its terminal leaf commits to them.
CREATE INDEX IF NOT EXISTS bet_by_round ON ledger.bet (jurisdiction, round_id, id);

CREATE TABLE IF NOT EXISTS ledger.session_revocation (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    session_id uuid NOT NULL,
    revoked_at timestamptz NOT NULL,
    PRIMARY KEY (jurisdiction, session_id)
);

-- Beats once a second under the open epoch; a reader tells its lag from it on its own clock.
CREATE TABLE IF NOT EXISTS ledger.heartbeat (
    jurisdiction text COLLATE "C" PRIMARY KEY CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    beat bigint NOT NULL CHECK (beat > 0),
    epoch bigint NOT NULL CHECK (epoch > 0)
) WITH (fillfactor = 50);

-- The log. Insert-only: nobody is granted more, and nothing more is published.
CREATE TABLE IF NOT EXISTS log.leaf (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    log_epoch int NOT NULL CHECK (log_epoch > 0),
    idx bigint NOT NULL CHECK (idx >= 0),
    entry bytea NOT NULL CHECK (octet_length(entry) BETWEEN 1 AND 16384),
    leaf_hash bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
    PRIMARY KEY (jurisdiction, log_epoch, idx)
);
-- Hashed and served exactly as stored: compression would only cost time.
ALTER TABLE log.leaf ALTER COLUMN entry SET STORAGE EXTERNAL;

-- Roots of complete subtrees of 256^level leaves.
CREATE TABLE IF NOT EXISTS log.node (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    log_epoch int NOT NULL CHECK (log_epoch > 0),
    level smallint NOT NULL CHECK (level BETWEEN 1 AND 7),
    n bigint NOT NULL CHECK (n >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (jurisdiction, log_epoch, level, n)
);

-- Where the leaves of a round or chain stand.
CREATE TABLE IF NOT EXISTS log.subject (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    log_epoch int NOT NULL CHECK (log_epoch > 0),
    subject uuid NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN
        ('round-commit', 'round-settle', 'round-void', 'chain-commit', 'play', 'chain-close')),
    idx bigint NOT NULL CHECK (idx >= 0),
    PRIMARY KEY (jurisdiction, subject, kind)
);
CREATE UNIQUE INDEX IF NOT EXISTS subject_by_index ON log.subject (jurisdiction, log_epoch, idx);
-- Every commitment gets at most one end, also across log epochs.
CREATE UNIQUE INDEX IF NOT EXISTS subject_ends_once ON log.subject (jurisdiction, subject)
    WHERE kind IN ('round-settle', 'round-void', 'chain-close');

CREATE TABLE IF NOT EXISTS log.checkpoint (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    log_epoch int NOT NULL CHECK (log_epoch > 0),
    size bigint NOT NULL CHECK (size >= 0),
    note text COLLATE "C" NOT NULL CHECK (octet_length(note) BETWEEN 1 AND 65536),
    PRIMARY KEY (jurisdiction, log_epoch, size)
);
