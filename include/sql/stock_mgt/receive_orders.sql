-- Receives the orders whose delivery date has come: each leaves the orders in progress and is in stock as of
-- the beginning of that day in the instance's time zone, also when this run comes late.
-- An order that somebody is changing just now is left to the next run: it must not keep the others waiting.
-- Grain: one order. Rerun: a received order is not in progress any more, so nothing is received twice.

WITH due AS (
    SELECT stock_order.id
    FROM campaign.stock_order AS stock_order
    WHERE
        NOT %(is_past)s::boolean
        -- An order belongs to no campaign.
        AND %(campaign)s::text IS NULL
        AND stock_order.received_at IS NULL
        AND stock_order.delivery_on <= campaign.stock_day(%(as_of)s::timestamptz)
        AND campaign.stock_day_start(stock_order.delivery_on) <= %(as_of)s::timestamptz
    FOR NO KEY UPDATE SKIP LOCKED
),

received AS (
    UPDATE campaign.stock_order AS stock_order
    SET received_at = campaign.stock_day_start(stock_order.delivery_on)
    FROM due
    WHERE stock_order.id = due.id
    RETURNING
        stock_order.id,
        stock_order.stock_line_id,
        stock_order.quantity,
        stock_order.delivery_on,
        stock_order.corrects_id
),

told AS (
    SELECT
        received.id,
        received.quantity,
        CASE
            WHEN received.corrects_id IS NULL
                THEN format(
                    'Order %%s of %%s for the stock line %%L (%%s) was received, due on %%s.',
                    received.id, received.quantity, stock_line.label, stock.label, received.delivery_on
                )
            ELSE format(
                'Order %%s of %%s for the stock line %%L (%%s), a correction of order %%s, counts from %%s.',
                received.id, received.quantity, stock_line.label, stock.label, received.corrects_id,
                received.delivery_on
            )
        END AS message
    FROM received
    INNER JOIN campaign.stock_line AS stock_line ON received.stock_line_id = stock_line.id
    INNER JOIN campaign.stock AS stock ON stock_line.stock_id = stock.id
),

written AS (
    INSERT INTO campaign.journal (source, run_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        told.message
    FROM told
    ORDER BY told.id
),

total AS (
    SELECT
        count(*) AS orders_received,
        coalesce(sum(told.quantity), 0)::bigint AS units_received
    FROM told
),

lines AS (
    SELECT told.message AS report
    FROM told
    ORDER BY told.id
    LIMIT 200
)

SELECT
    lines.report,
    total.orders_received,
    total.units_received
FROM total
LEFT JOIN lines ON TRUE;
