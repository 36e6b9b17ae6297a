-- Who changed what by hand: a person or a system that writes to the tables is in the journal, with the values.
-- A step of a workflow enters by itself what it does and why, and so do the functions that people call.

CREATE OR REPLACE FUNCTION campaign.journal_edits() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    -- What a load of a thousand rows did is said in one line.
    rows_told CONSTANT bigint := 100;
    row_count bigint;
    callers text;
    who CONSTANT text := session_user
    || coalesce(format(' (%s)', nullif(current_setting('application_name'), '')), '');
BEGIN
    -- Every session of a workflow says which instance it belongs to (campaign.database.connect).
    IF current_setting('campaign.instance', TRUE) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    GET DIAGNOSTICS callers = PG_CONTEXT;
    IF callers ~ E'\n(PL/pgSQL function (?!inline_code_block)|SQL function )' THEN
        RETURN NULL;
    END IF;

    SELECT count(*) INTO row_count
    FROM changed;
    IF row_count > rows_told THEN
        INSERT INTO campaign.journal (source, message)
        VALUES (
            'edit',
            format('%s rows of %s: %s by %s.', row_count, TG_TABLE_NAME, TG_ARGV[0], who)
        );
        RETURN NULL;
    END IF;

    IF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.journal (source, campaign_id, delivery_id, task_id, message)
        SELECT
            'edit',
            edited.campaign_id,
            edited.delivery_id,
            edited.task_id,
            format('%s: %s; changed by %s.', edited.name, edited.difference, who)
        FROM gone
        INNER JOIN changed ON gone.id = changed.id
        CROSS JOIN LATERAL campaign.describe_edit(TG_TABLE_NAME, to_jsonb(changed), to_jsonb(gone)) AS edited
        WHERE edited.difference IS NOT NULL;
    ELSE
        INSERT INTO campaign.journal (source, campaign_id, delivery_id, task_id, message)
        SELECT
            'edit',
            edited.campaign_id,
            edited.delivery_id,
            edited.task_id,
            format('%s: %s; %s by %s.', edited.name, edited.difference, TG_ARGV[0], who)
        FROM changed
        CROSS JOIN LATERAL campaign.describe_edit(TG_TABLE_NAME, to_jsonb(changed), NULL) AS edited;
    END IF;
    RETURN NULL;
END
$$;

-- A row in words: how it is called, what it is about, and what is in it; with a row before, what differs.
-- Long texts are only said to have changed.
CREATE OR REPLACE FUNCTION campaign.describe_edit(
    table_name text, facts jsonb, facts_before jsonb,
    OUT name text, OUT campaign_id bigint, OUT delivery_id bigint, OUT task_id bigint, OUT difference text
)
LANGUAGE sql STABLE AS $$
    SELECT
        format(
            '%s %s%s',
            table_name,
            coalesce(quote_literal(coalesce(facts ->> 'label', facts ->> 'name', facts ->> 'number')), facts ->> 'id'),
            coalesce(format(' (%s)', facts ->> 'internal_name'), '')
        ),
        (facts ->> CASE table_name WHEN 'campaign' THEN 'id' ELSE 'campaign_id' END)::bigint,
        (facts ->> CASE table_name WHEN 'delivery' THEN 'id' ELSE 'delivery_id' END)::bigint,
        (facts ->> CASE table_name WHEN 'task' THEN 'id' ELSE 'task_id' END)::bigint,
        string_agg(
            CASE
                WHEN greatest(length(fact.value), length(facts_before ->> fact.key)) > 80
                    THEN format('%s is a long text', fact.key)
                WHEN facts_before IS NULL THEN format('%s %s', fact.key, fact.value)
                ELSE format(
                    '%s from %s to %s', fact.key,
                    coalesce(facts_before ->> fact.key, 'nothing'), coalesce(fact.value, 'nothing')
                )
            END,
            ', ' ORDER BY fact.key
        )
    FROM jsonb_each_text(facts) AS fact
    WHERE
        fact.key NOT IN ('id', 'label', 'internal_name', 'created_at', 'updated_at')
        AND fact.value IS DISTINCT FROM facts_before ->> fact.key
$$;

-- The tables with an amount or a state in them; of the first, what is entered too. Not among them: what budgetMgt
-- calculates in bulk, and rows of people (staff, recipient), which hold personal data.
DO $$
DECLARE
    edited record;
BEGIN
    FOR edited IN
        SELECT
            amount.name,
            TRUE AS is_amount
        FROM unnest(ARRAY[
            'budget', 'budget_category', 'purchase_order', 'invoice', 'invoice_line', 'cost_breakdown',
            'cost_structure', 'cost_threshold', 'delivery_cost', 'task_cost', 'stock_order', 'setting'
        ]) AS amount (name)
        UNION ALL
        SELECT
            state.name,
            FALSE AS is_amount
        FROM unnest(ARRAY[
            'plan', 'program', 'campaign', 'campaign_schedule', 'task', 'delivery', 'workflow', 'workflow_template',
            'service', 'provider', 'cost_category', 'cost_type', 'stock', 'stock_line', 'stock_consumption',
            'approval_policy', 'approval', 'provider_job'
        ]) AS state (name)
    LOOP
        IF edited.is_amount THEN
            EXECUTE format(
                'CREATE OR REPLACE TRIGGER journal_entries AFTER INSERT ON campaign.%I REFERENCING NEW TABLE AS changed '
                'FOR EACH STATEMENT EXECUTE FUNCTION campaign.journal_edits(''entered'')', edited.name
            );
        END IF;
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER journal_changes AFTER UPDATE ON campaign.%I '
            'REFERENCING OLD TABLE AS gone NEW TABLE AS changed '
            'FOR EACH STATEMENT EXECUTE FUNCTION campaign.journal_edits(''changed'')', edited.name
        );
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER journal_deletions AFTER DELETE ON campaign.%I REFERENCING OLD TABLE AS changed '
            'FOR EACH STATEMENT EXECUTE FUNCTION campaign.journal_edits(''deleted'')', edited.name
        );
    END LOOP;
END
$$;
