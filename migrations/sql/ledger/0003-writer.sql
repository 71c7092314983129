-- What only the ledger holds: terms, operators, sessions, seeds, requests, the outbox of the log.

-- One row per opened term of a writer, inserted by the agent of the node that the control record names.
CREATE TABLE IF NOT EXISTS ledger.epoch (
    epoch bigint PRIMARY KEY CHECK (epoch > 0),
    region text COLLATE "C" NOT NULL CHECK (octet_length(region) BETWEEN 1 AND 32),
    node text COLLATE "C" NOT NULL CHECK (octet_length(node) BETWEEN 1 AND 32),
    opened_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS ledger.operator (
    id text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[a-z][a-z0-9-]{0,31}$'),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 256),
    jurisdictions text[] NOT NULL CHECK (cardinality(jurisdictions) BETWEEN 1 AND 64),
    games text[] NOT NULL CHECK (cardinality(games) BETWEEN 1 AND 64),
    allowed_origins text[] NOT NULL CHECK (cardinality(allowed_origins) <= 64),
    launch_base_url text NOT NULL CHECK (octet_length(launch_base_url) <= 2048),
    enabled boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Seldom written and small: the one place where a foreign key costs nothing.
CREATE TABLE IF NOT EXISTS ledger.operator_credential (
    key_id text COLLATE "C" PRIMARY KEY CHECK (octet_length(key_id) BETWEEN 1 AND 64),
    operator_id text COLLATE "C" NOT NULL REFERENCES ledger.operator (id),
    secret_sealed bytea NOT NULL CHECK (octet_length(secret_sealed) BETWEEN 1 AND 4096),
    not_before timestamptz NOT NULL,
    not_after timestamptz,
    revoked_at timestamptz,
    CHECK (not_after > not_before)
);
CREATE INDEX IF NOT EXISTS operator_credential_by_operator ON ledger.operator_credential (operator_id);

-- One row per request that had an effect: its answer, for repetitions under the same key.
CREATE TABLE IF NOT EXISTS ledger.request (
    scope text COLLATE "C" NOT NULL CHECK (octet_length(scope) BETWEEN 1 AND 64),
    key text COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 64),
    body_hash bytea NOT NULL CHECK (octet_length(body_hash) = 32),
    status int NOT NULL CHECK (status BETWEEN 100 AND 599),
    response bytea NOT NULL CHECK (octet_length(response) <= 131072),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key)
);
-- Sealed bytes do not compress.
ALTER TABLE ledger.request ALTER COLUMN response SET STORAGE EXTERNAL;

CREATE TABLE IF NOT EXISTS ledger.session (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    id uuid NOT NULL,
    operator_id text COLLATE "C" NOT NULL CHECK (octet_length(operator_id) BETWEEN 1 AND 32),
    player_ref text COLLATE "C" NOT NULL CHECK (octet_length(player_ref) BETWEEN 1 AND 64),
    game text COLLATE "C" NOT NULL CHECK (octet_length(game) BETWEEN 1 AND 32),
    currency text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (jurisdiction, id)
) WITH (fillfactor = 90);

-- A session's seed chain. Updated by every play of its session: pages keep room for the next version.
CREATE TABLE IF NOT EXISTS ledger.chain (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    id uuid NOT NULL,
    session_id uuid NOT NULL,
    ordinal int NOT NULL CHECK (ordinal >= 0),
    game text COLLATE "C" NOT NULL CHECK (octet_length(game) BETWEEN 1 AND 32),
    params text COLLATE "C" NOT NULL CHECK (octet_length(params) BETWEEN 1 AND 1024),
    length int NOT NULL CHECK (length BETWEEN 1 AND 4096),
    commitment bytea NOT NULL CHECK (octet_length(commitment) = 32),
    seed_sealed bytea NOT NULL CHECK (octet_length(seed_sealed) BETWEEN 32 AND 1024),
    next_position int NOT NULL DEFAULT 0,
    closed_at timestamptz,
    PRIMARY KEY (jurisdiction, id),
    UNIQUE (jurisdiction, session_id, ordinal),
    CHECK (next_position BETWEEN 0 AND length)
) WITH (fillfactor = 60);
CREATE INDEX IF NOT EXISTS chain_open ON ledger.chain (jurisdiction, session_id, ordinal)
    WHERE closed_at IS NULL;

-- A shared round as its engine sees it, with its sealed seed; its facts per jurisdiction are in ledger.round.
CREATE TABLE IF NOT EXISTS ledger.round_engine (
    id uuid PRIMARY KEY,
    operator_id text COLLATE "C" NOT NULL CHECK (octet_length(operator_id) BETWEEN 1 AND 32),
    game text COLLATE "C" NOT NULL CHECK (octet_length(game) BETWEEN 1 AND 32),
    params text COLLATE "C" NOT NULL CHECK (octet_length(params) BETWEEN 1 AND 1024),
    currency text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    jurisdictions text[] NOT NULL CHECK (cardinality(jurisdictions) BETWEEN 1 AND 64),
    commitment bytea NOT NULL CHECK (octet_length(commitment) = 32),
    seed_sealed bytea NOT NULL CHECK (octet_length(seed_sealed) BETWEEN 32 AND 1024),
    state text COLLATE "C" NOT NULL CHECK (state IN ('open', 'closed', 'settled', 'voided')),
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    ended_at timestamptz
) WITH (fillfactor = 70);

-- The outbox of the log: leaves wait here for their index. A queue, so it is vacuumed like one.
CREATE TABLE IF NOT EXISTS log.pending (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    id uuid NOT NULL,
    subject uuid NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN
        ('round-commit', 'round-settle', 'round-void', 'chain-commit', 'play', 'chain-close')),
    entry text COLLATE "C" NOT NULL CHECK (octet_length(entry) BETWEEN 1 AND 16384),
    PRIMARY KEY (jurisdiction, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- How far the sequencer of a log has come.
CREATE TABLE IF NOT EXISTS log.head (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    log_epoch int NOT NULL CHECK (log_epoch > 0),
    size bigint NOT NULL CHECK (size >= 0),
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    writer_epoch bigint NOT NULL CHECK (writer_epoch >= 0),
    PRIMARY KEY (jurisdiction, log_epoch)
) WITH (fillfactor = 50);
