-- Roles and what surrounds the schemas of the ledger. Runs as a superuser; roles may exist already.
-- Nobody gets anything by being PUBLIC; passwords and LOGIN are the agent's to set.

DO $$
BEGIN
    IF to_regrole('domicile_migrator') IS NULL THEN
        CREATE ROLE domicile_migrator NOLOGIN;
    END IF;
    IF to_regrole('domicile_writer') IS NULL THEN
        CREATE ROLE domicile_writer NOLOGIN;
    END IF;
    IF to_regrole('domicile_replication') IS NULL THEN
        CREATE ROLE domicile_replication LOGIN REPLICATION;
    END IF;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO domicile_migrator', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO domicile_writer, domicile_replication', current_database());
END
$$;

-- Every statement of the writer is a lookup by key. Its plans are cached while tables are still empty, and
-- a cached sequential scan would stay for ever.
ALTER ROLE domicile_writer SET enable_seqscan = off;
ALTER ROLE domicile_writer SET enable_hashjoin = off;
ALTER ROLE domicile_writer SET enable_mergejoin = off;
ALTER ROLE domicile_writer SET jit = off;

REVOKE ALL ON SCHEMA public FROM PUBLIC;

-- Large objects are writable by anyone who may call these.
DO $$
DECLARE
    routine regprocedure;
BEGIN
    FOR routine IN
        SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
            AND (proname LIKE 'lo\_%' OR proname IN ('loread', 'lowrite'))
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', routine);
    END LOOP;
END
$$;

CREATE SCHEMA IF NOT EXISTS ledger AUTHORIZATION domicile_migrator;
CREATE SCHEMA IF NOT EXISTS log AUTHORIZATION domicile_migrator;
