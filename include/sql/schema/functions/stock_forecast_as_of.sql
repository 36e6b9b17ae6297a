-- The day on which each stock line falls to its alert level and to zero, if nothing else happens than what is
-- known: the orders on the way, the deliveries that have not left, and what left since stockMgt's last run.
-- Grain: one row per stock line; a day is NULL when the line does not fall that far.
--
-- A delivery counts on the day of its extraction (online: of its contact), today when that is past or not
-- given, with its messages; not analysed yet, with what its target was estimated at: its requested quantity,
-- or the messages of the last delivery of the same workflow template, whichever is less. Without any of
-- these it does not count. An order of a day is in stock before the deliveries of that day leave.
CREATE OR REPLACE FUNCTION campaign.stock_forecast_as_of(
    moment timestamptz, stock_lines bigint[] DEFAULT NULL
) RETURNS TABLE (
    stock_line_id bigint, low_on date, empty_on date, delivery_id bigint, empty_delivery_id bigint
)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = 'force_custom_plan' AS $$
#variable_conflict use_column
DECLARE
    today CONSTANT date := campaign.stock_day(moment);
BEGIN
    RETURN QUERY
    -- What left since stockMgt's last run.
    WITH unrecorded AS (
        SELECT
            consumption.stock_line_id,
            consumption.delivery_id,
            consumption.quantity,
            coalesce(consumption.recorded_quantity, 0) AS recorded_quantity
        FROM
            campaign.stock_consumption_as_of(
                'infinity',
                ARRAY(SELECT noted.delivery_id FROM campaign.stock_deliveries_to_record() AS noted)
            ) AS consumption
    ),

    planned AS (
        SELECT
            delivery.id,
            delivery.requested_quantity,
            coalesce(delivery.message_count, delivery.targeted_count) AS known_count,
            delivery.workflow_template_id,
            greatest(
                today,
                campaign.stock_day(
                    CASE
                        WHEN delivery.channel = 'direct_mail'
                            THEN coalesce(delivery.extraction_date, delivery.contact_date, campaign.starts_at)
                        ELSE coalesce(delivery.contact_date, campaign.starts_at)
                    END
                )
            ) AS leaves_on
        FROM campaign.delivery AS delivery
        INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
        WHERE
            delivery.status IN (
                'being_edited', 'targeting_pending', 'target_ready', 'extraction_pending', 'extracting',
                'pending_confirmation', 'start_pending'
            )
            AND NOT delivery.is_template
            AND NOT campaign.is_template
            AND campaign.status IN ('being_edited', 'started')
            AND EXISTS (
                SELECT 1
                FROM campaign.delivery_selected_cost AS delivery_cost
                INNER JOIN campaign.cost_type AS cost_type ON delivery_cost.cost_type_id = cost_type.id
                WHERE
                    delivery_cost.delivery_id = delivery.id
                    AND cost_type.stock_line_id IS NOT NULL
                    AND (stock_lines IS NULL OR cost_type.stock_line_id = ANY(stock_lines))
            )
    ),

    estimated AS (
        SELECT
            planned.id,
            planned.leaves_on,
            coalesce(
                planned.known_count,
                least(nullif(planned.requested_quantity, 0), last_one.message_count)
            ) AS message_count
        FROM planned
        LEFT OUTER JOIN LATERAL (
            SELECT earlier.message_count
            FROM campaign.delivery AS earlier
            WHERE
                planned.known_count IS NULL
                AND earlier.workflow_template_id = planned.workflow_template_id
                AND earlier.message_count IS NOT NULL
                AND earlier.id <> planned.id
            ORDER BY earlier.analysed_at DESC NULLS LAST
            LIMIT 1
        ) AS last_one ON TRUE
    ),

    movements AS (
        SELECT
            stock_order.stock_line_id,
            greatest(today, stock_order.delivery_on) AS moves_on,
            0 AS place,
            NULL::bigint AS delivery_id,
            -- Orders of a day and their corrections are one movement.
            sum(stock_order.quantity) AS quantity
        FROM campaign.stock_order AS stock_order
        WHERE stock_order.received_at IS NULL
        GROUP BY stock_order.stock_line_id, moves_on
        UNION ALL
        SELECT
            unrecorded.stock_line_id,
            today,
            1,
            unrecorded.delivery_id,
            unrecorded.recorded_quantity - unrecorded.quantity
        FROM unrecorded
        UNION ALL
        SELECT
            cost_type.stock_line_id,
            estimated.leaves_on,
            2,
            estimated.id,
            -- Extracted again, a delivery takes what it needs beyond what it has consumed already.
            coalesce(max(unrecorded.quantity), max(consumption.quantity), 0)
            - ceil(estimated.message_count * sum(cost_type.units_per_message))
        FROM estimated
        INNER JOIN campaign.delivery_selected_cost AS delivery_cost ON estimated.id = delivery_cost.delivery_id
        INNER JOIN campaign.cost_type AS cost_type ON delivery_cost.cost_type_id = cost_type.id
        LEFT OUTER JOIN campaign.stock_consumption AS consumption
            ON
                estimated.id = consumption.delivery_id
                AND cost_type.stock_line_id = consumption.stock_line_id
        LEFT OUTER JOIN unrecorded
            ON
                estimated.id = unrecorded.delivery_id
                AND cost_type.stock_line_id = unrecorded.stock_line_id
        WHERE cost_type.stock_line_id IS NOT NULL AND estimated.message_count IS NOT NULL
        GROUP BY estimated.id, estimated.leaves_on, estimated.message_count, cost_type.stock_line_id
    ),

    running AS (
        SELECT
            position.stock_line_id,
            position.alert_level,
            movements.moves_on,
            movements.place,
            movements.delivery_id,
            position.in_stock + sum(movements.quantity) OVER (
                PARTITION BY position.stock_line_id
                ORDER BY movements.moves_on, movements.place, movements.delivery_id
                ROWS UNBOUNDED PRECEDING
            ) AS in_stock
        FROM campaign.stock_position AS position
        INNER JOIN movements ON position.stock_line_id = movements.stock_line_id
        WHERE stock_lines IS NULL OR position.stock_line_id = ANY(stock_lines)
        UNION ALL
        -- Where it stands already.
        SELECT
            position.stock_line_id,
            position.alert_level,
            today,
            -1,
            NULL,
            position.in_stock
        FROM campaign.stock_position AS position
        WHERE stock_lines IS NULL OR position.stock_line_id = ANY(stock_lines)
    ),

    low AS (
        SELECT DISTINCT ON (running.stock_line_id)
            running.stock_line_id,
            running.moves_on,
            running.delivery_id
        FROM running
        WHERE running.in_stock <= running.alert_level
        ORDER BY running.stock_line_id, running.moves_on, running.place, running.delivery_id
    ),

    empty AS (
        SELECT DISTINCT ON (running.stock_line_id)
            running.stock_line_id,
            running.moves_on,
            running.delivery_id
        FROM running
        WHERE running.in_stock <= 0
        ORDER BY running.stock_line_id, running.moves_on, running.place, running.delivery_id
    )

    SELECT
        stock_line.id,
        low.moves_on,
        empty.moves_on,
        low.delivery_id,
        empty.delivery_id
    FROM campaign.stock_line AS stock_line
    LEFT OUTER JOIN low ON stock_line.id = low.stock_line_id
    LEFT OUTER JOIN empty ON stock_line.id = empty.stock_line_id
    WHERE stock_lines IS NULL OR stock_line.id = ANY(stock_lines);
END
$$;
