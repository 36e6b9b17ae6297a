-- The deliveries that have left and whose consumption has to be looked at again, as of a moment: since stockMgt last
-- did they left, left again or were canceled, or what they select changed.
-- Grain: one row per delivery.
--
-- The queues are read first, for they are short: what they name is then found by index.
CREATE OR REPLACE FUNCTION campaign.stock_deliveries_to_record(
    moment timestamptz DEFAULT 'infinity'
) RETURNS TABLE (delivery_id bigint)
LANGUAGE plpgsql STABLE ROWS 100
SET plan_cache_mode = 'force_custom_plan' AS $$
#variable_conflict use_column
DECLARE
    noted CONSTANT bigint [] := ARRAY(
        SELECT DISTINCT queue.delivery_id FROM campaign.stock_delivery_queue AS queue WHERE queue.due_at <= moment
    );
    cost_types CONSTANT bigint [] := ARRAY(
        SELECT DISTINCT queue.cost_type_id
        FROM campaign.stock_selection_queue AS queue
        WHERE queue.cost_type_id IS NOT NULL
    );
    services CONSTANT bigint [] := ARRAY(
        SELECT DISTINCT queue.service_id
        FROM campaign.stock_selection_queue AS queue
        WHERE queue.service_id IS NOT NULL
    );
BEGIN
    RETURN QUERY
    WITH named AS (
        SELECT listed.delivery_id FROM unnest(noted) AS listed (delivery_id)
        UNION
        SELECT selection.delivery_id
        FROM campaign.delivery_cost AS selection
        INNER JOIN campaign.delivery AS delivery ON selection.delivery_id = delivery.id
        WHERE selection.cost_type_id = ANY(cost_types) AND delivery.finished_at IS NULL
        UNION
        SELECT delivery.id
        FROM campaign.delivery AS delivery
        WHERE
            delivery.service_id = ANY(services)
            AND delivery.finished_at IS NULL
            AND (delivery.extracted_at IS NOT NULL OR delivery.started_at IS NOT NULL)
    )

    SELECT named.delivery_id
    FROM named
    WHERE EXISTS (
        SELECT 1
        FROM campaign.delivery_volume AS volume
        WHERE volume.delivery_id = named.delivery_id
    );
END
$$;
