-- Charge the budgets: one cost line per element and expense category.
--
-- Compares the cost lines of the changed deliveries, tasks and campaigns (work table charged) with what they are to be
-- charged (work table charge) and writes the difference (work table charge_change). A line is found again by its place
-- (ctid): only this workflow writes lines, one run at a time. Rerun: there is no difference.
CREATE TEMPORARY TABLE charged ON COMMIT DROP AS
-- OFFSET 0: found by index for each element, however many lines there are: a chunk reads its own, not all.
SELECT
    costed.kind,
    costed.id,
    line.*  -- noqa: AM04
FROM costed
CROSS JOIN
    LATERAL (
        SELECT
            cost_line.ctid AS place,
            cost_line.expense_category_id,
            cost_line.budget_id,
            cost_line.campaign_id,
            cost_line.level,
            cost_line.charged_at,
            cost_line.amount
        FROM campaign.cost_line AS cost_line
        WHERE cost_line.delivery_id = costed.id
        OFFSET 0  -- noqa: AM09
    ) AS line
WHERE costed.kind = 'delivery'
UNION ALL
SELECT
    costed.kind,
    costed.id,
    line.ctid AS place,
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
    line.ctid AS place,
    line.expense_category_id,
    line.budget_id,
    line.campaign_id,
    line.level,
    line.charged_at,
    line.amount
FROM campaign_costed AS costed
INNER JOIN campaign.cost_line AS line
    ON costed.id = line.campaign_id AND line.delivery_id IS NULL AND line.task_id IS NULL;

-- How many they are decides how they are compared. What is new stays in the order of the elements then, so that the
-- lines of one stand side by side: one page to write when it changes.
ANALYZE charged (kind);

CREATE TEMPORARY TABLE charge_change ON COMMIT DROP AS
SELECT
    charged.place,
    coalesce(charge.kind, charged.kind) AS kind,
    coalesce(charge.id, charged.id) AS id,
    coalesce(charge.expense_category_id, charged.expense_category_id) AS expense_category_id,
    charged.budget_id AS old_budget_id,
    charged.campaign_id AS old_campaign_id,
    charged.level AS old_level,
    charged.amount AS old_amount,
    charge.budget_id,
    charge.campaign_id,
    charge.level,
    charge.charged_at,
    charge.amount
FROM charge
FULL JOIN charged
    ON
        charge.kind = charged.kind AND charge.id = charged.id
        AND coalesce(charge.expense_category_id, 0) = coalesce(charged.expense_category_id, 0)
WHERE
    (charge.budget_id, charge.campaign_id, charge.level, charge.charged_at, charge.amount)
    IS DISTINCT FROM (charged.budget_id, charged.campaign_id, charged.level, charged.charged_at, charged.amount);

-- New lines have no place: it is known then how few are found by theirs.
ANALYZE charge_change (place, amount);

DELETE FROM campaign.cost_line AS line
USING charge_change
WHERE line.ctid = charge_change.place AND charge_change.place IS NOT NULL AND charge_change.amount IS NULL;

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
WHERE line.ctid = charge_change.place AND charge_change.place IS NOT NULL AND charge_change.amount IS NOT NULL;

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
WHERE charge_change.place IS NULL;

-- What a dry run is asked for: the lines that would change, the largest difference first.
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

SELECT count(*) AS cost_lines_changed
FROM charge_change;
