-- What the tables stand on: users, times as ids, who may be a worker, and how a table is protected.

-- Users belong to another service. Where it has not made its table (a fleet that stands alone), a
-- table that is just enough for the foreign keys takes its place; one that exists is left alone.
CREATE SCHEMA IF NOT EXISTS auth;
CREATE TABLE IF NOT EXISTS auth.users (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Workers may not write to auth.users; this is the one thing that they may do there
-- (AUTH_AUTO_PROVISION). True when the user is new.
CREATE FUNCTION chat.provision_user(user_id uuid) RETURNS boolean
LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH made AS (
        INSERT INTO auth.users (id) VALUES (user_id) ON CONFLICT DO NOTHING RETURNING 1
    )
    SELECT EXISTS (SELECT FROM made);
$$;
REVOKE ALL ON FUNCTION chat.provision_user(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.provision_user(uuid) TO chat_worker;

-- The smallest UUID of version 7 times: 48 bits of milliseconds since 1970, then zero bits. It says
-- where a time begins among ids of version 7, whatever their random bits are.
CREATE FUNCTION chat.uuid7_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT rpad(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid;
$$;
GRANT EXECUTE ON FUNCTION chat.uuid7_floor(timestamptz) TO chat_worker;

-- Why a role may not be a worker's: NULL when it may. Row level security does not bind superusers,
-- roles with BYPASSRLS and (were it not forced) owners, nor those that may become one of them.
CREATE FUNCTION chat.worker_role_fault(role name DEFAULT session_user) RETURNS text
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role)
            THEN format('there is no role %I', role)
        WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = role)
            THEN format('%I is a superuser, whom row level security does not bind', role)
        WHEN (SELECT rolbypassrls FROM pg_roles WHERE rolname = role)
            THEN format('%I has BYPASSRLS', role)
        WHEN EXISTS (SELECT FROM pg_roles WHERE (rolsuper OR rolbypassrls)
                     AND pg_has_role(role, oid, 'MEMBER'))
            THEN format('%I may become a role that bypasses row level security', role)
        WHEN EXISTS (SELECT FROM pg_class WHERE relnamespace = 'chat'::regnamespace
                     AND pg_has_role(role, relowner, 'MEMBER'))
            THEN format('%I owns tables of the schema chat', role)
        WHEN NOT pg_has_role(role, 'chat_worker', 'MEMBER')
            THEN format('%I is not a member of chat_worker', role)
    END;
$$;

-- Put row level security on a table that has tenant_id and user_id, and let workers use it. The
-- settings are app.scope (user, tenant, system), app.current_tenant_id and app.current_user_id; where
-- one is missing nothing is visible. The settings are read anew for each row: sub-selects that read
-- them once would be set up again in each of the many small statements of a turn.
CREATE FUNCTION chat.protect(relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    visible CONSTANT text := $$
        CASE current_setting('app.scope', true)
            WHEN 'user' THEN user_id = nullif(current_setting('app.current_user_id', true), '')::uuid
                AND tenant_id = current_setting('app.current_tenant_id', true)
            WHEN 'tenant' THEN tenant_id = current_setting('app.current_tenant_id', true)
            WHEN 'system' THEN true
            ELSE false
        END
    $$;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
    EXECUTE format('DROP POLICY IF EXISTS access ON %s', relation);
    EXECUTE format('CREATE POLICY access ON %s FOR ALL USING (%s) WITH CHECK (%2$s)', relation, visible);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO chat_worker', relation);
END
$function$;
REVOKE ALL ON FUNCTION chat.protect(regclass) FROM PUBLIC;

GRANT USAGE ON SCHEMA chat TO chat_worker;
