-- Who may do what in the ledger: exactly what each statement of each role needs.

GRANT USAGE ON SCHEMA ledger, log TO domicile_writer, domicile_replication;

-- The writer reads its term and never writes it.
GRANT SELECT ON ledger.epoch TO domicile_writer;

GRANT SELECT, INSERT ON
    ledger.operator, ledger.operator_credential, ledger.request, ledger.session, ledger.session_revocation,
    ledger.chain, ledger.round_engine, ledger.round, ledger.bet, ledger.heartbeat,
    log.pending, log.leaf, log.node, log.subject, log.checkpoint, log.head
    TO domicile_writer;

-- What changes after it was written; all other columns are final.
GRANT UPDATE (name, jurisdictions, games, allowed_origins, launch_base_url, enabled) ON ledger.operator
    TO domicile_writer;
GRANT UPDATE (secret_sealed, not_after, revoked_at) ON ledger.operator_credential TO domicile_writer;
GRANT UPDATE (revoked_at) ON ledger.session TO domicile_writer;
GRANT UPDATE (next_position, closed_at) ON ledger.chain TO domicile_writer;
GRANT UPDATE (state, closed_at, ended_at) ON ledger.round_engine TO domicile_writer;
GRANT UPDATE (state, outcome, closed_at, ended_at) ON ledger.round TO domicile_writer;
GRANT UPDATE (payout_micro) ON ledger.bet TO domicile_writer;
GRANT UPDATE (beat, epoch) ON ledger.heartbeat TO domicile_writer;
GRANT UPDATE (size, root, writer_epoch) ON log.head TO domicile_writer;
GRANT DELETE ON log.pending TO domicile_writer;

-- Subscriptions copy the published tables as this role; their publications filter what is copied.
GRANT SELECT ON
    ledger.round, ledger.bet, ledger.session_revocation, ledger.heartbeat,
    log.leaf, log.node, log.subject, log.checkpoint
    TO domicile_replication;
