-- Work out what each budget is to be charged: per element and expense category an amount, at the element's level.
--
-- Fills the work table charge: what the changed deliveries, tasks and campaigns are to be charged. An element whose
-- invoice is paid is charged what was paid, spread over its categories as its cost was. Rerun: reads only.
CREATE TEMPORARY TABLE charge ON COMMIT DROP AS
WITH breakdown AS (
    SELECT
        'delivery' AS element_kind,
        given.delivery_id AS element_id,
        given.kind,
        given.expense_category_id,
        given.amount
    FROM campaign.cost_breakdown AS given
    WHERE given.delivery_id IS NOT NULL
    UNION ALL
    SELECT
        'task' AS element_kind,
        given.task_id AS element_id,
        given.kind,
        given.expense_category_id,
        given.amount
    FROM campaign.cost_breakdown AS given
    WHERE given.task_id IS NOT NULL
),

entered AS (
    SELECT
        costed.line_id,
        NULL::bigint AS expense_category_id,
        coalesce(costed.real, costed.cost_total) AS amount
    FROM costed
    WHERE costed.is_charged AND (costed.real IS NOT NULL OR NOT costed.is_split)
    UNION ALL
    -- What its breakdown gives to categories is taken from what has none.
    SELECT
        costed.line_id,
        side.expense_category_id,
        side.amount
    FROM costed
    INNER JOIN breakdown
        ON
            costed.kind = breakdown.element_kind AND costed.id = breakdown.element_id
            AND breakdown.kind = CASE WHEN costed.real IS NOT NULL THEN 'real' ELSE 'provisional' END
    CROSS JOIN
        LATERAL (
            VALUES (breakdown.expense_category_id, breakdown.amount), (NULL, -breakdown.amount)
        ) AS side (expense_category_id, amount)
    WHERE costed.is_charged AND (costed.real IS NOT NULL OR NOT (costed.is_split OR costed.is_canceled))
),

own AS (
    SELECT
        costed.id,
        NULL::bigint AS expense_category_id,
        costed.calculated_cost - costed.below AS amount
    FROM campaign_costed AS costed
    WHERE costed.is_charged
    UNION ALL
    SELECT
        costed.id,
        side.expense_category_id,
        side.amount
    FROM campaign_costed AS costed
    INNER JOIN campaign.cost_breakdown AS breakdown
        ON costed.id = breakdown.campaign_id AND costed.breakdown_kind = breakdown.kind
    CROSS JOIN
        LATERAL (
            VALUES (breakdown.expense_category_id, breakdown.amount), (NULL, -breakdown.amount)
        ) AS side (expense_category_id, amount)
    WHERE costed.is_charged
),

amounts AS (
    -- A split: each item to its category.
    SELECT
        share.line_id,
        share.expense_category_id,
        share.amount,
        FALSE AS is_entered
    FROM share
    WHERE share.amount <> 0
    UNION ALL
    SELECT
        entered.line_id,
        entered.expense_category_id,
        sum(entered.amount) AS amount,
        TRUE AS is_entered
    FROM entered
    GROUP BY entered.line_id, entered.expense_category_id
    HAVING sum(entered.amount) <> 0
)

SELECT
    costed.kind,
    costed.id,
    amounts.expense_category_id,
    costed.budget_id,
    costed.campaign_id,
    costed.level,
    costed.charged_at,
    amounts.amount
FROM amounts
INNER JOIN costed ON amounts.line_id = costed.line_id
WHERE costed.is_charged AND (amounts.is_entered OR costed.real IS NULL)
UNION ALL
SELECT
    'campaign' AS kind,
    costed.id,
    summed.expense_category_id,
    costed.budget_id,
    costed.id AS campaign_id,
    costed.level,
    costed.charged_at,
    summed.amount
FROM (
    SELECT
        own.id,
        own.expense_category_id,
        sum(own.amount) AS amount
    FROM own
    GROUP BY own.id, own.expense_category_id
    HAVING sum(own.amount) <> 0
) AS summed
INNER JOIN campaign_costed AS costed ON summed.id = costed.id;

-- A paid invoice takes the place of the cost: to the categories in proportion, the rest to the largest.
WITH calculated AS (
    DELETE FROM charge
    USING costed
    WHERE charge.kind = costed.kind AND charge.id = costed.id AND costed.level = 'invoiced'
    RETURNING charge.kind, charge.id, charge.expense_category_id, charge.amount
),

spread AS (
    SELECT
        costed.kind,
        costed.id,
        calculated.expense_category_id,
        costed.invoice_amount,
        CASE
            WHEN sum(calculated.amount) OVER whole > 0
                THEN
                    round(
                        costed.invoice_amount * calculated.amount / sum(calculated.amount) OVER whole,
                        costed.decimals
                    )
            ELSE 0.00
        END AS amount,
        row_number() OVER (
            PARTITION BY costed.kind, costed.id ORDER BY calculated.amount DESC, calculated.expense_category_id ASC
        ) AS place
    FROM costed
    LEFT JOIN calculated ON costed.kind = calculated.kind AND costed.id = calculated.id
    WHERE costed.level = 'invoiced' AND costed.is_charged
    WINDOW whole AS (PARTITION BY costed.kind, costed.id)
)

INSERT INTO charge (kind, id, expense_category_id, budget_id, campaign_id, level, charged_at, amount)
SELECT
    rounded.kind,
    rounded.id,
    rounded.expense_category_id,
    costed.budget_id,
    costed.campaign_id,
    costed.level,
    costed.charged_at,
    rounded.amount
FROM (
    SELECT
        spread.kind,
        spread.id,
        spread.expense_category_id,
        spread.amount
        + CASE
            WHEN spread.place = 1
                THEN spread.invoice_amount - sum(spread.amount) OVER (PARTITION BY spread.kind, spread.id)
            ELSE 0.00
        END AS amount
    FROM spread
) AS rounded
INNER JOIN costed ON rounded.kind = costed.kind AND rounded.id = costed.id
WHERE rounded.amount <> 0;

ANALYZE charge (kind, id);
