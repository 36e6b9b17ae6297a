-- Charge the budgets: one cost line per element and expense category, at the element's level.
--
-- Compares what the changed deliveries, tasks and campaigns are to be charged (work table charge) with
-- their cost lines, and writes the difference (work table charge_change) to the lines and to the sums per
-- budget. An element whose invoice is paid is charged what was paid, spread over its categories as its
-- cost was. Rerun: there is no difference.
CREATE TEMPORARY TABLE charge ON COMMIT DROP AS
WITH share AS (
    -- A split: each item to its category.
    SELECT
        costed.kind,
        costed.id,
        new_item.expense_category_id,
        new_item.amount
    FROM costed
    INNER JOIN new_item ON costed.kind = new_item.element_kind AND costed.id = new_item.element_id
    WHERE costed.is_charged AND costed.is_split AND costed.real IS NULL
    UNION ALL
    SELECT
        costed.kind,
        costed.id,
        item.expense_category_id,
        item.amount
    FROM costed
    INNER JOIN campaign.expense_item AS item ON costed.line_id = item.expense_line_id
    WHERE costed.is_charged AND costed.is_split AND costed.keeps_split AND costed.real IS NULL
    UNION ALL
    -- An entered cost: what its breakdown gives to categories is taken from what has none.
    SELECT
        costed.kind,
        costed.id,
        NULL AS expense_category_id,
        coalesce(costed.real, costed.cost_total) AS amount
    FROM costed
    WHERE costed.is_charged AND (costed.real IS NOT NULL OR NOT costed.is_split)
    UNION ALL
    SELECT
        costed.kind,
        costed.id,
        side.expense_category_id,
        side.amount
    FROM costed
    INNER JOIN campaign.cost_breakdown AS breakdown
        ON
            costed.id = breakdown.delivery_id
            AND breakdown.kind = CASE WHEN costed.real IS NOT NULL THEN 'real' ELSE 'provisional' END
    CROSS JOIN
        LATERAL (
            VALUES (breakdown.expense_category_id, breakdown.amount), (NULL, -breakdown.amount)
        ) AS side (expense_category_id, amount)
    WHERE
        costed.kind = 'delivery' AND costed.is_charged
        AND (costed.real IS NOT NULL OR NOT (costed.is_split OR costed.is_canceled))
    UNION ALL
    SELECT
        costed.kind,
        costed.id,
        side.expense_category_id,
        side.amount
    FROM costed
    INNER JOIN campaign.cost_breakdown AS breakdown
        ON
            costed.id = breakdown.task_id
            AND breakdown.kind = CASE WHEN costed.real IS NOT NULL THEN 'real' ELSE 'provisional' END
    CROSS JOIN
        LATERAL (
            VALUES (breakdown.expense_category_id, breakdown.amount), (NULL, -breakdown.amount)
        ) AS side (expense_category_id, amount)
    WHERE
        costed.kind = 'task' AND costed.is_charged
        AND (costed.real IS NOT NULL OR NOT (costed.is_split OR costed.is_canceled))
    UNION ALL
    -- What is a campaign's own.
    SELECT
        'campaign' AS kind,
        costed.id,
        NULL AS expense_category_id,
        costed.calculated_cost - costed.below AS amount
    FROM campaign_costed AS costed
    WHERE costed.is_charged
    UNION ALL
    SELECT
        'campaign' AS kind,
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

summed AS (
    SELECT
        share.kind,
        share.id,
        share.expense_category_id,
        sum(share.amount) AS amount
    FROM share
    GROUP BY share.kind, share.id, share.expense_category_id
    HAVING sum(share.amount) <> 0
)

SELECT
    summed.kind,
    summed.id,
    summed.expense_category_id,
    coalesce(element.budget_id, campaign_costed.budget_id) AS budget_id,
    coalesce(element.campaign_id, campaign_costed.id) AS campaign_id,
    coalesce(element.level, campaign_costed.level) AS level,
    coalesce(element.charged_at, campaign_costed.charged_at) AS charged_at,
    summed.amount
FROM summed
LEFT JOIN costed AS element ON summed.kind = element.kind AND summed.id = element.id
LEFT JOIN campaign_costed ON summed.kind = 'campaign' AND summed.id = campaign_costed.id;

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

ANALYZE charge;

CREATE TEMPORARY TABLE charge_change ON COMMIT DROP AS
WITH stored AS (
    SELECT
        costed.kind,
        costed.id,
        line.id AS line_id,
        line.expense_category_id,
        line.budget_id,
        line.campaign_id,
        line.level,
        line.charged_at,
        line.amount
    FROM costed
    INNER JOIN campaign.cost_line AS line ON costed.id = line.delivery_id
    WHERE costed.kind = 'delivery'
    UNION ALL
    SELECT
        costed.kind,
        costed.id,
        line.id AS line_id,
        line.expense_category_id,
        line.budget_id,
        line.campaign_id,
        line.level,
        line.charged_at,
        line.amount
    FROM costed
    INNER JOIN campaign.cost_line AS line ON costed.id = line.task_id
    WHERE costed.kind = 'task'
    UNION ALL
    SELECT
        'campaign' AS kind,
        costed.id,
        line.id AS line_id,
        line.expense_category_id,
        line.budget_id,
        line.campaign_id,
        line.level,
        line.charged_at,
        line.amount
    FROM campaign_costed AS costed
    INNER JOIN campaign.cost_line AS line ON costed.id = line.campaign_id
    WHERE line.delivery_id IS NULL AND line.task_id IS NULL
)

SELECT
    stored.line_id,
    coalesce(charge.kind, stored.kind) AS kind,
    coalesce(charge.id, stored.id) AS id,
    coalesce(charge.expense_category_id, stored.expense_category_id) AS expense_category_id,
    stored.budget_id AS old_budget_id,
    stored.campaign_id AS old_campaign_id,
    stored.level AS old_level,
    stored.amount AS old_amount,
    charge.budget_id,
    charge.campaign_id,
    charge.level,
    charge.charged_at,
    charge.amount
FROM charge
FULL JOIN stored
    ON
        charge.kind = stored.kind AND charge.id = stored.id
        AND coalesce(charge.expense_category_id, 0) = coalesce(stored.expense_category_id, 0)
WHERE
    (charge.budget_id, charge.campaign_id, charge.level, charge.charged_at, charge.amount)
    IS DISTINCT FROM (stored.budget_id, stored.campaign_id, stored.level, stored.charged_at, stored.amount);

DELETE FROM campaign.cost_line AS line
USING charge_change
WHERE line.id = charge_change.line_id AND charge_change.amount IS NULL;

UPDATE campaign.cost_line AS line
SET
    budget_id = charge_change.budget_id,
    campaign_id = charge_change.campaign_id,
    level = charge_change.level,
    charged_at = charge_change.charged_at,
    amount = charge_change.amount,
    changed_at = %(as_of)s::timestamptz,
    run_id = %(run_id)s::text
FROM charge_change
WHERE line.id = charge_change.line_id AND charge_change.amount IS NOT NULL;

INSERT INTO campaign.cost_line (
    budget_id, campaign_id, delivery_id, task_id, expense_category_id, level, amount, charged_at, changed_at, run_id
)
SELECT
    charge_change.budget_id,
    charge_change.campaign_id,
    CASE WHEN charge_change.kind = 'delivery' THEN charge_change.id END,
    CASE WHEN charge_change.kind = 'task' THEN charge_change.id END,
    charge_change.expense_category_id,
    charge_change.level,
    charge_change.amount,
    charge_change.charged_at,
    %(as_of)s::timestamptz,
    %(run_id)s::text
FROM charge_change
WHERE charge_change.line_id IS NULL;

CREATE TEMPORARY TABLE charge_delta ON COMMIT DROP AS
SELECT
    side.budget_id,
    side.campaign_id,
    charge_change.expense_category_id,
    side.level,
    sum(side.amount) AS amount
FROM charge_change
CROSS JOIN
    LATERAL (
        VALUES
        (
            charge_change.old_budget_id,
            charge_change.old_campaign_id,
            charge_change.old_level,
            -charge_change.old_amount
        ),
        (charge_change.budget_id, charge_change.campaign_id, charge_change.level, charge_change.amount)
    ) AS side (budget_id, campaign_id, level, amount)
WHERE side.amount IS NOT NULL
GROUP BY side.budget_id, side.campaign_id, charge_change.expense_category_id, side.level
HAVING sum(side.amount) <> 0;

MERGE INTO campaign.budget_charge AS total
USING charge_delta AS delta
    ON
        total.budget_id = delta.budget_id
        AND coalesce(total.campaign_id, 0) = coalesce(delta.campaign_id, 0)
        AND coalesce(total.expense_category_id, 0) = coalesce(delta.expense_category_id, 0)
        AND total.level = delta.level
WHEN MATCHED AND total.amount + delta.amount = 0 THEN DELETE
WHEN MATCHED THEN UPDATE SET amount = total.amount + delta.amount
WHEN NOT MATCHED THEN
    INSERT (budget_id, campaign_id, expense_category_id, level, amount)
    VALUES (delta.budget_id, delta.campaign_id, delta.expense_category_id, delta.level, delta.amount);

-- What a dry run is asked for: the lines that would change, the largest difference first,
SELECT
    format(
        '%%s %%s, %%s: %%s -> %%s',
        charge_change.kind,
        coalesce(delivery.internal_name, task.internal_name, campaign.internal_name),
        coalesce(category.label, 'no category'),
        coalesce(
            format('%%s %%s on %%s', charge_change.old_amount, charge_change.old_level, old_budget.label), 'nothing'
        ),
        coalesce(format('%%s %%s on %%s', charge_change.amount, charge_change.level, budget.label), 'nothing')
    ) AS report
FROM charge_change
LEFT JOIN campaign.delivery AS delivery ON charge_change.kind = 'delivery' AND charge_change.id = delivery.id
LEFT JOIN campaign.task AS task ON charge_change.kind = 'task' AND charge_change.id = task.id
LEFT JOIN campaign.campaign AS campaign ON charge_change.kind = 'campaign' AND charge_change.id = campaign.id
LEFT JOIN campaign.expense_category AS category ON charge_change.expense_category_id = category.id
LEFT JOIN campaign.budget AS old_budget ON charge_change.old_budget_id = old_budget.id
LEFT JOIN campaign.budget AS budget ON charge_change.budget_id = budget.id
WHERE %(dry_run)s::boolean
ORDER BY
    abs(coalesce(charge_change.amount, 0) - coalesce(charge_change.old_amount, 0)) DESC,
    charge_change.kind ASC,
    charge_change.id ASC
LIMIT 1000;

-- and the totals per budget.
SELECT
    format(
        'budget %%s, %%s: %%s -> %%s', budget.label, delta.level, position.amount - delta.amount, position.amount
    ) AS report
FROM (
    SELECT
        charge_delta.budget_id,
        charge_delta.level,
        sum(charge_delta.amount) AS amount
    FROM charge_delta
    GROUP BY charge_delta.budget_id, charge_delta.level
) AS delta
INNER JOIN campaign.budget AS budget ON delta.budget_id = budget.id
CROSS JOIN
    LATERAL (
        SELECT coalesce(sum(charge.amount), 0.00) AS amount
        FROM campaign.budget_charge AS charge
        WHERE charge.budget_id = delta.budget_id AND charge.level = delta.level
    ) AS position
WHERE %(dry_run)s::boolean AND delta.amount <> 0
ORDER BY budget.label, delta.level;

SELECT count(*) AS cost_lines_changed
FROM charge_change;
