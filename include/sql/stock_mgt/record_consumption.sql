-- Records what deliveries consume: extracted (online: started) by the moment of the run, messages times units
-- per message of each selected cost type that names a stock line; canceled before it left, nothing.
-- Grain: one line per delivery and stock line, adjusted when the delivery changes.
-- Rerun: what is due is taken from the queues of what changed, and a line that is as it should be is not written;
-- `full` compares all deliveries in the same way.

WITH scope AS (
    SELECT (
        SELECT campaign.id
        FROM campaign.campaign AS campaign
        WHERE campaign.internal_name = %(campaign)s::text
    ) AS campaign_id
),

due AS (
    SELECT noted.delivery_id
    FROM campaign.stock_deliveries_to_record(%(as_of)s::timestamptz) AS noted
    WHERE
        NOT %(is_past)s::boolean
        AND (
            %(campaign)s::text IS NULL
            OR EXISTS (
                SELECT 1
                FROM campaign.delivery AS delivery
                INNER JOIN scope ON delivery.campaign_id = scope.campaign_id
                WHERE delivery.id = noted.delivery_id
            )
        )
),

taken_deliveries AS (
    DELETE FROM campaign.stock_delivery_queue AS queue
    WHERE
        NOT %(is_past)s::boolean
        AND queue.due_at <= %(as_of)s::timestamptz
        AND (
            %(campaign)s::text IS NULL
            OR queue.delivery_id IN (SELECT due.delivery_id FROM due)
        )
),

-- They concern deliveries of any campaign.
taken_selections AS (
    DELETE FROM campaign.stock_selection_queue
    WHERE NOT %(is_past)s::boolean AND %(campaign)s::text IS NULL
),

computed AS (
    SELECT
        consumption.delivery_id,
        consumption.stock_line_id,
        consumption.campaign_id,
        consumption.message_count,
        consumption.units_per_message,
        consumption.quantity,
        consumption.consumed_at,
        consumption.recorded_quantity
    FROM
        campaign.stock_consumption_as_of(
            %(as_of)s::timestamptz,
            CASE
                WHEN NOT %(full)s::boolean OR %(is_past)s::boolean
                    THEN array(SELECT due.delivery_id FROM due)
                WHEN %(campaign)s::text IS NOT NULL
                    THEN array(
                        SELECT delivery.id
                        FROM campaign.delivery AS delivery
                        INNER JOIN scope ON delivery.campaign_id = scope.campaign_id
                    )
            END
        ) AS consumption
    WHERE NOT consumption.is_recorded
),

recorded AS (
    INSERT INTO campaign.stock_consumption AS consumption (
        stock_line_id,
        campaign_id,
        delivery_id,
        message_count,
        units_per_message,
        quantity,
        consumed_at
    )
    SELECT
        computed.stock_line_id,
        computed.campaign_id,
        computed.delivery_id,
        computed.message_count,
        computed.units_per_message,
        computed.quantity,
        computed.consumed_at
    FROM computed
    ORDER BY computed.stock_line_id, computed.delivery_id
    ON CONFLICT ON CONSTRAINT "a delivery consumes a stock_line in one line" DO UPDATE
        SET
            campaign_id = excluded.campaign_id,
            message_count = excluded.message_count,
            units_per_message = excluded.units_per_message,
            quantity = excluded.quantity,
            consumed_at = excluded.consumed_at
),

told AS (
    SELECT
        computed.campaign_id,
        computed.delivery_id,
        computed.stock_line_id,
        CASE
            WHEN computed.recorded_quantity IS NULL
                THEN format(
                    'The delivery %%L consumed %%s of the stock line %%L (%%s): %%s messages, %%s each.',
                    delivery.label, computed.quantity, stock_line.label, stock.label,
                    computed.message_count, trim_scale(computed.units_per_message)
                )
            ELSE format(
                'The consumption of the stock line %%L (%%s) by the delivery %%L went from %%s to %%s: '
                '%%s messages, %%s each.',
                stock_line.label, stock.label, delivery.label, computed.recorded_quantity, computed.quantity,
                computed.message_count, trim_scale(computed.units_per_message)
            )
        END AS message
    FROM computed
    INNER JOIN campaign.delivery AS delivery ON computed.delivery_id = delivery.id
    INNER JOIN campaign.stock_line AS stock_line ON computed.stock_line_id = stock_line.id
    INNER JOIN campaign.stock AS stock ON stock_line.stock_id = stock.id
    WHERE computed.quantity IS DISTINCT FROM computed.recorded_quantity
),

written AS (
    INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        told.campaign_id,
        told.delivery_id,
        told.message
    FROM told
    ORDER BY told.delivery_id, told.stock_line_id
),

total AS (
    SELECT count(*) AS consumptions_recorded
    FROM computed
),

lines AS (
    SELECT told.message AS report
    FROM told
    ORDER BY told.delivery_id, told.stock_line_id
    LIMIT 200
)

SELECT
    lines.report,
    total.consumptions_recorded
FROM total
LEFT JOIN lines ON TRUE;
