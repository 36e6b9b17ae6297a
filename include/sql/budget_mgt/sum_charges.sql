-- Sum what the budgets are charged, per campaign, expense category and level: what the positions of budgets are read
-- from. From here on the chunks of a full run take turns, so that each adds to what the others have committed.
--
-- Adds the difference that the cost lines have made; a full run sums the lines anew. Rerun: there is no difference.
SELECT pg_advisory_xact_lock(hashtextextended('campaign.cost_totals', 0));

CREATE TEMPORARY TABLE charge_delta ON COMMIT DROP AS
WITH touched AS (
    SELECT costed.id AS campaign_id
    FROM campaign_costed AS costed
    WHERE %(full)s::boolean
    UNION
    SELECT charge_change.old_campaign_id
    FROM charge_change
    WHERE %(full)s::boolean AND charge_change.old_campaign_id IS NOT NULL
),

side AS (
    SELECT
        charge_change.old_budget_id AS budget_id,
        charge_change.old_campaign_id AS campaign_id,
        charge_change.expense_category_id,
        charge_change.old_level AS level,
        -charge_change.old_amount AS amount
    FROM charge_change
    WHERE charge_change.old_amount IS NOT NULL AND NOT %(full)s::boolean
    UNION ALL
    SELECT
        charge_change.budget_id,
        charge_change.campaign_id,
        charge_change.expense_category_id,
        charge_change.level,
        charge_change.amount
    FROM charge_change
    WHERE charge_change.amount IS NOT NULL AND NOT %(full)s::boolean
    UNION ALL
    SELECT
        line.budget_id,
        line.campaign_id,
        line.expense_category_id,
        line.level,
        sum(line.amount) AS amount
    FROM touched
    -- OFFSET 0: found by index for each campaign: a chunk reads its own lines, not all.
    CROSS JOIN
        LATERAL (
            SELECT
                cost_line.budget_id,
                cost_line.campaign_id,
                cost_line.expense_category_id,
                cost_line.level,
                cost_line.amount
            FROM campaign.cost_line AS cost_line
            WHERE cost_line.campaign_id = touched.campaign_id
            OFFSET 0  -- noqa: AM09
        ) AS line
    GROUP BY line.budget_id, line.campaign_id, line.expense_category_id, line.level
    UNION ALL
    SELECT
        charge.budget_id,
        charge.campaign_id,
        charge.expense_category_id,
        charge.level,
        -charge.amount
    FROM touched
    INNER JOIN campaign.budget_charge AS charge ON touched.campaign_id = charge.campaign_id
    UNION ALL
    -- The tasks of programs.
    SELECT
        line.budget_id,
        NULL AS campaign_id,
        line.expense_category_id,
        line.level,
        line.amount
    FROM campaign.cost_line AS line
    WHERE %(full)s::boolean AND line.campaign_id IS NULL
    UNION ALL
    SELECT
        charge.budget_id,
        NULL AS campaign_id,
        charge.expense_category_id,
        charge.level,
        -charge.amount
    FROM campaign.budget_charge AS charge
    WHERE %(full)s::boolean AND charge.campaign_id IS NULL
)

SELECT
    side.budget_id,
    side.campaign_id,
    side.expense_category_id,
    side.level,
    sum(side.amount) AS amount
FROM side
GROUP BY side.budget_id, side.campaign_id, side.expense_category_id, side.level
HAVING sum(side.amount) <> 0;

-- Each is found by its key, however many there are.
INSERT INTO campaign.budget_charge AS total (budget_id, campaign_id, expense_category_id, level, amount)
SELECT
    delta.budget_id,
    delta.campaign_id,
    delta.expense_category_id,
    delta.level,
    delta.amount
FROM charge_delta AS delta
ON CONFLICT (budget_id, campaign_id, expense_category_id, level) DO UPDATE SET amount = total.amount + excluded.amount;

DELETE FROM campaign.budget_charge AS total
WHERE total.amount = 0 AND total.campaign_id IN (SELECT delta.campaign_id FROM charge_delta AS delta);

DELETE FROM campaign.budget_charge AS total
WHERE total.amount = 0 AND total.campaign_id IS NULL;

-- For a dry run, the totals per budget.
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
