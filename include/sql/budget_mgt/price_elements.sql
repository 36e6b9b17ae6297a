-- Price the elements that are to be split: one item per cost type that counts for them, and one per surcharge.
--
-- Fills the work tables tariff (the cost structures as they are now) and new_item. An item whose amount is null
-- cannot be calculated; when it has an explanation nevertheless, it is too much. Rerun: reads only.

-- Of a structure, the upper bounds of its bands, and for each band (one, where it has none): a count n in it costs
-- base + unit * (n - above), and before, n - above, and after say so.
CREATE TEMPORARY TABLE tariff ON COMMIT DROP AS
WITH structure AS (
    SELECT
        cost_structure.id,
        cost_structure.cost_type_id,
        CASE cost_structure.basis WHEN 'per_message' THEN cost_structure.method ELSE cost_structure.basis END AS method,
        coalesce(
            cost_structure.method IN ('linear_by_threshold', 'constant_by_threshold', 'graduated'), FALSE
        ) AS is_banded,
        cost_structure.amount,
        cost_structure.batch_size,
        cost_structure.whole_batches,
        cost_structure.beyond_amount
    FROM campaign.cost_structure AS cost_structure
),

band AS (
    SELECT
        structure.id,
        structure.method,
        threshold.up_to,
        coalesce(
            lag(threshold.up_to) OVER (PARTITION BY structure.id ORDER BY threshold.up_to ASC NULLS LAST), 0
        ) AS above,
        CASE
            WHEN NOT structure.is_banded THEN structure.amount
            WHEN threshold.up_to IS NULL THEN structure.beyond_amount
            ELSE threshold.amount
        END AS amount,
        CASE
            WHEN structure.method = 'constant_by_threshold' THEN ' messages for '
            WHEN structure.method = 'per_day' THEN ' days × '
            WHEN structure.method = 'linear' AND structure.batch_size > 1 AND NOT structure.whole_batches
                THEN format(' / %%s × ', structure.batch_size)
            ELSE ' × '
        END AS sign
    FROM structure
    LEFT JOIN LATERAL (
        SELECT
            cost_threshold.up_to,
            cost_threshold.amount
        FROM campaign.cost_threshold AS cost_threshold
        WHERE cost_threshold.cost_structure_id = structure.id AND structure.is_banded
        UNION ALL
        SELECT
            NULL AS up_to,
            NULL AS amount
    ) AS threshold ON TRUE
),

summed AS (
    SELECT
        band.*,
        campaign.plain_amount(band.amount) AS plain_amount,
        sum((band.up_to - band.above) * band.amount) OVER below AS amount_below,
        string_agg(
            format('%%s × %%s + ', band.up_to - band.above, campaign.plain_amount(band.amount)), ''
        ) OVER below AS words_below
    FROM band
    WINDOW below AS (
        PARTITION BY band.id
        ORDER BY band.up_to ASC NULLS LAST
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),

bands AS (
    SELECT
        summed.id,
        coalesce(array_agg(summed.up_to ORDER BY summed.up_to) FILTER (WHERE summed.up_to IS NOT NULL), '{}') AS up_to,
        array_agg(
            CASE summed.method
                WHEN 'fixed' THEN summed.amount
                WHEN 'constant_by_threshold' THEN summed.amount
                WHEN 'graduated' THEN coalesce(summed.amount_below, 0)
            END
            ORDER BY summed.up_to
        ) AS bases,
        array_agg(summed.amount ORDER BY summed.up_to) AS units,
        array_agg(CASE summed.method WHEN 'graduated' THEN summed.above ELSE 0 END ORDER BY summed.up_to) AS floors,
        array_agg(
            CASE
                WHEN summed.method = 'fixed' THEN 'fixed ' || summed.plain_amount || ' = '
                WHEN summed.method IN ('linear_by_threshold', 'constant_by_threshold', 'graduated')
                    THEN concat(
                        'band ', summed.above + 1, coalesce(' to ' || summed.up_to, ' and more'), ': ',
                        CASE summed.method WHEN 'graduated' THEN summed.words_below END
                    )
                ELSE ''
            END
            ORDER BY summed.up_to
        ) AS openings,
        array_agg(summed.sign || summed.plain_amount || ' = ' ORDER BY summed.up_to) AS closings
    FROM summed
    GROUP BY summed.id
)

SELECT
    structure.cost_type_id,
    structure.id AS cost_structure_id,
    structure.method,
    structure.batch_size,
    structure.whole_batches,
    bands.up_to,
    bands.bases,
    bands.units,
    bands.floors,
    bands.openings,
    bands.closings
FROM structure
INNER JOIN bands ON structure.id = bands.id;

ANALYZE tariff (cost_type_id);

CREATE TEMPORARY TABLE new_item ON COMMIT DROP AS
-- The services that select cost types by default.
WITH offering AS (
    SELECT category.service_id
    FROM campaign.cost_category AS category
    INNER JOIN campaign.cost_type AS cost_type ON category.id = cost_type.cost_category_id
    WHERE cost_type.selected_by_default
),

selection AS (
    SELECT
        element.line_id,
        element.is_new,
        element.decimals,
        element.message_count,
        element.day_count,
        selected.cost_type_id,
        selected.surcharge,
        selected.expense_category_id
    FROM element
    -- OFFSET 0: found by index for each delivery, however many there are: a chunk reads its own, not all.
    CROSS JOIN
        LATERAL (
            SELECT
                chosen.cost_type_id,
                chosen.surcharge,
                chosen.expense_category_id
            FROM campaign.delivery_cost AS chosen
            WHERE chosen.delivery_id = element.id
            OFFSET 0  -- noqa: AM09
        ) AS selected
    WHERE element.kind = 'delivery' AND element.is_split AND NOT element.keeps_split
    UNION ALL
    SELECT
        element.line_id,
        element.is_new,
        element.decimals,
        element.message_count,
        element.day_count,
        selected.cost_type_id,
        selected.surcharge,
        selected.expense_category_id
    FROM element
    CROSS JOIN
        LATERAL (
            SELECT
                chosen.cost_type_id,
                chosen.surcharge,
                chosen.expense_category_id
            FROM campaign.delivery_selected_cost AS chosen
            WHERE chosen.delivery_id = element.id AND chosen.is_default
            OFFSET 0  -- noqa: AM09
        ) AS selected
    WHERE
        element.service_id IN (SELECT offering.service_id FROM offering)
        AND element.kind = 'delivery' AND element.is_split AND NOT element.keeps_split
    UNION ALL
    SELECT
        element.line_id,
        element.is_new,
        element.decimals,
        element.message_count,
        element.day_count,
        selected.cost_type_id,
        selected.surcharge,
        selected.expense_category_id
    FROM element
    INNER JOIN campaign.task_selected_cost AS selected ON element.id = selected.task_id
    WHERE element.kind = 'task' AND element.is_split AND NOT element.keeps_split
),

-- OFFSET 0: what stands here is computed once for each item, though it is used several times below.
placed AS (
    SELECT
        selection.line_id,
        selection.is_new,
        selection.decimals,
        selection.message_count,
        selection.day_count,
        selection.cost_type_id,
        selection.surcharge,
        selection.expense_category_id,
        tariff.cost_structure_id,
        tariff.method,
        tariff.batch_size,
        tariff.whole_batches,
        tariff.bases,
        tariff.units,
        tariff.floors,
        tariff.openings,
        tariff.closings,
        -- The upper bound belongs to its band: 100 messages are in 'up to 100'.
        width_bucket(selection.message_count - 1, tariff.up_to) + 1 AS band
    FROM selection
    LEFT JOIN tariff ON selection.cost_type_id = tariff.cost_type_id
    OFFSET 0  -- noqa: AM09
),

priced AS (
    SELECT
        placed.line_id,
        placed.is_new,
        placed.decimals,
        placed.message_count,
        placed.day_count,
        placed.cost_type_id,
        placed.surcharge,
        placed.expense_category_id,
        placed.cost_structure_id,
        placed.method,
        placed.batch_size,
        placed.whole_batches,
        placed.message_count - placed.floors[placed.band] AS count_above,
        placed.openings[placed.band] AS before,
        placed.closings[placed.band] AS after,
        CASE
            WHEN placed.method = 'fixed' THEN placed.bases[1]
            WHEN placed.method = 'per_day' THEN placed.units[1] * placed.day_count
            WHEN placed.message_count = 0 AND placed.method IS NOT NULL THEN 0.00
            WHEN placed.method = 'linear' AND placed.whole_batches
                THEN placed.units[1] * div(placed.message_count + placed.batch_size - 1, placed.batch_size)
            -- Twenty decimals, so that the rounding to cents is that of the exact quotient.
            WHEN placed.method = 'linear' AND placed.batch_size > 1
                THEN round(placed.units[1] * placed.message_count, 20) / placed.batch_size
            WHEN placed.method = 'linear' THEN placed.units[1] * placed.message_count
            WHEN placed.method = 'linear_by_threshold' THEN placed.units[placed.band] * placed.message_count
            WHEN placed.method = 'constant_by_threshold' THEN placed.bases[placed.band]
            WHEN placed.method = 'graduated'
                THEN
                    placed.bases[placed.band]
                    + placed.units[placed.band] * (placed.message_count - placed.floors[placed.band])
        END AS exact
    FROM placed
    OFFSET 0  -- noqa: AM09
),

rounded AS (
    SELECT
        priced.*,
        round(priced.exact, 10) AS shown,
        -- More is taken for a mistake, before it is too much for the totals.
        CASE WHEN priced.exact < 1e13 THEN round(priced.exact, priced.decimals) END AS amount
    FROM priced
    OFFSET 0  -- noqa: AM09
)

-- First what every later statement reads, in columns of fixed width: it then need not step over the words.
SELECT
    rounded.line_id,
    rounded.is_new,
    rounded.decimals,
    rounded.cost_type_id,
    rounded.cost_structure_id,
    rounded.expense_category_id,
    rounded.amount,
    rounded.surcharge,
    'calculated' AS kind,
    CASE rounded.method
        WHEN 'fixed' THEN 1
        WHEN 'per_day' THEN rounded.day_count
        ELSE rounded.message_count
    END AS quantity,
    CASE
        WHEN rounded.method = 'fixed' THEN rounded.before
        WHEN rounded.method = 'per_day' THEN trim_scale(rounded.day_count) || rounded.after
        WHEN rounded.message_count = 0 THEN 'no messages = '
        WHEN rounded.whole_batches AND rounded.method = 'linear'
            THEN concat(
                div(rounded.message_count + rounded.batch_size - 1, rounded.batch_size), ' started batches of ',
                rounded.batch_size, ' (', rounded.message_count, ')', rounded.after
            )
        ELSE rounded.before || rounded.count_above || rounded.after
    END
    || CASE
        WHEN rounded.amount = rounded.exact THEN rounded.amount::text
        ELSE concat(campaign.plain_amount(rounded.shown), ', rounded ' || rounded.amount)
    END AS explanation
FROM rounded;

INSERT INTO new_item (
    line_id, is_new, cost_type_id, cost_structure_id, kind, quantity, amount, explanation, expense_category_id
)
SELECT
    new_item.line_id,
    new_item.is_new,
    new_item.cost_type_id,
    new_item.cost_structure_id,
    'surcharge' AS kind,
    1 AS quantity,
    round(new_item.surcharge, new_item.decimals) AS amount,
    CASE
        WHEN round(new_item.surcharge, new_item.decimals) = new_item.surcharge
            THEN 'surcharge ' || round(new_item.surcharge, new_item.decimals)
        ELSE format(
            'surcharge %%s, rounded %%s', new_item.surcharge, round(new_item.surcharge, new_item.decimals)
        )
    END AS explanation,
    new_item.expense_category_id
FROM new_item
WHERE new_item.surcharge <> 0 AND new_item.kind = 'calculated';
