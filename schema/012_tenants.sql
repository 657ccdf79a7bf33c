-- What tenants may spend and which models answer them, and what they have spent. A tenant that is not here
-- has no limits and the configured models.
CREATE DOMAIN chat.credits AS numeric(16, 6) CONSTRAINT credits_check CHECK (VALUE >= 0);
CREATE DOMAIN chat.token_count AS bigint CONSTRAINT token_count_check CHECK (VALUE >= 0);

CREATE TABLE chat.tenants (
    tenant_id chat.tenant_name PRIMARY KEY,
    models text[], -- that are asked, in this order; NULL: as configured
    providers text[], -- whose models may be asked; NULL: all
    day_budget chat.credits, -- NULL here and below: no limit
    month_budget chat.credits,
    day_token_budget chat.token_count,
    month_token_budget chat.token_count,
    reserve chat.credits, -- what a turn under way is taken to need; NULL: as configured
    token_reserve chat.token_count,
    changes uuid[], -- the messages that changed it last: one that comes again must not undo a later one
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Workers ask every second what has changed.
CREATE INDEX tenants_updated_idx ON chat.tenants (updated_at);

-- A tenant has a row from its first budget on, and keeps it: what was spent before `since` was counted when
-- the row was made, what came later is counted turn by turn.
CREATE TABLE chat.tenant_spending (
    tenant_id chat.tenant_name PRIMARY KEY REFERENCES chat.tenants (tenant_id),
    since timestamptz NOT NULL,
    day date NOT NULL, -- in UTC, like the month
    day_cost numeric NOT NULL,
    day_tokens bigint NOT NULL,
    month date NOT NULL, -- its first day
    month_cost numeric NOT NULL,
    month_tokens bigint NOT NULL,
    reserved_cost numeric NOT NULL DEFAULT 0, -- of all turns under way
    reserved_tokens bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50); -- each turn changes it twice

-- What a turn under way has reserved, and what of its cost is counted in its tenant's spending.
ALTER TABLE chat.turns
    ADD COLUMN reserved_cost numeric,
    ADD COLUMN reserved_tokens bigint,
    ADD COLUMN withheld_cost numeric, -- its reservation, as long as the cost of one of its requests is not known
    ADD COLUMN charged_cost numeric,
    ADD COLUMN charged_tokens bigint;

-- Tenants are nobody's in person. All of a tenant may see its settings, but only the system changes them;
-- its spending is changed by the turns of all its users.
DO $do$
DECLARE
    visible CONSTANT text := $$
        CASE current_setting('app.scope', true)
            WHEN 'user' THEN tenant_id = current_setting('app.current_tenant_id', true)
            WHEN 'tenant' THEN tenant_id = current_setting('app.current_tenant_id', true)
            WHEN 'system' THEN true
            ELSE false
        END
    $$;
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['tenants', 'tenant_spending'] LOOP
        EXECUTE format('ALTER TABLE chat.%I ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('ALTER TABLE chat.%I FORCE ROW LEVEL SECURITY', relation);
        EXECUTE format('CREATE POLICY access ON chat.%I FOR ALL USING (%s) WITH CHECK (%s)', relation, visible,
                       CASE relation WHEN 'tenants' THEN 'current_setting(''app.scope'', true) = ''system'''
                                     ELSE visible END);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON chat.%I TO chat_worker', relation);
    END LOOP;
END
$do$;

-- Why a turn may not begin, as {period, unit, budget, spent, reserved, needed, resets_at}: NULL when it may.
-- `s` has the turn's own reservation in it already.
CREATE FUNCTION chat.budget_excess(t chat.tenants, s chat.tenant_spending, cost numeric, tokens bigint)
RETURNS jsonb LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'period', b.period, 'unit', b.unit, 'budget', b.budget, 'spent', b.spent,
        'reserved', b.reserved - b.needed, 'needed', b.needed,
        'resets_at', to_char(b.ends, 'YYYY-MM-DD"T00:00:00.000Z"'))
    FROM (VALUES
        (1, 'month', 'credits', t.month_budget::numeric, s.month_cost, s.reserved_cost, cost, s.month + interval '1 month'),
        (2, 'month', 'tokens', t.month_token_budget, s.month_tokens, s.reserved_tokens, tokens, s.month + interval '1 month'),
        (3, 'day', 'credits', t.day_budget, s.day_cost, s.reserved_cost, cost, s.day + interval '1 day'),
        (4, 'day', 'tokens', t.day_token_budget, s.day_tokens, s.reserved_tokens, tokens, s.day + interval '1 day')
    ) AS b (rank, period, unit, budget, spent, reserved, needed, ends)
    WHERE b.spent + b.reserved > b.budget OR b.spent + b.reserved - b.needed >= b.budget
    ORDER BY b.rank LIMIT 1;
$$;

-- Reserve what the turn may need, if this transaction began it and its tenant has a budget. Over budget it is
-- an error (TB402, its detail says why), so that nothing of the transaction is written. cost and tokens are
-- for tenants that do not say themselves what a turn may need.
CREATE FUNCTION chat.budget_reserve(turn uuid, cost numeric, tokens bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    today CONSTANT date := (now() AT TIME ZONE 'UTC')::date;
    first CONSTANT date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
    t chat.tenants;
    s chat.tenant_spending;
    excess jsonb;
BEGIN
    SELECT x.* INTO t FROM chat.turns u JOIN chat.tenants x ON x.tenant_id = u.tenant_id
        WHERE u.id = turn AND u.created_at = now()
        AND num_nonnulls(x.day_budget, x.month_budget, x.day_token_budget, x.month_token_budget) > 0;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    cost := coalesce(t.reserve, cost);
    tokens := coalesce(t.token_reserve, tokens);
    UPDATE chat.turns AS u SET reserved_cost = cost, reserved_tokens = tokens WHERE u.id = turn;
    -- The one lock that turns of a tenant wait for; nothing else is locked behind it. A clock that was set
    -- back begins no period anew.
    UPDATE chat.tenant_spending AS x SET
        day = greatest(x.day, today), month = greatest(x.month, first),
        day_cost = CASE WHEN x.day < today THEN 0 ELSE x.day_cost END,
        day_tokens = CASE WHEN x.day < today THEN 0 ELSE x.day_tokens END,
        month_cost = CASE WHEN x.month < first THEN 0 ELSE x.month_cost END,
        month_tokens = CASE WHEN x.month < first THEN 0 ELSE x.month_tokens END,
        reserved_cost = x.reserved_cost + cost, reserved_tokens = x.reserved_tokens + tokens
        WHERE x.tenant_id = t.tenant_id RETURNING x.* INTO s;
    excess := chat.budget_excess(t, s, cost, tokens);
    IF excess IS NOT NULL THEN
        RAISE EXCEPTION 'the budget of the tenant is used up' USING ERRCODE = 'TB402', DETAIL = excess::text;
    END IF;
END
$function$;

-- Release what an ended turn has reserved, and count what it cost beyond what is counted: however often it is
-- called, each cost is counted once, also that of a turn which was completed after it had failed. All rows of
-- what a turn cost bear its answer's id, also of an answer that broke off before another was given. As long as
-- the cost of one of them is not known, the turn counts as if it had taken what it reserved, at least.
CREATE FUNCTION chat.budget_settle(turn uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    today CONSTANT date := (now() AT TIME ZONE 'UTC')::date;
    first CONSTANT date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
    t record;
    withheld numeric;
    cost numeric;
    tokens bigint;
BEGIN
    SELECT u.tenant_id, u.conversation_id, u.answer_id, u.created_at, u.reserved_cost, u.reserved_tokens,
        coalesce(u.reserved_cost, u.withheld_cost) AS may_cost,
        coalesce(u.charged_cost, 0) AS charged_cost, coalesce(u.charged_tokens, 0) AS charged_tokens INTO t
        FROM chat.turns u WHERE u.id = turn AND u.state <> 'accepted' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT CASE WHEN bool_or(NOT x.cost_known) THEN t.may_cost END,
        coalesce(sum(x.cost_credits), 0), coalesce(sum(x.total_tokens), 0) - t.charged_tokens
        INTO withheld, cost, tokens FROM chat.usage_tracking x
        JOIN chat.tenant_spending s ON s.tenant_id = x.tenant_id AND x.created_at >= s.since
        WHERE x.conversation_id = t.conversation_id AND x.message_id = t.answer_id
        AND x.created_at >= t.created_at - interval '5 minutes'; -- by an index; for a clock that was set back
    cost := greatest(cost, withheld) - t.charged_cost;
    IF t.reserved_cost IS NULL AND cost = 0 AND tokens = 0 THEN
        RETURN;
    END IF;
    UPDATE chat.turns AS u SET reserved_cost = NULL, reserved_tokens = NULL, withheld_cost = withheld,
        charged_cost = t.charged_cost + cost, charged_tokens = t.charged_tokens + tokens WHERE u.id = turn;
    UPDATE chat.tenant_spending AS x SET
        day = greatest(x.day, today), month = greatest(x.month, first),
        -- What a day withheld and a later one learns to be less is not given to that one.
        day_cost = greatest(CASE WHEN x.day < today THEN 0 ELSE x.day_cost END + cost, 0),
        day_tokens = CASE WHEN x.day < today THEN 0 ELSE x.day_tokens END + tokens,
        month_cost = greatest(CASE WHEN x.month < first THEN 0 ELSE x.month_cost END + cost, 0),
        month_tokens = CASE WHEN x.month < first THEN 0 ELSE x.month_tokens END + tokens,
        reserved_cost = x.reserved_cost - coalesce(t.reserved_cost, 0),
        reserved_tokens = x.reserved_tokens - coalesce(t.reserved_tokens, 0)
        WHERE x.tenant_id = t.tenant_id;
END
$function$;

REVOKE ALL ON FUNCTION chat.budget_excess(chat.tenants, chat.tenant_spending, numeric, bigint),
    chat.budget_reserve(uuid, numeric, bigint), chat.budget_settle(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.budget_excess(chat.tenants, chat.tenant_spending, numeric, bigint),
    chat.budget_reserve(uuid, numeric, bigint), chat.budget_settle(uuid) TO chat_worker;
