-- What changes a cost is noted in campaign.cost_change, and budgetMgt is told.
--
-- One statement trigger per kind of statement, over its transition tables: a bulk update costs its writers
-- one more pass over its rows, not a call for each. Updates that change no cost are not noted. The
-- statements of budgetMgt itself are passed over (SET LOCAL campaign.cost_bookkeeping = 'off').
--
-- The functions and triggers differ in four things only, which the table at the end lists:
--   table    whose rows change
--   watched  of an updated row, what must have changed (%1$s: the row); null: delivery_changes.sql notes its updates
--   noted    whose cost follows the row: a query of kind and id. Noted for the row as it is after an insert, as it is
--            and as it was after an update, as it was after a delete
--   above    who loses or gains a row that is moved or deleted, kind and column; then the row itself is what is noted
--            (nothing of it is left to note after a delete)
CREATE OR REPLACE PROCEDURE campaign.lay_cost_trigger(
    changed_table text, event text, transition_tables text, noting text
)
LANGUAGE plpgsql AS $lay$
BEGIN
    EXECUTE format(
        $function$
        CREATE OR REPLACE FUNCTION campaign.%1$I() RETURNS trigger LANGUAGE plpgsql AS $body$
        BEGIN
            INSERT INTO campaign.cost_change (element, element_id) %2$s;
            IF FOUND THEN
                PERFORM pg_notify('campaign_event', 'budgetMgt');
            END IF;
            RETURN NULL;
        END
        $body$
        $function$,
        format('note_%s_%s', changed_table, event), noting
    );
    EXECUTE format(
        $trigger$
        CREATE OR REPLACE TRIGGER note_cost_change_on_%1$s AFTER %1$s ON campaign.%2$I
        REFERENCING %3$s FOR EACH STATEMENT
        WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
        EXECUTE FUNCTION campaign.%4$I()
        $trigger$,
        event, changed_table, transition_tables, format('note_%s_%s', changed_table, event)
    );
END
$lay$;

DO $$
DECLARE
    rule record;
    moved text;
BEGIN
    FOR rule IN
        SELECT *
        FROM (
            VALUES
            (
                'delivery', 'SELECT ''delivery'', %1$s.id', ARRAY['campaign'], NULL
            ),
            (
                'task', 'SELECT ''task'', %1$s.id', ARRAY['campaign', 'program'],
                '%1$s.campaign_id, %1$s.program_id, %1$s.days_completed, %1$s.finished_at, %1$s.canceled_at, '
                '%1$s.service_id, %1$s.budget_id, %1$s.commitment_level, %1$s.provisional_cost, %1$s.real_cost, '
                'CASE WHEN %1$s.status IN (''finished'', ''canceled'') THEN %1$s.status END'
            ),
            (
                'campaign', 'SELECT ''campaign'', %1$s.id', ARRAY['program'],
                '%1$s.program_id, %1$s.is_template, %1$s.ends_at, %1$s.canceled_at, %1$s.budget_id, '
                '%1$s.budget_status, %1$s.commitment_level, %1$s.provisional_cost, %1$s.fixed_cost, %1$s.real_cost, '
                'CASE WHEN %1$s.status IN (''finished'', ''canceled'') THEN %1$s.status END'
            ),
            (
                'program', 'SELECT ''program'', %1$s.id', ARRAY['plan'],
                '%1$s.plan_id, %1$s.budget_id, %1$s.provisional_cost, %1$s.real_cost'
            ),
            ('plan', 'SELECT ''plan'', %1$s.id', NULL, '%1$s.provisional_cost, %1$s.real_cost'),
            (
                'delivery_cost', 'SELECT ''delivery'', %1$s.delivery_id', NULL,
                '%1$s.delivery_id, %1$s.cost_type_id, %1$s.surcharge, %1$s.expense_category_id'
            ),
            (
                'task_cost', 'SELECT ''task'', %1$s.task_id', NULL,
                '%1$s.task_id, %1$s.cost_type_id, %1$s.surcharge, %1$s.expense_category_id'
            ),
            (
                'cost_breakdown',
                'SELECT CASE WHEN %1$s.delivery_id IS NOT NULL THEN ''delivery'' WHEN %1$s.task_id IS NOT NULL '
                'THEN ''task'' ELSE ''campaign'' END, coalesce(%1$s.delivery_id, %1$s.task_id, %1$s.campaign_id)',
                NULL,
                '%1$s.delivery_id, %1$s.task_id, %1$s.campaign_id, %1$s.kind, %1$s.expense_category_id, %1$s.amount'
            ),
            (
                'cost_structure', 'SELECT ''cost_type'', %1$s.cost_type_id', NULL,
                '%1$s.cost_type_id, %1$s.basis, %1$s.method, %1$s.amount, %1$s.batch_size, %1$s.whole_batches, '
                '%1$s.beyond_amount'
            ),
            (
                'cost_threshold',
                'SELECT ''cost_type'', structure.cost_type_id FROM campaign.cost_structure AS structure '
                'WHERE structure.id = %1$s.cost_structure_id',
                NULL, '%1$s.cost_structure_id, %1$s.up_to, %1$s.amount'
            ),
            (
                'cost_category', 'SELECT ''service'', %1$s.service_id', NULL,
                '%1$s.service_id, %1$s.channel, %1$s.label, %1$s.selection_required'
            ),
            (
                'cost_type',
                'SELECT ''service'', category.service_id FROM campaign.cost_category AS category '
                'WHERE category.id = %1$s.cost_category_id',
                NULL, '%1$s.cost_category_id, %1$s.selected_by_default'
            ),
            ('budget', 'SELECT ''budget'', %1$s.id', NULL, '%1$s.currency'),
            (
                'invoice',
                'SELECT CASE WHEN line.delivery_id IS NOT NULL THEN ''delivery'' ELSE ''task'' END, '
                'coalesce(line.delivery_id, line.task_id) FROM campaign.invoice_line AS invoice_line '
                'INNER JOIN campaign.expense_line AS line ON invoice_line.id = line.invoice_line_id '
                'WHERE invoice_line.invoice_id = %1$s.id',
                NULL, '%1$s.status, %1$s.paid_at'
            ),
            (
                'invoice_line',
                'SELECT CASE WHEN line.delivery_id IS NOT NULL THEN ''delivery'' ELSE ''task'' END, '
                'coalesce(line.delivery_id, line.task_id) FROM campaign.expense_line AS line '
                'WHERE line.invoice_line_id = %1$s.id',
                NULL, '%1$s.invoice_id, %1$s.amount'
            ),
            (
                'expense_line',
                'SELECT CASE WHEN %1$s.delivery_id IS NOT NULL THEN ''delivery'' ELSE ''task'' END, '
                'coalesce(%1$s.delivery_id, %1$s.task_id)',
                NULL, '%1$s.invoice_line_id'
            )
        ) AS rules (changed_table, noted, above, watched)
    LOOP
        IF rule.changed_table NOT IN ('budget', 'invoice', 'invoice_line', 'expense_line') THEN
            CALL campaign.lay_cost_trigger(
                rule.changed_table, 'insert', 'NEW TABLE AS written',
                format(
                    'SELECT DISTINCT noted.* FROM written CROSS JOIN LATERAL (%s) AS noted (element, element_id)',
                    format(rule.noted, 'written')
                )
            );
        END IF;
        IF rule.changed_table NOT IN ('plan', 'budget', 'invoice', 'invoice_line', 'expense_line') THEN
            SELECT coalesce(
                string_agg(format('SELECT %1$L, gone.%1$s_id WHERE gone.%1$s_id IS NOT NULL', above.element), ' UNION ALL '),
                format(rule.noted, 'gone')
            ) INTO moved
            FROM unnest(rule.above) AS above (element);
            CALL campaign.lay_cost_trigger(
                rule.changed_table, 'delete', 'OLD TABLE AS gone',
                format('SELECT DISTINCT noted.* FROM gone CROSS JOIN LATERAL (%s) AS noted (element, element_id)', moved)
            );
        END IF;
        CONTINUE WHEN rule.watched IS NULL;
        -- The row and, when it moved, whoever lost and gained it; or, where it is part of another, that as it is and was.
        IF rule.above IS NULL THEN
            moved := format('%s UNION ALL %s', format(rule.noted, 'written'), format(rule.noted, 'gone'));
        ELSE
            SELECT concat_ws(
                ', ', format('VALUES (%L, written.id)', rule.changed_table),
                string_agg(
                    format(
                        '(%1$L, CASE WHEN written.%1$s_id IS DISTINCT FROM gone.%1$s_id THEN %2$s.%1$s_id END)',
                        above.element, side.name
                    ),
                    ', '
                )
            ) INTO moved
            FROM unnest(rule.above) AS above (element)
            CROSS JOIN (VALUES ('written'), ('gone')) AS side (name);
        END IF;
        -- Full, though each row is on both sides, because a full join is never done by nested loops: the plan that a
        -- session makes for its first update, of one row, serves its next one, of a million.
        CALL campaign.lay_cost_trigger(
            rule.changed_table, 'update', 'OLD TABLE AS gone NEW TABLE AS written',
            format(
                'SELECT %s noted.* FROM written FULL JOIN gone ON written.id = gone.id '
                'CROSS JOIN LATERAL (%s) AS noted (element, element_id) '
                'WHERE (%s) IS DISTINCT FROM (%s) AND noted.element_id IS NOT NULL',
                CASE WHEN rule.above IS NULL THEN 'DISTINCT' END,
                moved, format(rule.watched, 'written'), format(rule.watched, 'gone')
            )
        );
    END LOOP;
END
$$;

DROP PROCEDURE campaign.lay_cost_trigger;
