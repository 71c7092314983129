-- Operators' wallets: where they are, and every transaction with them.

CREATE TABLE IF NOT EXISTS ledger.wallet (
    operator_id text COLLATE "C" PRIMARY KEY REFERENCES ledger.operator (id),
    base_url text COLLATE "C" NOT NULL CHECK (octet_length(base_url) BETWEEN 1 AND 2048),
    -- How requests are signed; the key is sealed, bound to the operator.
    signing text COLLATE "C" NOT NULL CHECK (signing IN ('hmac-sha256', 'rsa-sha256')),
    key_id text COLLATE "C" NOT NULL CHECK (octet_length(key_id) BETWEEN 1 AND 64),
    key_sealed bytea NOT NULL CHECK (octet_length(key_sealed) BETWEEN 1 AND 16384),
    -- What RS_ERROR_DUPLICATE_TRANSACTION means.
    duplicate text COLLATE "C" NOT NULL CHECK (duplicate IN ('done', 'conflict')),
    timeout_ms int NOT NULL CHECK (timeout_ms BETWEEN 100 AND 20000),
    concurrency int NOT NULL CHECK (concurrency BETWEEN 1 AND 256),
    breaker_failures int NOT NULL CHECK (breaker_failures BETWEEN 1 AND 1000),
    breaker_pause_ms int NOT NULL CHECK (breaker_pause_ms BETWEEN 100 AND 600000),
    retry_first_ms int NOT NULL CHECK (retry_first_ms BETWEEN 10 AND 60000),
    retry_longest_ms int NOT NULL CHECK (retry_longest_ms BETWEEN 100 AND 3600000),
    give_up_after_s int NOT NULL CHECK (give_up_after_s BETWEEN 60 AND 31536000),
    -- Grows with each change, so that a writer knows that what it holds is out of date.
    revision bigint NOT NULL CHECK (revision > 0)
);

-- One row per transaction, also the outbox: a pending row is a job. The id follows from the request that a bet stands
-- for (wins and rollbacks: from their bet), so the primary key is what makes an effect happen once.
CREATE TABLE IF NOT EXISTS ledger.wallet_job (
    id uuid PRIMARY KEY,
    call text COLLATE "C" NOT NULL CHECK (call IN ('bet', 'win', 'rollback')),
    reference uuid,
    operator_id text COLLATE "C" NOT NULL CHECK (octet_length(operator_id) BETWEEN 1 AND 32),
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    player_ref text COLLATE "C" NOT NULL CHECK (octet_length(player_ref) BETWEEN 1 AND 64),
    session_id uuid NOT NULL,
    game text COLLATE "C" NOT NULL CHECK (octet_length(game) BETWEEN 1 AND 32),
    round_id uuid NOT NULL,
    bet_id uuid NOT NULL,
    currency text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount_micro bigint NOT NULL CHECK (amount_micro > 0),
    -- Of a bet: the request it stands for.
    body_hash bytea CHECK (octet_length(body_hash) = 32),
    state text COLLATE "C" NOT NULL CHECK (state IN ('pending', 'done', 'refused', 'undone', 'dead', 'resolved')),
    attempts int NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- A pending row that is due belongs to whoever takes it; taking it moves this on.
    due_at timestamptz NOT NULL,
    -- What the wallet said last.
    answer text COLLATE "C" CHECK (octet_length(answer) BETWEEN 1 AND 64),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Its age counts from here: a person who re-arms it starts anew.
    armed_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CONSTRAINT wallet_job_refers CHECK ((call = 'bet') = (reference IS NULL)),
    CONSTRAINT wallet_job_request CHECK ((call = 'bet') = (body_hash IS NOT NULL)),
    CONSTRAINT wallet_job_bet_ends CHECK (call <> 'bet' OR state NOT IN ('dead', 'resolved')),
    CONSTRAINT wallet_job_owed CHECK (call = 'bet' OR state NOT IN ('refused', 'undone')),
    CONSTRAINT wallet_job_ended CHECK ((ended_at IS NULL) = (state = 'pending'))
) WITH (fillfactor = 70);

-- A bet is paid or given back, never both.
CREATE UNIQUE INDEX IF NOT EXISTS wallet_job_ends_once ON ledger.wallet_job (reference) WHERE reference IS NOT NULL;
CREATE INDEX IF NOT EXISTS wallet_job_due ON ledger.wallet_job (operator_id, due_at) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS wallet_job_dead ON ledger.wallet_job (operator_id, id) WHERE state = 'dead';
CREATE INDEX IF NOT EXISTS wallet_job_by_bet ON ledger.wallet_job (bet_id) WHERE call = 'bet';
CREATE INDEX IF NOT EXISTS wallet_job_by_day ON ledger.wallet_job (operator_id, ended_at);

-- What persons did to transactions; only ever added to.
CREATE TABLE IF NOT EXISTS ledger.wallet_job_action (
    id uuid PRIMARY KEY,
    job_id uuid NOT NULL,
    action text COLLATE "C" NOT NULL CHECK (action IN ('retry', 'resolve')),
    actor text COLLATE "C" NOT NULL CHECK (octet_length(actor) BETWEEN 1 AND 256),
    reason text NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 512),
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS wallet_job_action_by_job ON ledger.wallet_job_action (job_id, id);

GRANT SELECT, INSERT ON ledger.wallet, ledger.wallet_job, ledger.wallet_job_action TO domicile_writer;
GRANT UPDATE (base_url, signing, key_id, key_sealed, duplicate, timeout_ms, concurrency, breaker_failures,
    breaker_pause_ms, retry_first_ms, retry_longest_ms, give_up_after_s, revision) ON ledger.wallet TO domicile_writer;
GRANT UPDATE (state, attempts, due_at, answer, armed_at, ended_at) ON ledger.wallet_job TO domicile_writer;
