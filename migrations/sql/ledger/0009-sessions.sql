-- What protects sessions: limits of play that an operator sets, and a captcha before a session is opened.

-- From when on an operator's bets move money at its wallet.
ALTER TABLE ledger.wallet ADD COLUMN IF NOT EXISTS set_at timestamptz NOT NULL DEFAULT now();

-- Nothing where there is no limit.
ALTER TABLE ledger.session
    ADD COLUMN IF NOT EXISTS stake_limit_micro bigint CHECK (stake_limit_micro > 0),
    ADD COLUMN IF NOT EXISTS loss_limit_micro bigint CHECK (loss_limit_micro > 0),
    ADD COLUMN IF NOT EXISTS play_until timestamptz;

-- The bets of sessions with a loss limit: what such a session has lost is the sum over these.
CREATE TABLE IF NOT EXISTS ledger.limited_bet (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    session_id uuid NOT NULL,
    bet_id uuid NOT NULL,
    PRIMARY KEY (jurisdiction, session_id, bet_id)
);

CREATE TABLE IF NOT EXISTS ledger.captcha (
    operator_id text COLLATE "C" PRIMARY KEY REFERENCES ledger.operator (id),
    siteverify_url text COLLATE "C" NOT NULL CHECK (octet_length(siteverify_url) BETWEEN 1 AND 2048),
    -- Sealed, bound to the operator.
    secret_sealed bytea NOT NULL CHECK (octet_length(secret_sealed) BETWEEN 1 AND 4096),
    timeout_ms int NOT NULL CHECK (timeout_ms BETWEEN 100 AND 10000),
    -- What becomes of a session when nobody can tell whether the answer was right.
    when_unavailable text COLLATE "C" NOT NULL CHECK (when_unavailable IN ('refuse', 'admit')),
    enabled boolean NOT NULL
);

GRANT SELECT, INSERT ON ledger.limited_bet, ledger.captcha TO domicile_writer;
GRANT UPDATE (siteverify_url, secret_sealed, timeout_ms, when_unavailable, enabled) ON ledger.captcha TO domicile_writer;
