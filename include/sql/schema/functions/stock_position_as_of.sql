-- The position of every stock line at any moment, past or present, from the orders and from what the
-- deliveries were at that moment; whatever runs there were, and in whatever order.
-- Grain: one row per stock line. Initial quantity and alert level are those of now.
CREATE OR REPLACE FUNCTION campaign.stock_position_as_of(moment timestamptz) RETURNS TABLE (
    stock_line_id bigint,
    initial_quantity bigint,
    received bigint,
    consumed bigint,
    on_order bigint,
    in_stock bigint,
    alert_level bigint,
    state text
)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = 'force_custom_plan' AS $$
#variable_conflict use_column
DECLARE
    unrecorded CONSTANT bigint [] := ARRAY(SELECT noted.delivery_id FROM campaign.stock_deliveries_to_record() AS noted);
BEGIN
    RETURN QUERY
    WITH arrivals AS (
        SELECT
            stock_order.stock_line_id,
            stock_order.quantity,
            stock_order.ordered_at,
            coalesce(stock_order.received_at, campaign.stock_day_start(stock_order.delivery_on)) AS arrives_at
        FROM campaign.stock_order AS stock_order
    ),

    orders AS (
        SELECT
            arrivals.stock_line_id,
            sum(arrivals.quantity) FILTER (WHERE arrivals.arrives_at <= moment) AS received,
            -- On order since it was ordered; one that was entered after it came, all the time before.
            sum(arrivals.quantity) FILTER (
                WHERE
                arrivals.arrives_at > moment
                AND (arrivals.ordered_at <= moment OR arrivals.ordered_at >= arrivals.arrives_at)
            ) AS on_order
        FROM arrivals
        GROUP BY arrivals.stock_line_id
    ),

    consumptions AS (
        -- What stood then and still stands is recorded.
        SELECT
            consumption.stock_line_id,
            consumption.quantity
        FROM campaign.stock_consumption AS consumption
        INNER JOIN campaign.delivery_volume AS volume
            ON
                consumption.delivery_id = volume.delivery_id
                AND volume.valid_from <= moment
                AND volume.valid_until = 'infinity'
        WHERE volume.delivery_id <> ALL(unrecorded)
        UNION ALL
        -- What stood then and does not any more, or is not recorded yet, is computed.
        SELECT
            consumption.stock_line_id,
            consumption.quantity
        FROM
            campaign.stock_consumption_as_of(
                moment,
                array(
                    SELECT volume.delivery_id
                    FROM campaign.delivery_volume AS volume
                    WHERE
                        volume.valid_from <= moment
                        AND volume.valid_until > moment
                        AND volume.valid_until < 'infinity'
                    UNION
                    SELECT listed.delivery_id
                    FROM unnest(unrecorded) AS listed (delivery_id)
                )
            ) AS consumption
        UNION ALL
        -- Lines that another system brought along, of deliveries that never left here.
        SELECT
            consumption.stock_line_id,
            consumption.quantity
        FROM campaign.stock_consumption AS consumption
        WHERE
            consumption.consumed_at <= moment
            AND NOT EXISTS (
                SELECT 1
                FROM campaign.delivery_volume AS volume
                WHERE volume.delivery_id = consumption.delivery_id
            )
    ),

    consumed AS (
        SELECT
            consumptions.stock_line_id,
            sum(consumptions.quantity) AS consumed
        FROM consumptions
        GROUP BY consumptions.stock_line_id
    ),

    positions AS (
        SELECT
            stock_line.id,
            stock_line.initial_quantity,
            stock_line.alert_level,
            coalesce(orders.received, 0)::bigint AS received,
            coalesce(consumed.consumed, 0)::bigint AS consumed,
            coalesce(orders.on_order, 0)::bigint AS on_order
        FROM campaign.stock_line AS stock_line
        LEFT OUTER JOIN orders ON stock_line.id = orders.stock_line_id
        LEFT OUTER JOIN consumed ON stock_line.id = consumed.stock_line_id
    )

    SELECT
        positions.id,
        positions.initial_quantity,
        positions.received,
        positions.consumed,
        positions.on_order,
        positions.initial_quantity + positions.received - positions.consumed,
        positions.alert_level,
        campaign.stock_state(
            positions.initial_quantity + positions.received - positions.consumed, positions.alert_level
        )
    FROM positions;
END
$$;

CREATE OR REPLACE FUNCTION campaign.stock_state(in_stock bigint, alert_level bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN in_stock < 0 THEN 'insufficient' WHEN in_stock <= alert_level THEN 'low' ELSE 'ok' END;
