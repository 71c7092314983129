-- Who may do what in a reader: look.

GRANT USAGE ON SCHEMA ledger, log TO domicile_reader;
GRANT SELECT ON
    ledger.round, ledger.bet, ledger.session_revocation, ledger.heartbeat,
    log.leaf, log.node, log.subject, log.checkpoint
    TO domicile_reader;
