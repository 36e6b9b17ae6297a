-- Tells the person or group in charge of a stock when a line of it changed its state: once for each step
-- down (low, insufficient), once when it is above its alert level again. What was told is kept beside the
-- position, so what was told is not told again, and what was not, because a run was killed or nobody was in charge,
-- is by the next.
-- Grain: one notification per step, stock line and person. Rerun: the line is no longer untold. A run for
-- the past tells nothing.

WITH untold AS (
    SELECT
        balance.stock_line_id,
        balance.told_state AS state_before,
        balance.state,
        balance.in_stock,
        balance.initial_quantity,
        balance.received,
        balance.consumed,
        balance.on_order,
        balance.alert_level,
        balance.revision,
        stock_line.label AS line,
        stock.label AS stock,
        stock.internal_name AS stock_name,
        stock.assigned_to_id,
        stock.assigned_group_id,
        balance.unheard_state,
        balance.told_count + (balance.state <> balance.told_state)::integer AS told_count,
        CASE
            WHEN balance.state = balance.told_state THEN NULL
            WHEN balance.state = 'ok' THEN 'stock_recovery'
            WHEN balance.state = 'insufficient' OR balance.told_state = 'ok' THEN 'stock_alert'
        -- From below zero to its alert level: better, and no news.
        END AS kind
    FROM campaign.stock_balance AS balance
    INNER JOIN campaign.stock_line AS stock_line ON balance.stock_line_id = stock_line.id
    INNER JOIN campaign.stock AS stock ON stock_line.stock_id = stock.id
    WHERE (balance.state <> balance.told_state OR balance.unheard_state IS NOT NULL) AND NOT %(is_past)s::boolean
),

on_the_way AS (
    SELECT
        stock_order.stock_line_id,
        stock_order.id,
        stock_order.delivery_on,
        stock_order.quantity,
        untold.in_stock + sum(stock_order.quantity) OVER (
            PARTITION BY stock_order.stock_line_id
            ORDER BY stock_order.delivery_on
        ) > untold.alert_level AS is_above_level
    FROM untold
    INNER JOIN campaign.stock_order AS stock_order
        ON untold.stock_line_id = stock_order.stock_line_id AND stock_order.received_at IS NULL
),

orders AS (
    SELECT
        on_the_way.stock_line_id,
        jsonb_agg(
            jsonb_build_object('delivery_on', on_the_way.delivery_on, 'quantity', on_the_way.quantity)
            ORDER BY on_the_way.delivery_on, on_the_way.id
        ) AS orders,
        min(on_the_way.delivery_on) FILTER (WHERE on_the_way.is_above_level) AS above_level_on
    FROM on_the_way
    GROUP BY on_the_way.stock_line_id
),

forecast AS (
    SELECT
        expected.stock_line_id,
        expected.low_on,
        expected.empty_on,
        low_delivery.label AS low_delivery,
        empty_delivery.label AS empty_delivery
    FROM
        campaign.stock_forecast_as_of(
            %(as_of)s::timestamptz, array(SELECT untold.stock_line_id FROM untold)
        ) AS expected
    LEFT OUTER JOIN campaign.delivery AS low_delivery ON expected.delivery_id = low_delivery.id
    LEFT OUTER JOIN campaign.delivery AS empty_delivery ON expected.empty_delivery_id = empty_delivery.id
),

notices AS (
    SELECT
        untold.stock_line_id,
        untold.kind,
        untold.told_count,
        untold.revision,
        untold.unheard_state,
        untold.assigned_to_id,
        untold.assigned_group_id,
        untold.state,
        untold.state_before,
        untold.in_stock,
        untold.alert_level,
        format('%%s (%%s (%%s))', untold.line, untold.stock, untold.stock_name) AS full_name,
        jsonb_build_object(
            'as_of', %(as_of)s::timestamptz,
            'line', untold.line,
            'stock', untold.stock,
            'stock_name', untold.stock_name,
            'state', untold.state,
            'state_before', untold.state_before,
            'initial_quantity', untold.initial_quantity,
            'received', untold.received,
            'consumed', untold.consumed,
            'in_stock', untold.in_stock,
            'on_order', untold.on_order,
            'alert_level', untold.alert_level,
            'orders', coalesce(orders.orders, '[]'),
            'above_level_on', orders.above_level_on,
            'low_on', forecast.low_on,
            'low_delivery', forecast.low_delivery,
            'empty_on', forecast.empty_on,
            'empty_delivery', forecast.empty_delivery,
            'last_delivery', last_one.label,
            'last_campaign', last_one.campaign,
            'last_quantity', last_one.quantity
        ) AS facts
    FROM untold
    LEFT OUTER JOIN orders ON untold.stock_line_id = orders.stock_line_id
    LEFT OUTER JOIN forecast ON untold.stock_line_id = forecast.stock_line_id
    LEFT OUTER JOIN LATERAL (
        SELECT
            delivery.label,
            campaign.label AS campaign,
            consumption.quantity
        FROM campaign.stock_consumption AS consumption
        INNER JOIN campaign.delivery AS delivery ON consumption.delivery_id = delivery.id
        INNER JOIN campaign.campaign AS campaign ON consumption.campaign_id = campaign.id
        WHERE consumption.stock_line_id = untold.stock_line_id AND consumption.quantity > 0
        ORDER BY consumption.consumed_at DESC, consumption.id DESC
        LIMIT 1
    ) AS last_one ON TRUE
),

in_charge AS (
    SELECT
        notices.stock_line_id,
        staff.id AS staff_id,
        staff.email
    FROM notices
    INNER JOIN campaign.staff AS staff
        ON
            staff.active
            AND (
                notices.assigned_to_id = staff.id
                OR EXISTS (
                    SELECT 1
                    FROM campaign.staff_group_member AS member
                    WHERE member.staff_group_id = notices.assigned_group_id AND member.staff_id = staff.id
                )
            )
    WHERE notices.kind IS NOT NULL
),

judged AS (
    SELECT
        notices.*,
        notices.kind IS NULL
        OR notices.stock_line_id IN (SELECT in_charge.stock_line_id FROM in_charge) AS is_heard
    FROM notices
),

-- That nobody hears of a state is said once.
news AS (
    SELECT judged.*
    FROM judged
    WHERE
        judged.state <> judged.state_before
        AND (judged.is_heard OR judged.unheard_state IS DISTINCT FROM judged.state)
),

-- What nobody heard is told as soon as somebody is in charge.
told AS (
    UPDATE campaign.stock_balance AS balance
    SET
        told_state = CASE WHEN judged.is_heard THEN judged.state ELSE balance.told_state END,
        told_count = CASE WHEN judged.is_heard THEN judged.told_count ELSE balance.told_count END,
        unheard_state = CASE WHEN NOT judged.is_heard THEN nullif(judged.state, 'ok') END
    FROM judged
    WHERE balance.stock_line_id = judged.stock_line_id
),

notified AS (
    INSERT INTO campaign.notification (kind, dedupe_key, source, staff_id, recipient_email, facts)
    SELECT
        notices.kind,
        -- The revision rises also where somebody removed the position, and with it the count.
        concat_ws(
            ':', 'stock', notices.stock_line_id, notices.revision, notices.told_count, in_charge.staff_id
        ) AS dedupe_key,
        %(dag_id)s::text,
        in_charge.staff_id,
        in_charge.email,
        notices.facts
    FROM notices
    INNER JOIN in_charge ON notices.stock_line_id = in_charge.stock_line_id
    ORDER BY notices.full_name, in_charge.staff_id
    ON CONFLICT (dedupe_key) DO NOTHING
    RETURNING 1
),

journaled AS (
    INSERT INTO campaign.journal (level, source, run_id, message)
    SELECT
        CASE WHEN news.kind = 'stock_alert' THEN 'warning' ELSE 'info' END AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        format(
            'Stock status ''%%s'' %%s ''%%s'': it was %%s, its alert level is %%s.%%s',
            news.full_name, news.state, news.in_stock, news.state_before, news.alert_level,
            CASE
                WHEN NOT news.is_heard
                    THEN
                        ' Nobody active is in charge of this stock, so nobody was told: '
                        'set its assigned_to_id or assigned_group_id.'
            END
        ) AS message
    FROM news
    ORDER BY news.full_name
),

total AS (
    SELECT
        count(*) AS states_changed,
        count(*) FILTER (WHERE news.kind = 'stock_alert') AS alerts,
        count(*) FILTER (WHERE news.kind = 'stock_recovery') AS recoveries
    FROM news
),

lines AS (
    SELECT format('%%s: %%s, was %%s', news.full_name, news.state, news.state_before) AS report
    FROM news
    ORDER BY news.full_name
    LIMIT 200
)

SELECT
    lines.report,
    total.states_changed,
    total.alerts,
    total.recoveries,
    (SELECT count(*) FROM notified) AS notifications_written
FROM total
LEFT JOIN lines ON TRUE;
