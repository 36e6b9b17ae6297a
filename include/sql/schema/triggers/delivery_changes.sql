-- What an update of deliveries changes for costs, approvals and stock, noted for budgetMgt, deliveryMgt and stockMgt.
--
-- Deliveries are what others update in bulk, and most of what that costs them is to compare each row with what it
-- was: it is done once, for the three. What their queues are, and what is noted of new and deleted deliveries and of
-- other tables, is in budget_changes.sql, approval_changes.sql and stock_changes.sql. What budgetMgt writes on
-- deliveries, their cost, is passed over (SET LOCAL campaign.cost_bookkeeping = 'off'); what deliveryMgt writes is not
-- noted for itself (approval_changes.sql).
--
-- Rows are compared until the first difference: the columns that are updated most stand first.
CREATE OR REPLACE FUNCTION campaign.note_changed_deliveries() RETURNS trigger
LANGUAGE plpgsql
-- A million rows are joined in memory.
SET work_mem = '128MB' AS $$
DECLARE
    notes_approvals CONSTANT boolean := current_setting('campaign.dag_id', TRUE) IS DISTINCT FROM 'deliveryMgt';
    noted record;
BEGIN
    WITH compared AS MATERIALIZED (
        SELECT
            written.id,
            written.id IS NOT NULL
            AND (
                written.message_count, written.analysed_at,
                CASE WHEN written.status IN ('finished', 'canceled') THEN written.status END,
                written.campaign_id, written.channel, written.service_id, written.budget_id,
                written.commitment_level, written.provisional_cost, written.real_cost, written.is_template,
                written.finished_at, written.canceled_at
            ) IS DISTINCT FROM (
                gone.message_count, gone.analysed_at,
                CASE WHEN gone.status IN ('finished', 'canceled') THEN gone.status END,
                gone.campaign_id, gone.channel, gone.service_id, gone.budget_id,
                gone.commitment_level, gone.provisional_cost, gone.real_cost, gone.is_template,
                gone.finished_at, gone.canceled_at
            ) AS changes_cost,
            notes_approvals AND campaign.awaits_approvals(written.status)
            AND (
                written.message_count, written.analysed_at, written.status, written.contact_date, written.targeted_count,
                written.submitted_at, written.extracted_at, written.held_at, written.released_at,
                written.internal_name, written.label, written.campaign_id, written.channel, written.service_id,
                written.outline_id, written.subject, written.body_text, written.body_html, written.sender,
                written.is_template, written.workflow_template_id, written.extraction_date,
                written.requested_quantity, written.approvals_demanded
            ) IS DISTINCT FROM (
                gone.message_count, gone.analysed_at, gone.status, gone.contact_date, gone.targeted_count,
                gone.submitted_at, gone.extracted_at, gone.held_at, gone.released_at,
                gone.internal_name, gone.label, gone.campaign_id, gone.channel, gone.service_id,
                gone.outline_id, gone.subject, gone.body_text, gone.body_html, gone.sender,
                gone.is_template, gone.workflow_template_id, gone.extraction_date,
                gone.requested_quantity, gone.approvals_demanded
            ) AS changes_approvals,
            -- Only what left, or had left, consumes.
            written.id IS NOT NULL
            AND num_nonnulls(written.extracted_at, written.started_at, gone.extracted_at, gone.started_at) > 0
            AND (
                written.message_count, written.status, written.extracted_at, written.started_at,
                written.finished_at, written.canceled_at, written.channel, written.campaign_id,
                written.is_template, written.service_id
            ) IS DISTINCT FROM (
                gone.message_count, gone.status, gone.extracted_at, gone.started_at,
                gone.finished_at, gone.canceled_at, gone.channel, gone.campaign_id,
                gone.is_template, gone.service_id
            ) AS changes_stock,
            -- Its consumption is another campaign's; another service has other cost types that are selected by default.
            (written.campaign_id, written.channel, written.service_id)
            IS DISTINCT FROM (gone.campaign_id, gone.channel, gone.service_id) AS consumes_otherwise,
            written.campaign_id IS DISTINCT FROM gone.campaign_id AS is_moved,
            written.campaign_id,
            gone.campaign_id AS left_campaign_id,
            CASE WHEN written.submitted_at IS DISTINCT FROM gone.submitted_at THEN written.submitted_at END
                AS submitted_at,
            CASE WHEN written.analysed_at IS DISTINCT FROM gone.analysed_at THEN written.analysed_at END
                AS analysed_at,
            CASE WHEN written.extracted_at IS DISTINCT FROM gone.extracted_at THEN written.extracted_at END
                AS extracted_at
        FROM written
        -- Full, though each row is on both sides, because a full join is never done by nested loops: the plan that a
        -- session makes for its first update, of one row, serves its next one, of a million.
        FULL JOIN gone ON written.id = gone.id
    ),

    -- Of a bulk update mostly none: what is to be noted beside that the costs or approvals of the row itself change.
    noted_further AS MATERIALIZED (
        SELECT compared.*
        FROM compared
        WHERE
            compared.is_moved OR compared.changes_stock
            OR num_nonnulls(compared.submitted_at, compared.extracted_at) > 0
    ),

    costs AS (
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'delivery',
            compared.id
        FROM compared
        WHERE compared.changes_cost
        UNION ALL
        SELECT
            'campaign',
            moved.campaign_id
        FROM noted_further
        CROSS JOIN
            LATERAL (VALUES (noted_further.campaign_id), (noted_further.left_campaign_id)) AS moved (campaign_id)
        WHERE noted_further.is_moved AND moved.campaign_id IS NOT NULL
    ),

    approvals AS (
        INSERT INTO campaign.approval_queue (delivery_id, due_at)
        SELECT
            compared.id,
            coalesce(compared.analysed_at, '-infinity')
        FROM compared
        WHERE compared.changes_approvals
        UNION ALL
        SELECT
            noted_further.id,
            moment.at
        FROM noted_further
        CROSS JOIN LATERAL (VALUES (noted_further.submitted_at), (noted_further.extracted_at)) AS moment (at)
        WHERE noted_further.changes_approvals AND moment.at IS NOT NULL
    )

    SELECT
        EXISTS (SELECT 1 FROM compared WHERE compared.changes_cost) AS changes_cost,
        array_agg(noted_further.id) FILTER (WHERE noted_further.changes_stock) AS consuming,
        array_agg(noted_further.id) FILTER (WHERE noted_further.changes_stock AND noted_further.consumes_otherwise)
            AS consuming_otherwise
    INTO noted
    FROM noted_further;

    IF noted.changes_cost THEN
        PERFORM pg_notify('campaign_event', 'budgetMgt');
    END IF;
    -- A session that replicates gets what is kept of volumes with the rest.
    IF noted.consuming IS NOT NULL AND current_setting('session_replication_role') <> 'replica' THEN
        PERFORM campaign.note_delivery_volumes(noted.consuming);
        INSERT INTO campaign.stock_delivery_queue (delivery_id)
        SELECT unnest(noted.consuming_otherwise);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_changes AFTER UPDATE ON campaign.delivery
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_changed_deliveries();
-- In sessions that replicate (session_replication_role = replica) too, as approval_changes.sql has it; that such an
-- update is noted for costs as well makes a run look, and find nothing.
ALTER TABLE campaign.delivery ENABLE ALWAYS TRIGGER note_changes;
