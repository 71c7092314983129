-- Administration: how operators offer their games, and the operations log.

-- One row per change of an operator's terms for a game; the latest is in force and none is ever changed. Without a row
-- the build's own terms hold.
CREATE TABLE IF NOT EXISTS ledger.game_config (
    operator_id text COLLATE "C" NOT NULL REFERENCES ledger.operator (id),
    game text COLLATE "C" NOT NULL CHECK (octet_length(game) BETWEEN 1 AND 32),
    revision bigint NOT NULL CHECK (revision > 0),
    -- Offered at all; and not stopped for an incident, which also voids what is in flight.
    enabled boolean NOT NULL,
    suspended boolean NOT NULL,
    -- NULL: the game's own. Weights, multipliers and commission stand in here.
    params text COLLATE "C" CHECK (octet_length(params) BETWEEN 1 AND 1024),
    stake_min_micro bigint CHECK (stake_min_micro > 0),
    stake_max_micro bigint CHECK (stake_max_micro > 0),
    payout_max_micro bigint CHECK (payout_max_micro > 0),
    actor text COLLATE "C" NOT NULL CHECK (octet_length(actor) BETWEEN 1 AND 256),
    role text COLLATE "C" NOT NULL CHECK (octet_length(role) BETWEEN 1 AND 32),
    reason text NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 512),
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (operator_id, game, revision),
    CHECK (stake_min_micro <= stake_max_micro)
);

GRANT SELECT, INSERT ON ledger.game_config TO domicile_writer;

-- What a suspension voids.
CREATE INDEX IF NOT EXISTS round_engine_in_flight ON ledger.round_engine (operator_id, game, id)
    WHERE state IN ('open', 'closed');

-- What routers are told: the revocations of the last hour.
CREATE INDEX IF NOT EXISTS session_revocation_by_time ON ledger.session_revocation (revoked_at);
-- The sessions of an operator, or of one of its players, that a token may still be good for.
CREATE INDEX IF NOT EXISTS session_live ON ledger.session (operator_id, player_ref, expires_at)
    WHERE revoked_at IS NULL;

-- Entries of the operations log are leaves like others; no reader is sent them.
ALTER TABLE log.pending DROP CONSTRAINT IF EXISTS pending_kind_check;
ALTER TABLE log.pending ADD CONSTRAINT pending_kind_check CHECK (kind IN
    ('round-commit', 'round-settle', 'round-void', 'chain-commit', 'play', 'chain-close')
    OR (kind = 'operation' AND jurisdiction = 'XO'));
ALTER TABLE log.subject DROP CONSTRAINT IF EXISTS subject_kind_check;
ALTER TABLE log.subject ADD CONSTRAINT subject_kind_check CHECK (kind IN
    ('round-commit', 'round-settle', 'round-void', 'chain-commit', 'play', 'chain-close')
    OR (kind = 'operation' AND jurisdiction = 'XO'));
