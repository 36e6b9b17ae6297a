-- Computes the position of each stock line whose ledger changed, as the sum of its orders and consumptions,
-- and proves all others: a position that is not the sum of its ledger, though nobody noted a change, is an
-- error in the journal, and put right.
-- Proven is each line in each run, against the sum that was made of its ledger's rows when they last changed
-- (stock_balance.ledger); a ledger cannot change unnoted, for its triggers fire in every session. Where they do
-- not count, because somebody switched them off or the ledger is small, in the first run of a day and with
-- `full`, every line is proven against the rows themselves.
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
    RETURNING queue.stock_line_id, queue.is_noted
),

proof AS (
    SELECT
        campaign.stock_day(%(as_of)s::timestamptz) AS proven_on,
        campaign.stock_ledger_watch() AS watch,
        (
            SELECT ledger.reltuples < 5000
            FROM pg_catalog.pg_class AS ledger
            WHERE ledger.oid = 'campaign.stock_consumption'::regclass
        ) AS is_small
),

whole AS (
    -- Whether every line is proven against its rows.
    SELECT
        %(full)s::boolean
        OR proof.is_small
        OR NOT EXISTS (
            SELECT 1
            FROM campaign.stock_proof AS proven
            WHERE proven.proven_on = proof.proven_on AND proven.watch = proof.watch
        ) AS is_due
    FROM proof
),

due AS (
    SELECT
        candidate.stock_line_id,
        bool_and(candidate.is_noted) AS is_noted
    FROM (
        SELECT
            taken.stock_line_id,
            taken.is_noted
        FROM taken
        UNION ALL
        SELECT
            balance.stock_line_id,
            FALSE AS is_noted
        FROM campaign.stock_balance AS balance
        WHERE
            balance.ledger IS DISTINCT FROM ARRAY[balance.initial_quantity, balance.received, balance.consumed]
            AND NOT %(is_past)s::boolean
            AND (
                %(campaign)s::text IS NULL
                OR balance.stock_line_id IN (SELECT campaign_line.stock_line_id FROM campaign_line)
            )
        UNION ALL
        SELECT
            campaign_line.stock_line_id,
            NULL AS is_noted
        FROM campaign_line
        CROSS JOIN whole
        WHERE whole.is_due AND NOT %(is_past)s::boolean
    ) AS candidate
    GROUP BY candidate.stock_line_id
),

changed AS (
    SELECT
        difference.*,
        stock_line.label,
        stock_line.stock_id,
        difference.initial_quantity + difference.received - difference.consumed AS in_stock,
        -- What stood there was not the sum of the ledger as it is; or, if that changed as it may, as it was.
        difference.position_before
        <> CASE WHEN due.is_noted THEN difference.ledger_before ELSE difference.ledger END AS is_difference
    FROM
        campaign.stock_position_differences(
            %(as_of)s::timestamptz,
            CASE
                WHEN
                    %(is_past)s::boolean
                    OR %(campaign)s::text IS NOT NULL
                    OR NOT (SELECT whole.is_due FROM whole)
                    THEN array(SELECT listed.stock_line_id FROM due AS listed)
            END
        ) AS difference
    INNER JOIN campaign.stock_line AS stock_line ON difference.stock_line_id = stock_line.id
    LEFT OUTER JOIN due ON difference.stock_line_id = due.stock_line_id
),

written AS (
    INSERT INTO campaign.stock_balance AS balance
    (stock_line_id, initial_quantity, received, consumed, on_order, alert_level, ledger)
    SELECT
        changed.stock_line_id,
        changed.initial_quantity,
        changed.received,
        changed.consumed,
        changed.on_order,
        changed.alert_level,
        changed.ledger
    FROM changed
    ON CONFLICT (stock_line_id) DO UPDATE
        SET
            initial_quantity = excluded.initial_quantity,
            received = excluded.received,
            consumed = excluded.consumed,
            on_order = excluded.on_order,
            alert_level = excluded.alert_level,
            ledger = excluded.ledger,
            revision = excluded.revision
),

proven AS (
    INSERT INTO campaign.stock_proof AS proven (proven_on, watch)
    SELECT
        proof.proven_on,
        proof.watch
    FROM proof
    CROSS JOIN whole
    WHERE
        whole.is_due
        AND %(campaign)s::text IS NULL
        AND NOT %(is_past)s::boolean
        AND EXISTS (
            SELECT 1
            FROM campaign.stock_line
        )
    ON CONFLICT (is_only) DO UPDATE
        SET proven_on = excluded.proven_on, watch = excluded.watch
        WHERE (proven.proven_on, proven.watch) <> (excluded.proven_on, excluded.watch)
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
