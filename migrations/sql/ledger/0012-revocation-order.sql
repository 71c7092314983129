-- Routers page through revocations by the transaction that wrote them: which transactions can still write is known, and
-- that is not known below a time or a number. A table of the ledger's own: what is published is published whole.
CREATE TABLE IF NOT EXISTS ledger.revocation_order (
    written_by xid8 NOT NULL DEFAULT pg_current_xact_id(),
    session_id uuid NOT NULL,
    revoked_at timestamptz NOT NULL,
    PRIMARY KEY (written_by, session_id)
);
CREATE INDEX IF NOT EXISTS revocation_order_by_time ON ledger.revocation_order (revoked_at);
DROP INDEX IF EXISTS ledger.session_revocation_by_time;

GRANT SELECT, INSERT ON ledger.revocation_order TO domicile_writer;

-- No statement that publishes a revocation can leave it out.
CREATE OR REPLACE FUNCTION ledger.order_revocations() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    INSERT INTO ledger.revocation_order (session_id, revoked_at) SELECT session_id, revoked_at FROM written;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER order_revocations AFTER INSERT ON ledger.session_revocation
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION ledger.order_revocations();

-- Those of before that a token may still be good for.
INSERT INTO ledger.revocation_order (session_id, revoked_at)
SELECT r.session_id, r.revoked_at FROM ledger.session_revocation r
WHERE r.revoked_at >= now() - interval '62 minutes'
    AND NOT EXISTS (SELECT FROM ledger.revocation_order o WHERE o.session_id = r.session_id);
