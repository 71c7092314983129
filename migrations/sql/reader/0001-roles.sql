-- Roles and what surrounds the schemas of a reader. Runs as a superuser; roles may exist already.
-- Nobody gets anything by being PUBLIC; passwords and LOGIN are the agent's to set.

DO $$
BEGIN
    IF to_regrole('domicile_migrator') IS NULL THEN
        CREATE ROLE domicile_migrator NOLOGIN;
    END IF;
    IF to_regrole('domicile_reader') IS NULL THEN
        CREATE ROLE domicile_reader NOLOGIN;
    END IF;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO domicile_migrator', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO domicile_reader', current_database());
END
$$;

-- A second lock beside the grants, and plans that stay right while the tables fill.
ALTER ROLE domicile_reader SET default_transaction_read_only = on;
ALTER ROLE domicile_reader SET enable_seqscan = off;
ALTER ROLE domicile_reader SET enable_hashjoin = off;
ALTER ROLE domicile_reader SET enable_mergejoin = off;
ALTER ROLE domicile_reader SET enable_memoize = off;
ALTER ROLE domicile_reader SET jit = off;
-- Planning one of its statements anew costs more than running it.
ALTER ROLE domicile_reader SET plan_cache_mode = force_generic_plan;

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
