-- How each log stands, for the writer processes that do not write it. Never published.

CREATE TABLE IF NOT EXISTS log.standing (
    jurisdiction text COLLATE "C" NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    log_epoch int NOT NULL CHECK (log_epoch > 0),
    epoch bigint NOT NULL CHECK (epoch > 0),
    state text COLLATE "C" NOT NULL CHECK (state IN ('live', 'suspended')),
    reason text COLLATE "C" CHECK (octet_length(reason) BETWEEN 1 AND 4096),
    evidence text COLLATE "C" CHECK (octet_length(evidence) BETWEEN 1 AND 262144),
    PRIMARY KEY (jurisdiction, log_epoch),
    CONSTRAINT standing_reason_when_suspended CHECK ((state = 'suspended') = (reason IS NOT NULL))
);

GRANT SELECT, INSERT ON log.standing TO domicile_writer;
GRANT UPDATE (epoch, state, reason, evidence) ON log.standing TO domicile_writer;
