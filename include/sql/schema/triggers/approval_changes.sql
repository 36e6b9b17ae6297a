-- What an approval is bound to (campaign.approval_seal), and whatever else decides whether one is to be asked for or
-- is granted: a change of it puts the deliveries concerned, of those that have not left, into
-- campaign.approval_queue, in the transaction of the change. deliveryMgt then looks at these, not at all that wait.
--
-- One statement trigger per table and kind of statement, over its transition tables. A moment that is written (the
-- analysis, an answer) is noted with itself: a run as of an earlier moment looks, and leaves it to a later one.
--
-- The triggers differ in these things only, which the table at the end lists:
--   table    whose rows change
--   noted    the deliveries that follow the row, and from when on: a query (%1$s: the row)
--   renoted  the same after an update, when it differs; else they are noted for the row as it is and as it was
--   watched  of an updated row, what must have changed (%1$s: the row); a table without an id: anything
-- Updates of deliveries are noted by delivery_changes.sql, new expense lines, with their items, by budgetMgt itself
-- (budget_mgt/write_expenses.sql).
-- What deliveryMgt writes is passed over: it looks at it itself, in the same run (delivery_mgt/advance_deliveries.sql).
-- They fire in sessions that replicate (session_replication_role = replica) too; and a run with `full` looks at all.
CREATE OR REPLACE PROCEDURE campaign.lay_approval_trigger(
    changed_table text, event text, transition_tables text, noting text, bookkeeping text
)
LANGUAGE plpgsql AS $lay$
DECLARE
    function_name CONSTANT text := format('queue_%s_%s', changed_table, event);
BEGIN
    EXECUTE format(
        $function$
        CREATE OR REPLACE FUNCTION campaign.%1$I() RETURNS trigger LANGUAGE plpgsql AS $body$
        BEGIN
            -- Planned each time: a statement writes one row, or a million.
            EXECUTE $noting$INSERT INTO campaign.approval_queue (delivery_id, due_at) %2$s$noting$;
            RETURN NULL;
        END
        $body$
        $function$,
        function_name, noting
    );
    EXECUTE format(
        'CREATE OR REPLACE TRIGGER queue_on_%1$s AFTER %1$s ON campaign.%2$I REFERENCING %3$s '
        'FOR EACH STATEMENT %4$s EXECUTE FUNCTION campaign.%5$I()',
        event, changed_table, transition_tables, bookkeeping, function_name
    );
    EXECUTE format('ALTER TABLE campaign.%I ENABLE ALWAYS TRIGGER %I', changed_table, 'queue_on_' || event);
END
$lay$;

DO $$
DECLARE
    rule record;
    -- The deliveries of a key, of those that have not left.
    found CONSTANT text := 'SELECT delivery.id, timestamptz ''-infinity'' FROM campaign.delivery AS delivery '
        'WHERE campaign.awaits_approvals(delivery.status) AND ';
    -- What budgetMgt writes on deliveries, their cost, decides nothing here; and a line that it writes stands for
    -- its items.
    by_people CONSTANT text := 'WHEN (current_setting(''campaign.cost_bookkeeping'', TRUE) IS DISTINCT FROM ''off'')';
    by_others CONSTANT text := 'WHEN (current_setting(''campaign.dag_id'', TRUE) IS DISTINCT FROM ''deliveryMgt'')';
BEGIN
    FOR rule IN
        SELECT *
        FROM (
            VALUES
            (
                'delivery',
                'SELECT %1$s.id, moment.at FROM (VALUES (timestamptz ''-infinity''), (%1$s.submitted_at), '
                '(%1$s.analysed_at), (%1$s.extracted_at)) AS moment (at) '
                'WHERE campaign.awaits_approvals(%1$s.status) AND moment.at IS NOT NULL',
                NULL, NULL, by_people
            ),
            (
                'approval',
                'SELECT %1$s.delivery_id, moment.at FROM unnest(ARRAY[%1$s.submitted_at, %1$s.decided_at]) '
                'AS moment (at) WHERE moment.at IS NOT NULL',
                'SELECT written.delivery_id, moment.at FROM unnest(ARRAY[''-infinity'', written.submitted_at, '
                'CASE WHEN written.decided_at IS DISTINCT FROM gone.decided_at THEN written.decided_at END]) '
                'AS moment (at) WHERE moment.at IS NOT NULL UNION ALL SELECT gone.delivery_id, ''-infinity''',
                '%1$s.delivery_id, %1$s.kind, %1$s.round, %1$s.status, %1$s.seal, %1$s.submitted_at, %1$s.decided_at',
                by_others
            ),
            (
                'approval_policy',
                found || 'delivery.id = %1$s.delivery_id UNION ALL ' || found || 'delivery.campaign_id IN ('
                'SELECT campaign.id FROM campaign.campaign AS campaign '
                'WHERE campaign.id = %1$s.campaign_id OR campaign.template_id = %1$s.campaign_id)',
                NULL, '%1$s.campaign_id, %1$s.delivery_id, %1$s.kind, %1$s.enabled',
                NULL
            ),
            (
                'campaign', found || 'delivery.campaign_id = %1$s.id',
                NULL,
                '%1$s.label, %1$s.template_id, %1$s.status, %1$s.approval_mode, %1$s.notifications_enabled', by_people
            ),
            ('delivery_outline', found || 'delivery.outline_id = %1$s.id', NULL, '%1$s.label', NULL),
            (
                'delivery_outline_item', found || 'delivery.outline_id = %1$s.outline_id',
                NULL, '%1$s.outline_id, %1$s.label, %1$s.description, %1$s.cost', NULL
            ),
            (
                'workflow_template', found || 'delivery.workflow_template_id = %1$s.id',
                NULL, '%1$s.dag_id, %1$s.conf', NULL
            ),
            (
                'service', found || 'delivery.service_id = %1$s.id',
                NULL, '%1$s.notification_template, %1$s.notification_emails, %1$s.notification_group_id', NULL
            ),
            (
                'delivery_exclusion', found || 'delivery.id = %1$s.delivery_id', NULL, NULL, NULL
            ),
            (
                'extraction_file', found || 'delivery.id = %1$s.delivery_id',
                NULL, '%1$s.delivery_id, %1$s.sha256, %1$s.status', NULL
            ),
            (
                -- OFFSET 0: found by index for each line, however many deliveries wait.
                'expense_line', 'SELECT one.* FROM (' || found || 'delivery.id = %1$s.delivery_id OFFSET 0) AS one',
                NULL,
                '%1$s.delivery_id, %1$s.budget_id, %1$s.provisional_cost, %1$s.cost_total, %1$s.real_cost, '
                '%1$s.computed_at',
                NULL
            ),
            (
                'expense_item',
                found || 'delivery.id = (SELECT line.delivery_id FROM campaign.expense_line AS line '
                'WHERE line.id = %1$s.expense_line_id)',
                NULL,
                '%1$s.expense_line_id, %1$s.cost_structure_id, %1$s.kind, %1$s.quantity, %1$s.amount, '
                '%1$s.expense_category_id',
                by_people
            ),
            -- With another measure, what was too late to leave may no longer be.
            ('setting', found || '%1$s.name = ''stale_after''', NULL, '%1$s.name, %1$s.value', NULL)
        ) AS rules (changed_table, noted, renoted, watched, bookkeeping)
    LOOP
        IF rule.changed_table NOT IN ('expense_line', 'expense_item') THEN
            CALL campaign.lay_approval_trigger(
                rule.changed_table, 'insert', 'NEW TABLE AS written',
                format(
                    'SELECT DISTINCT noted.* FROM written CROSS JOIN LATERAL (%s) AS noted (id, due_at)',
                    format(rule.noted, 'written')
                ),
                rule.bookkeeping
            );
        END IF;
        CALL campaign.lay_approval_trigger(
            rule.changed_table, 'delete', 'OLD TABLE AS gone',
            format(
                'SELECT DISTINCT noted.* FROM gone CROSS JOIN LATERAL (%s) AS noted (id, due_at)',
                format(rule.noted, 'gone')
            ),
            rule.bookkeeping
        );
        -- See delivery_changes.sql.
        CONTINUE WHEN rule.changed_table = 'delivery';
        CALL campaign.lay_approval_trigger(
            rule.changed_table, 'update', 'OLD TABLE AS gone NEW TABLE AS written',
            CASE
                WHEN rule.watched IS NULL
                    THEN format(
                        'SELECT DISTINCT noted.* FROM (TABLE written UNION ALL TABLE gone) AS changed '
                        'CROSS JOIN LATERAL (%s) AS noted (id, due_at)',
                        format(rule.noted, 'changed')
                    )
                ELSE format(
                    'SELECT DISTINCT noted.* FROM written INNER JOIN gone ON written.id = gone.id '
                    'CROSS JOIN LATERAL (%s) AS noted (id, due_at) WHERE (%s) IS DISTINCT FROM (%s)',
                    coalesce(
                        rule.renoted, format('%s UNION ALL %s', format(rule.noted, 'written'), format(rule.noted, 'gone'))
                    ),
                    format(rule.watched, 'written'), format(rule.watched, 'gone')
                )
            END,
            rule.bookkeeping
        );
    END LOOP;
END
$$;

DROP PROCEDURE campaign.lay_approval_trigger;
