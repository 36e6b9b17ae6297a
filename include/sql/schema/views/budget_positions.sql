-- Where budgets stand: per budget, per budget and expense category, and with all budgets linked below.
--
-- available: what may still be reserved; projected: what is left when all that is planned comes true.
DROP VIEW IF EXISTS campaign.total_difference CASCADE;
DROP VIEW IF EXISTS campaign.budget_consolidated;
DROP VIEW IF EXISTS campaign.budget_category_position;
DROP VIEW IF EXISTS campaign.budget_position;

CREATE VIEW campaign.budget_position AS
SELECT
    budget.id AS budget_id,
    budget.allocated,
    charged.planned,
    charged.reserved,
    charged.committed,
    charged.spent,
    charged.invoiced,
    budget.allocated - charged.reserved - charged.committed - charged.spent - charged.invoiced AS available,
    budget.allocated - charged.reserved - charged.committed - charged.spent - charged.invoiced
    - charged.planned AS projected
FROM campaign.budget AS budget
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(charge.amount) FILTER (WHERE charge.level = 'planned'), 0.00) AS planned,
        coalesce(sum(charge.amount) FILTER (WHERE charge.level = 'reserved'), 0.00) AS reserved,
        coalesce(sum(charge.amount) FILTER (WHERE charge.level = 'committed'), 0.00) AS committed,
        coalesce(sum(charge.amount) FILTER (WHERE charge.level = 'spent'), 0.00) AS spent,
        coalesce(sum(charge.amount) FILTER (WHERE charge.level = 'invoiced'), 0.00) AS invoiced
    FROM campaign.budget_charge AS charge
    WHERE charge.budget_id = budget.id
) AS charged;

-- Per category that is allocated or charged; expense_category_id is null for what has no category.
CREATE VIEW campaign.budget_category_position AS
WITH charged AS (
    SELECT
        charge.budget_id,
        charge.expense_category_id,
        sum(charge.amount) FILTER (WHERE charge.level = 'planned') AS planned,
        sum(charge.amount) FILTER (WHERE charge.level = 'reserved') AS reserved,
        sum(charge.amount) FILTER (WHERE charge.level = 'committed') AS committed,
        sum(charge.amount) FILTER (WHERE charge.level = 'spent') AS spent,
        sum(charge.amount) FILTER (WHERE charge.level = 'invoiced') AS invoiced
    FROM campaign.budget_charge AS charge
    GROUP BY charge.budget_id, charge.expense_category_id
),

listed AS (
    SELECT
        coalesce(allocation.budget_id, charged.budget_id) AS budget_id,
        coalesce(allocation.expense_category_id, charged.expense_category_id) AS expense_category_id,
        coalesce(allocation.allocated, 0.00) AS allocated,
        coalesce(charged.planned, 0.00) AS planned,
        coalesce(charged.reserved, 0.00) AS reserved,
        coalesce(charged.committed, 0.00) AS committed,
        coalesce(charged.spent, 0.00) AS spent,
        coalesce(charged.invoiced, 0.00) AS invoiced
    FROM campaign.budget_category AS allocation
    FULL JOIN charged
        ON
            allocation.budget_id = charged.budget_id
            AND allocation.expense_category_id = charged.expense_category_id
)

SELECT
    listed.budget_id,
    listed.expense_category_id,
    listed.allocated,
    listed.planned,
    listed.reserved,
    listed.committed,
    listed.spent,
    listed.invoiced,
    listed.allocated - listed.reserved - listed.committed - listed.spent - listed.invoiced AS available,
    listed.allocated - listed.reserved - listed.committed - listed.spent - listed.invoiced
    - listed.planned AS projected
FROM listed;

CREATE VIEW campaign.budget_consolidated AS
WITH RECURSIVE linked AS (
    SELECT
        budget.id AS budget_id,
        budget.id AS linked_id
    FROM campaign.budget AS budget
    UNION ALL
    SELECT
        linked.budget_id,
        child.id AS linked_id
    FROM linked
    INNER JOIN campaign.budget AS child ON linked.linked_id = child.parent_id
)

SELECT
    linked.budget_id,
    sum(position.allocated) AS allocated,
    sum(position.planned) AS planned,
    sum(position.reserved) AS reserved,
    sum(position.committed) AS committed,
    sum(position.spent) AS spent,
    sum(position.invoiced) AS invoiced,
    sum(position.available) AS available,
    sum(position.projected) AS projected
FROM linked
INNER JOIN campaign.budget_position AS position ON linked.linked_id = position.budget_id
GROUP BY linked.budget_id;
