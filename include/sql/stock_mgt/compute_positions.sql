-- Computes the position of each stock line whose ledger changed, as the sum of its orders and consumptions,
-- and proves the others: a position that is not the sum of its ledger, though nobody noted a change, is an
-- error in the journal, and put right. The first run of a day proves every line, and so does `full`; of a ledger
-- of more than 5,000 lines the other runs of the day prove a share of about that size each, in turn.
-- Grain: one row per stock line. Rerun: a position that is the sum already is not written.

WITH campaign_line AS (
    SELECT DISTINCT consumption.stock_line_id
    FROM campaign.stock_consumption AS consumption
    INNER JOIN campaign.campaign AS campaign ON consumption.campaign_id = campaign.id
    WHERE campaign.internal_name = %(campaign)s::text
),

taken AS (
    DELETE FROM campaign.stock_line_queue AS queue
    WHERE
        NOT %(is_past)s::boolean
        AND queue.due_at <= %(as_of)s::timestamptz
        AND (
            %(campaign)s::text IS NULL
            OR queue.stock_line_id IN (SELECT campaign_line.stock_line_id FROM campaign_line)
        )
    RETURNING queue.stock_line_id
),

last_line AS (
    SELECT max(stock_line.id) AS id
    FROM campaign.stock_line AS stock_line
),

shares AS (
    SELECT
        last_line.id AS last_id,
        CASE
            WHEN %(full)s::boolean OR recorded.as_of IS NULL THEN 1
            ELSE greatest(1, ceil(ledger.reltuples / 5000))::bigint
        END AS count
    FROM pg_catalog.pg_class AS ledger
    CROSS JOIN last_line
    LEFT JOIN campaign.stock_history_day AS recorded
        ON recorded.as_of = campaign.stock_day(%(as_of)s::timestamptz)
    WHERE ledger.oid = 'campaign.stock_consumption'::regclass
),

turn AS (
    SELECT
        shares.last_id,
        shares.count,
        floor(extract(EPOCH FROM %(as_of)s::timestamptz) / 3600)::bigint %% shares.count AS number
    FROM shares
),

-- The share of this hour: the stock lines in a range of ids.
share AS (
    SELECT
        turn.last_id * turn.number / turn.count AS after_id,
        turn.last_id * (turn.number + 1) / turn.count AS up_to_id
    FROM turn
),

due AS (
    SELECT
        candidate.stock_line_id,
        bool_or(candidate.is_changed) AS is_changed
    FROM (
        SELECT
            taken.stock_line_id,
            TRUE AS is_changed
        FROM taken
        UNION ALL
        SELECT
            stock_line.id AS stock_line_id,
            FALSE AS is_changed
        FROM campaign.stock_line AS stock_line
        INNER JOIN share ON stock_line.id > share.after_id AND stock_line.id <= share.up_to_id
        WHERE NOT %(is_past)s::boolean AND %(campaign)s::text IS NULL
        UNION ALL
        SELECT
            campaign_line.stock_line_id,
            FALSE AS is_changed
        FROM campaign_line
        WHERE %(full)s::boolean AND NOT %(is_past)s::boolean
    ) AS candidate
    GROUP BY candidate.stock_line_id
),

computed AS (
    SELECT
        stock_line.id,
        stock_line.stock_id,
        stock_line.label,
        stock_line.initial_quantity,
        stock_line.alert_level,
        due.is_changed,
        coalesce(received.quantity, 0)::bigint AS received,
        coalesce(on_order.quantity, 0)::bigint AS on_order,
        coalesce(consumed.quantity, 0)::bigint AS consumed
    FROM due
    INNER JOIN campaign.stock_line AS stock_line ON due.stock_line_id = stock_line.id
    LEFT JOIN LATERAL (
        SELECT sum(stock_order.quantity) AS quantity
        FROM campaign.stock_order AS stock_order
        WHERE stock_order.stock_line_id = stock_line.id AND stock_order.received_at IS NOT NULL
    ) AS received ON TRUE
    LEFT JOIN LATERAL (
        SELECT sum(stock_order.quantity) AS quantity
        FROM campaign.stock_order AS stock_order
        WHERE
            stock_order.stock_line_id = stock_line.id
            AND stock_order.received_at IS NULL
            -- On order since it was ordered; one that was entered after its day, all the time before.
            AND (
                stock_order.ordered_at <= %(as_of)s::timestamptz
                OR stock_order.ordered_at >= campaign.stock_day_start(stock_order.delivery_on)
            )
    ) AS on_order ON TRUE
    LEFT OUTER JOIN LATERAL (
        SELECT sum(consumption.quantity) AS quantity
        FROM campaign.stock_consumption AS consumption
        WHERE consumption.stock_line_id = stock_line.id
    ) AS consumed ON TRUE
),

changed AS (
    SELECT
        computed.id AS stock_line_id,
        computed.stock_id,
        computed.label,
        computed.initial_quantity,
        computed.received,
        computed.consumed,
        computed.on_order,
        computed.alert_level,
        computed.is_changed,
        balance.in_stock AS in_stock_before,
        balance.state AS state_before,
        NOT computed.is_changed AND (balance.initial_quantity, balance.received, balance.consumed)
        <> (computed.initial_quantity, computed.received, computed.consumed) AS is_difference,
        computed.initial_quantity + computed.received - computed.consumed AS in_stock
    FROM computed
    LEFT OUTER JOIN campaign.stock_balance AS balance ON computed.id = balance.stock_line_id
    WHERE
        balance.stock_line_id IS NULL
        OR (
            balance.initial_quantity,
            balance.received,
            balance.consumed,
            balance.on_order,
            balance.alert_level
        ) IS DISTINCT FROM (
            computed.initial_quantity, computed.received, computed.consumed, computed.on_order,
            computed.alert_level
        )
),

written AS (
    INSERT INTO campaign.stock_balance AS balance
    (stock_line_id, initial_quantity, received, consumed, on_order, alert_level)
    SELECT
        changed.stock_line_id,
        changed.initial_quantity,
        changed.received,
        changed.consumed,
        changed.on_order,
        changed.alert_level
    FROM changed
    ON CONFLICT (stock_line_id) DO UPDATE
        SET
            initial_quantity = excluded.initial_quantity,
            received = excluded.received,
            consumed = excluded.consumed,
            on_order = excluded.on_order,
            alert_level = excluded.alert_level,
            revision = excluded.revision
),

-- What is worth a sentence: every difference, and the first of the others.
listed AS (
    SELECT changed.*
    FROM changed
    WHERE changed.is_difference
    UNION ALL
    (
        SELECT changed.*
        FROM changed
        WHERE changed.is_difference IS NOT TRUE
        ORDER BY changed.stock_line_id
        LIMIT 200
    )
),

named AS (
    SELECT
        listed.stock_line_id,
        listed.in_stock_before,
        listed.in_stock,
        listed.state_before,
        listed.on_order,
        listed.is_difference,
        campaign.stock_state(listed.in_stock, listed.alert_level) AS state,
        format('%%s (%%s (%%s))', listed.label, stock.label, stock.internal_name) AS line
    FROM listed
    INNER JOIN campaign.stock AS stock ON listed.stock_id = stock.id
),

differences AS (
    INSERT INTO campaign.journal (level, source, run_id, message)
    SELECT
        'error' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        format(
            'The position of the stock line %%s was %%s, the sum of its ledger is %%s: it was put right. '
            'Somebody wrote the ledger or the position past the triggers.',
            named.line, named.in_stock_before, named.in_stock
        ) AS message
    FROM named
    WHERE named.is_difference
    ORDER BY named.line
    RETURNING 1
),

total AS (
    SELECT count(*) AS positions_changed
    FROM changed
),

lines AS (
    SELECT
        format(
            '%%s: in stock %%s, was %%s; %%s, was %%s; %%s on order',
            named.line, named.in_stock, coalesce(named.in_stock_before::text, 'unknown'), named.state,
            coalesce(named.state_before, 'unknown'), named.on_order
        ) AS report
    FROM named
    ORDER BY named.line
    LIMIT 200
)

SELECT
    lines.report,
    total.positions_changed,
    (SELECT count(*) FROM differences) AS positions_not_balanced
FROM total
LEFT JOIN lines ON TRUE;
