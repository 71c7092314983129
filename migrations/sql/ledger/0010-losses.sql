-- What a forced failover lost, and what became of it. Runs as a superuser, because of the role.

-- The agent makes this role before it migrates, and gives it its password; here is what it may see of this database: which
-- rows there are of what is not published, never what is in them.
DO $$
BEGIN
    IF to_regrole('domicile_rewind') IS NULL THEN
        CREATE ROLE domicile_rewind NOLOGIN;
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO domicile_rewind', current_database());
END
$$;
GRANT USAGE ON SCHEMA ledger TO domicile_rewind;
GRANT SELECT (jurisdiction, id) ON ledger.session TO domicile_rewind;
GRANT SELECT (scope, key) ON ledger.request TO domicile_rewind;
GRANT SELECT (id, state) ON ledger.wallet_job TO domicile_rewind;

SET LOCAL ROLE domicile_migrator;

-- The epochs that began by force: in each, once and before anything is served, whatever the lost tail may have revealed is
-- taken out of use.
CREATE TABLE IF NOT EXISTS ledger.forced_cut (
    epoch bigint PRIMARY KEY CHECK (epoch > 0),
    revoked_sessions bigint NOT NULL CHECK (revoked_sessions >= 0),
    cut_at timestamptz NOT NULL DEFAULT now()
);

-- One row per lost bet whose receipt was handed in: what its end was decided on, and what was decided. The primary key is
-- what honours a receipt once.
CREATE TABLE IF NOT EXISTS ledger.loss_claim (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    bet_id uuid NOT NULL,
    round_id uuid NOT NULL,
    session_id uuid NOT NULL,
    operator_id text COLLATE "C" NOT NULL CHECK (octet_length(operator_id) BETWEEN 1 AND 32),
    currency text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    stake_micro bigint NOT NULL CHECK (stake_micro > 0),
    accepted_epoch bigint NOT NULL CHECK (accepted_epoch > 0),
    receipt text COLLATE "C" NOT NULL CHECK (octet_length(receipt) BETWEEN 1 AND 4096),
    -- Filed: handed in by its operator, and waiting for the rows that a returned node keeps.
    state text COLLATE "C" NOT NULL CHECK (state IN ('filed', 'settled', 'refunded')),
    outcome text COLLATE "C" CHECK (octet_length(outcome) BETWEEN 1 AND 64),
    payout_micro bigint CHECK (payout_micro >= 0),
    -- Who moves the money: a transaction with the operator's wallet, nobody (the ledger's rows are the money, or nothing has
    -- to move), or a person, because the transaction that took the stake is not known.
    money text COLLATE "C" CHECK (money IN ('wallet', 'ledger', 'by-hand')),
    -- The kept rows that it was decided on, and which node kept them.
    evidence jsonb,
    filed_by text COLLATE "C" NOT NULL CHECK (octet_length(filed_by) BETWEEN 1 AND 256),
    filed_at timestamptz NOT NULL DEFAULT now(),
    decided_by text COLLATE "C" CHECK (octet_length(decided_by) BETWEEN 1 AND 256),
    decided_in bigint CHECK (decided_in > accepted_epoch),
    decided_at timestamptz,
    PRIMARY KEY (jurisdiction, bet_id),
    CONSTRAINT loss_claim_settled CHECK ((state = 'settled') = (outcome IS NOT NULL)),
    CONSTRAINT loss_claim_paid CHECK ((state = 'filed') = (payout_micro IS NULL)),
    CONSTRAINT loss_claim_decided CHECK ((state = 'filed') = (decided_at IS NULL)),
    CONSTRAINT loss_claim_money CHECK ((state = 'filed') = (money IS NULL))
);

GRANT SELECT, INSERT ON ledger.forced_cut, ledger.loss_claim TO domicile_writer;
GRANT UPDATE (operator_id, state, outcome, payout_micro, money, evidence, decided_by, decided_in, decided_at)
    ON ledger.loss_claim TO domicile_writer;

RESET ROLE;
