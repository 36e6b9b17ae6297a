-- Writes the position of the day of the run into the history of the stock lines: the day as of the latest
-- moment of it that any run had, whatever came first. A run for the past computes its day from the ledger and
-- leaves the current lines alone; a run limited to a campaign leaves the history to the others.
-- Grain: one row per day and stock line. Rerun: a row that says so already is not written.

WITH run_day AS (
    SELECT
        this.as_of,
        greatest(%(as_of)s::timestamptz, recorded.recorded_as_of) AS moment,
        coalesce(recorded.revision, 0) AS revision
    FROM (SELECT campaign.stock_day(%(as_of)s::timestamptz) AS as_of) AS this
    LEFT OUTER JOIN campaign.stock_history_day AS recorded ON this.as_of = recorded.as_of
),

positions AS (
    -- What changed since the day was last written: at its first run, all.
    SELECT
        run_day.as_of,
        balance.stock_line_id,
        balance.initial_quantity,
        balance.received,
        balance.consumed,
        balance.on_order,
        balance.in_stock,
        balance.alert_level,
        balance.state
    FROM run_day
    INNER JOIN campaign.stock_balance AS balance
        ON balance.revision > CASE WHEN %(full)s::boolean THEN 0 ELSE run_day.revision END
    WHERE NOT %(is_past)s::boolean AND %(campaign)s::text IS NULL
    UNION ALL
    SELECT
        run_day.as_of,
        earlier.stock_line_id,
        earlier.initial_quantity,
        earlier.received,
        earlier.consumed,
        earlier.on_order,
        earlier.in_stock,
        earlier.alert_level,
        earlier.state
    FROM run_day
    CROSS JOIN LATERAL campaign.stock_position_as_of(run_day.moment) AS earlier
    WHERE %(is_past)s::boolean AND %(campaign)s::text IS NULL
),

changed AS (
    SELECT
        positions.as_of,
        positions.stock_line_id,
        positions.initial_quantity,
        positions.received,
        positions.consumed,
        positions.on_order,
        positions.in_stock,
        positions.alert_level,
        positions.state
    FROM positions
    -- One look-up per position: a few lines changed, and the history is long.
    LEFT JOIN LATERAL (
        SELECT written.*
        FROM campaign.stock_history AS written
        WHERE written.as_of = positions.as_of AND written.stock_line_id = positions.stock_line_id
        ORDER BY written.stock_line_id
        LIMIT 1
    ) AS history ON TRUE
    WHERE
        history.as_of IS NULL
        OR (
            history.initial_quantity,
            history.received,
            history.consumed,
            history.on_order,
            history.alert_level
        ) IS DISTINCT FROM (
            positions.initial_quantity, positions.received, positions.consumed, positions.on_order,
            positions.alert_level
        )
),

recorded AS (
    INSERT INTO campaign.stock_history AS history (
        as_of, stock_line_id, initial_quantity, received, consumed, on_order, in_stock, alert_level, state
    )
    SELECT
        changed.as_of,
        changed.stock_line_id,
        changed.initial_quantity,
        changed.received,
        changed.consumed,
        changed.on_order,
        changed.in_stock,
        changed.alert_level,
        changed.state
    FROM changed
    ON CONFLICT ON CONSTRAINT "a day has one position per stock_line" DO UPDATE
        SET
            initial_quantity = excluded.initial_quantity,
            received = excluded.received,
            consumed = excluded.consumed,
            on_order = excluded.on_order,
            in_stock = excluded.in_stock,
            alert_level = excluded.alert_level,
            state = excluded.state
),

marked AS (
    INSERT INTO campaign.stock_history_day AS day (as_of, recorded_as_of, revision)
    SELECT
        run_day.as_of,
        run_day.moment,
        CASE
            WHEN %(is_past)s::boolean THEN run_day.revision
            ELSE
                greatest(
                    run_day.revision,
                    (SELECT max(balance.revision) FROM campaign.stock_balance AS balance)
                )
        END AS revision
    FROM run_day
    WHERE
        %(campaign)s::text IS NULL
        AND EXISTS (
            SELECT 1
            FROM campaign.stock_line
        )
    ON CONFLICT (as_of) DO UPDATE
        SET recorded_as_of = excluded.recorded_as_of, revision = excluded.revision
        WHERE (day.recorded_as_of, day.revision) IS DISTINCT FROM (excluded.recorded_as_of, excluded.revision)
)

SELECT count(*) AS history_rows_written
FROM changed;
