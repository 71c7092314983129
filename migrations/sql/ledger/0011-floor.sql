-- Timed rounds: which games run by a schedule, and what the engines that run them have to know of a round.

CREATE TABLE IF NOT EXISTS ledger.round_schedule (
    operator_id text COLLATE "C" NOT NULL REFERENCES ledger.operator (id),
    game text COLLATE "C" NOT NULL CHECK (octet_length(game) BETWEEN 1 AND 32),
    currency text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    -- The game's own where there are none.
    params text COLLATE "C" CHECK (octet_length(params) BETWEEN 1 AND 1024),
    jurisdictions text[] NOT NULL CHECK (cardinality(jurisdictions) BETWEEN 1 AND 64),
    betting_ms int NOT NULL CHECK (betting_ms BETWEEN 1000 AND 600000),
    pause_ms int NOT NULL CHECK (pause_ms BETWEEN 0 AND 600000),
    enabled boolean NOT NULL,
    -- Grows with each change.
    revision bigint NOT NULL CHECK (revision > 0),
    PRIMARY KEY (operator_id, game, currency)
);

ALTER TABLE ledger.round_engine
    -- The epoch in which it was opened; 0 is not known.
    ADD COLUMN IF NOT EXISTS opened_in bigint NOT NULL DEFAULT 0 CHECK (opened_in >= 0),
    -- Opened before an epoch that began by force: what was known of it may be lost, so it only ever is voided.
    ADD COLUMN IF NOT EXISTS cut boolean NOT NULL DEFAULT false,
    -- Of a timed round: its number within its schedule, how long bets are taken, and since when.
    ADD COLUMN IF NOT EXISTS ordinal bigint CHECK (ordinal > 0),
    ADD COLUMN IF NOT EXISTS betting_ms int
        CONSTRAINT round_engine_timed CHECK ((betting_ms IS NULL) = (ordinal IS NULL) AND betting_ms > 0),
    ADD COLUMN IF NOT EXISTS betting_at timestamptz;

-- Rounds of a schedule stand in one line, and one at a time is under way, whoever believes to own the engine.
CREATE UNIQUE INDEX IF NOT EXISTS round_engine_in_line ON ledger.round_engine (operator_id, game, currency, ordinal)
    WHERE ordinal IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS round_engine_one_at_a_time ON ledger.round_engine (operator_id, game, currency)
    WHERE ordinal IS NOT NULL AND state IN ('open', 'closed');
CREATE INDEX IF NOT EXISTS round_engine_in_flight ON ledger.round_engine (operator_id, game, id)
    WHERE state IN ('open', 'closed');

GRANT SELECT, INSERT ON ledger.round_schedule TO domicile_writer;
GRANT UPDATE (params, jurisdictions, betting_ms, pause_ms, enabled, revision) ON ledger.round_schedule
    TO domicile_writer;
GRANT UPDATE (betting_at, cut) ON ledger.round_engine TO domicile_writer;
