-- Every total that is not the sum of what is below it, to the cent: no rows when all is well.
--
-- For anyone to run: SELECT * FROM campaign.total_difference. campaign_id is null above the campaigns. What was
-- moved from one campaign, program or plan to another after the last run, and so waits for the next, is left out.
DROP VIEW IF EXISTS campaign.total_difference CASCADE;
CREATE VIEW campaign.total_difference AS
-- An analysed delivery, a finished task: the items of its split.
WITH categories AS (
    SELECT
        category.budget_id,
        sum(category.allocated - category.projected) AS amount
    FROM campaign.budget_category_position AS category
    GROUP BY category.budget_id
),

linked AS (
    SELECT
        child.parent_id,
        sum(below.allocated - below.projected) AS amount
    FROM campaign.budget AS child
    INNER JOIN campaign.budget_consolidated AS below ON child.id = below.budget_id
    GROUP BY child.parent_id
)

SELECT
    'cost total of the expense line of a delivery' AS total_of,
    delivery.internal_name AS name,
    delivery.campaign_id,
    line.cost_total AS total,
    items.amount AS sum_below
FROM campaign.delivery AS delivery
INNER JOIN campaign.expense_line AS line ON delivery.id = line.delivery_id
CROSS JOIN
    LATERAL (
        SELECT sum(item.amount) AS amount
        FROM campaign.expense_item AS item
        WHERE item.expense_line_id = line.id
    ) AS items
WHERE line.cost_total <> items.amount

UNION ALL
SELECT
    'cost total of the expense line of a task',
    task.internal_name,
    task.campaign_id,
    line.cost_total,
    items.amount
FROM campaign.task AS task
INNER JOIN campaign.expense_line AS line ON task.id = line.task_id
CROSS JOIN
    LATERAL (
        SELECT sum(item.amount) AS amount
        FROM campaign.expense_item AS item
        WHERE item.expense_line_id = line.id
    ) AS items
WHERE line.cost_total <> items.amount

UNION ALL
-- A delivery, a task: its expense line.
SELECT
    'calculated cost of a delivery',
    delivery.internal_name,
    delivery.campaign_id,
    coalesce(delivery.calculated_cost, 0),
    coalesce(line.real_cost, line.cost_total, 0)
FROM campaign.delivery AS delivery
LEFT JOIN campaign.expense_line AS line ON delivery.id = line.delivery_id
WHERE coalesce(delivery.calculated_cost, 0) <> coalesce(line.real_cost, line.cost_total, 0)

UNION ALL
SELECT
    'calculated cost of a task',
    task.internal_name,
    task.campaign_id,
    coalesce(task.calculated_cost, 0),
    coalesce(line.real_cost, line.cost_total, 0)
FROM campaign.task AS task
LEFT JOIN campaign.expense_line AS line ON task.id = line.task_id
WHERE coalesce(task.calculated_cost, 0) <> coalesce(line.real_cost, line.cost_total, 0)

UNION ALL
-- What a budget is charged for an element: its cost, until a paid invoice takes its place. One that has no line yet
-- may wait for the next run, or for somebody to mend what it cannot be calculated for.
SELECT
    'cost lines of a delivery',
    delivery.internal_name,
    delivery.campaign_id,
    coalesce(charged.amount, 0),
    coalesce(line.real_cost, line.cost_total, 0)
FROM campaign.delivery AS delivery
INNER JOIN campaign.expense_line AS line ON delivery.id = line.delivery_id
INNER JOIN campaign.campaign AS campaign ON line.campaign_id = campaign.id
CROSS JOIN
    LATERAL (
        SELECT
            sum(cost_line.amount) AS amount,
            bool_or(cost_line.level = 'invoiced') AS is_invoiced
        FROM campaign.cost_line AS cost_line
        WHERE cost_line.delivery_id = delivery.id
    ) AS charged
WHERE
    coalesce(charged.amount, 0) <> coalesce(line.real_cost, line.cost_total, 0)
    AND charged.is_invoiced IS NOT TRUE
    AND (
        charged.amount IS NOT NULL
        OR (
            line.budget_id IS NOT NULL AND campaign.budget_status <> 'being_edited'
            AND NOT EXISTS (
                SELECT 1
                FROM campaign.cost_change AS change
                WHERE (change.element, change.element_id) IN (('campaign', campaign.id), ('delivery', delivery.id))
            )
            AND NOT EXISTS (
                SELECT 1
                FROM campaign.cost_problem AS problem
                WHERE problem.delivery_id = delivery.id
            )
        )
    )

UNION ALL
SELECT
    'cost lines of a task',
    task.internal_name,
    task.campaign_id,
    coalesce(charged.amount, 0),
    coalesce(line.real_cost, line.cost_total, 0)
FROM campaign.task AS task
INNER JOIN campaign.expense_line AS line ON task.id = line.task_id
LEFT JOIN campaign.campaign AS campaign ON line.campaign_id = campaign.id
CROSS JOIN
    LATERAL (
        SELECT
            sum(cost_line.amount) AS amount,
            bool_or(cost_line.level = 'invoiced') AS is_invoiced
        FROM campaign.cost_line AS cost_line
        WHERE cost_line.task_id = task.id
    ) AS charged
WHERE
    coalesce(charged.amount, 0) <> coalesce(line.real_cost, line.cost_total, 0)
    AND charged.is_invoiced IS NOT TRUE
    AND (
        charged.amount IS NOT NULL
        OR (
            line.budget_id IS NOT NULL AND campaign.budget_status IS DISTINCT FROM 'being_edited'
            AND NOT EXISTS (
                SELECT 1
                FROM campaign.cost_change AS change
                WHERE (change.element, change.element_id) IN (('campaign', campaign.id), ('task', task.id))
            )
            AND NOT EXISTS (
                SELECT 1
                FROM campaign.cost_problem AS problem
                WHERE problem.task_id = task.id
            )
        )
    )

UNION ALL
-- A campaign: what is its own, and its deliveries and tasks.
SELECT
    'calculated cost of a campaign',
    campaign.internal_name,
    campaign.id,
    coalesce(campaign.calculated_cost, 0),
    coalesce(total.own_amount, 0) + deliveries.amount + tasks.amount
FROM campaign.campaign AS campaign
LEFT JOIN campaign.cost_total AS total ON campaign.id = total.element_id AND total.level = 'campaign'
CROSS JOIN
    LATERAL (
        SELECT coalesce(sum(delivery.calculated_cost), 0) AS amount
        FROM campaign.delivery AS delivery
        WHERE delivery.campaign_id = campaign.id
    ) AS deliveries
CROSS JOIN
    LATERAL (
        SELECT coalesce(sum(task.calculated_cost), 0) AS amount
        FROM campaign.task AS task
        WHERE task.campaign_id = campaign.id
    ) AS tasks
WHERE
    coalesce(campaign.calculated_cost, 0)
    <> coalesce(total.own_amount, 0) + deliveries.amount + tasks.amount
    AND NOT EXISTS (
        SELECT 1
        FROM campaign.cost_change AS change
        WHERE change.element = 'campaign' AND change.element_id = campaign.id
    )

UNION ALL
-- What budgets are charged for a campaign: its cost lines.
SELECT
    'charges of a campaign to its budgets, ' || level.name,
    campaign.internal_name,
    campaign.id,
    totals.amount,
    lines.amount  -- noqa: AL08
FROM campaign.campaign AS campaign
CROSS JOIN (VALUES ('planned'), ('reserved'), ('committed'), ('spent'), ('invoiced')) AS level (name)
CROSS JOIN
    LATERAL (
        SELECT coalesce(sum(charge.amount), 0) AS amount
        FROM campaign.budget_charge AS charge
        WHERE charge.campaign_id = campaign.id AND charge.level = level.name
    ) AS totals
CROSS JOIN
    LATERAL (
        SELECT coalesce(sum(line.amount), 0) AS amount
        FROM campaign.cost_line AS line
        WHERE line.campaign_id = campaign.id AND line.level = level.name
    ) AS lines
WHERE totals.amount <> lines.amount

UNION ALL
-- A program, a plan: what is its own, and what is below it.
SELECT
    'calculated cost of a ' || above.level,
    above.name,
    NULL,
    coalesce(above.calculated_cost, 0),
    coalesce(total.own_amount, 0) + below.amount
FROM campaign.cost_level AS above
LEFT JOIN campaign.cost_total AS total ON above.element_id = total.element_id AND above.level = total.level
CROSS JOIN
    LATERAL (
        SELECT coalesce(sum(part.calculated_cost), 0) AS amount
        FROM campaign.cost_below AS part
        WHERE part.element_id = above.element_id AND part.level = above.level
    ) AS below
WHERE
    coalesce(above.calculated_cost, 0) <> coalesce(total.own_amount, 0) + below.amount
    AND NOT EXISTS (
        SELECT 1
        FROM campaign.cost_change AS change
        WHERE change.element = above.level AND change.element_id = above.element_id
    )

UNION ALL
-- What a budget is charged for tasks of programs: their cost lines.
SELECT
    'charges of program tasks to a budget, ' || level.name,
    budget.internal_name,
    NULL,
    totals.amount,
    lines.amount  -- noqa: AL08
FROM campaign.budget AS budget
CROSS JOIN (VALUES ('planned'), ('reserved'), ('committed'), ('spent'), ('invoiced')) AS level (name)
CROSS JOIN
    LATERAL (
        SELECT coalesce(sum(charge.amount), 0) AS amount
        FROM campaign.budget_charge AS charge
        WHERE charge.budget_id = budget.id AND charge.campaign_id IS NULL AND charge.level = level.name
    ) AS totals
CROSS JOIN
    LATERAL (
        SELECT coalesce(sum(line.amount), 0) AS amount
        FROM campaign.cost_line AS line
        WHERE line.budget_id = budget.id AND line.campaign_id IS NULL AND line.level = level.name
    ) AS lines
WHERE totals.amount <> lines.amount

UNION ALL
-- A budget and its categories: the same amount from two sides.
SELECT
    'charges of a budget in its categories',
    budget.internal_name,
    NULL,
    position.allocated - position.projected,
    coalesce(categories.amount, 0)
FROM campaign.budget AS budget
INNER JOIN campaign.budget_position AS position ON budget.id = position.budget_id
LEFT JOIN categories ON budget.id = categories.budget_id
WHERE position.allocated - position.projected <> coalesce(categories.amount, 0)

UNION ALL
-- A main budget: its own amounts and those of the budgets linked to it.
SELECT
    'consolidated charges of a budget',
    budget.internal_name,
    NULL,
    consolidated.allocated - consolidated.projected,
    position.allocated - position.projected + coalesce(linked.amount, 0)
FROM campaign.budget_consolidated AS consolidated
INNER JOIN campaign.budget AS budget ON consolidated.budget_id = budget.id
INNER JOIN campaign.budget_position AS position ON consolidated.budget_id = position.budget_id
LEFT JOIN linked ON budget.id = linked.parent_id
WHERE
    consolidated.allocated - consolidated.projected
    <> position.allocated - position.projected + coalesce(linked.amount, 0);

-- The same for some campaigns, and for what is above all campaigns.
CREATE OR REPLACE FUNCTION campaign.total_differences(campaign_ids bigint[])
RETURNS SETOF campaign.total_difference
LANGUAGE sql STABLE AS $$
    SELECT difference.*
    FROM campaign.total_difference AS difference
    WHERE difference.campaign_id = ANY ($1)
    UNION ALL
    SELECT difference.*
    FROM campaign.total_difference AS difference
    WHERE difference.campaign_id IS NULL
$$;
