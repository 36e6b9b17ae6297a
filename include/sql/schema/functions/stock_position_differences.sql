-- The stock lines whose position is not what the rows of their ledger sum up to: what they sum up to, beside what
-- stands there.
-- Grain: one row per such stock line.
--
-- lines: only these; NULL for all. The plan is made for the list at hand: a hundred lines are found by index; all
-- are summed by reading the ledger once, by several workers where there are some.
CREATE OR REPLACE FUNCTION campaign.stock_position_differences(
    moment timestamptz, lines bigint[] DEFAULT NULL
) RETURNS TABLE (
    stock_line_id bigint,
    initial_quantity bigint,
    received bigint,
    consumed bigint,
    on_order bigint,
    alert_level bigint,
    ledger bigint[],
    position_before bigint[],
    ledger_before bigint[],
    in_stock_before bigint,
    state_before text
)
LANGUAGE plpgsql STABLE ROWS 100
SET plan_cache_mode = 'force_custom_plan' AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH received AS (
        SELECT
            stock_order.stock_line_id,
            sum(stock_order.quantity)::bigint AS quantity
        FROM campaign.stock_order AS stock_order
        WHERE stock_order.received_at IS NOT NULL AND (lines IS NULL OR stock_order.stock_line_id = ANY(lines))
        GROUP BY stock_order.stock_line_id
    ),

    on_order AS (
        SELECT
            stock_order.stock_line_id,
            sum(stock_order.quantity)::bigint AS quantity
        FROM campaign.stock_order AS stock_order
        WHERE
            stock_order.received_at IS NULL
            AND (lines IS NULL OR stock_order.stock_line_id = ANY(lines))
            -- On order since it was ordered; one that was entered after its day, all the time before.
            AND (
                stock_order.ordered_at <= moment
                OR stock_order.ordered_at >= campaign.stock_day_start(stock_order.delivery_on)
            )
        GROUP BY stock_order.stock_line_id
    ),

    consumed AS (
        SELECT
            consumption.stock_line_id,
            sum(consumption.quantity)::bigint AS quantity
        FROM campaign.stock_consumption AS consumption
        WHERE lines IS NULL OR consumption.stock_line_id = ANY(lines)
        GROUP BY consumption.stock_line_id
    ),

    summed AS (
        SELECT
            stock_line.id,
            stock_line.initial_quantity,
            stock_line.alert_level,
            coalesce(received.quantity, 0) AS received,
            coalesce(consumed.quantity, 0) AS consumed,
            coalesce(on_order.quantity, 0) AS on_order
        FROM campaign.stock_line AS stock_line
        LEFT OUTER JOIN received ON stock_line.id = received.stock_line_id
        LEFT OUTER JOIN on_order ON stock_line.id = on_order.stock_line_id
        LEFT OUTER JOIN consumed ON stock_line.id = consumed.stock_line_id
        WHERE lines IS NULL OR stock_line.id = ANY(lines)
    )

    SELECT
        summed.id,
        summed.initial_quantity,
        summed.received,
        summed.consumed,
        summed.on_order,
        summed.alert_level,
        ARRAY[summed.initial_quantity, summed.received, summed.consumed],
        -- A line without a position shows its initial quantity.
        ARRAY[
            coalesce(balance.initial_quantity, summed.initial_quantity),
            coalesce(balance.received, 0),
            coalesce(balance.consumed, 0)
        ],
        balance.ledger,
        balance.in_stock,
        balance.state
    FROM summed
    LEFT OUTER JOIN campaign.stock_balance AS balance ON summed.id = balance.stock_line_id
    WHERE
        balance.stock_line_id IS NULL
        OR (balance.initial_quantity, balance.received, balance.consumed, balance.on_order, balance.alert_level)
        IS DISTINCT FROM
        (summed.initial_quantity, summed.received, summed.consumed, summed.on_order, summed.alert_level)
        OR balance.ledger IS DISTINCT FROM ARRAY[summed.initial_quantity, summed.received, summed.consumed];
END
$$;
