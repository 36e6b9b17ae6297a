-- How many items, deliveries, plans and budgets differ, or are on one side only: none.
SELECT
    (
        SELECT count(*)
        FROM (
            SELECT line.delivery_id, structure.cost_type_id, item.amount
            FROM campaign.expense_item AS item
            INNER JOIN campaign.expense_line AS line ON item.expense_line_id = line.id
            INNER JOIN campaign.cost_structure AS structure ON item.cost_structure_id = structure.id
        ) AS ours
        FULL JOIN by_hand.item AS theirs USING (delivery_id, cost_type_id)
        WHERE ours.amount IS DISTINCT FROM theirs.amount
    ),
    (
        SELECT count(*)
        FROM campaign.delivery AS ours
        FULL JOIN by_hand.expense AS theirs ON ours.id = theirs.delivery_id
        WHERE ours.calculated_cost IS DISTINCT FROM theirs.amount
    ),
    (
        SELECT count(*)
        FROM campaign.plan AS ours
        FULL JOIN by_hand.plan AS theirs ON ours.id = theirs.plan_id
        WHERE ours.calculated_cost IS DISTINCT FROM coalesce(theirs.amount, 0)
    ),
    (
        SELECT count(*)
        FROM (
            SELECT budget_id, level, expense_category_id, sum(amount) AS amount
            FROM campaign.budget_charge
            GROUP BY 1, 2, 3
        ) AS ours
        FULL JOIN by_hand.budget AS theirs USING (budget_id, level, expense_category_id)
        WHERE ours.amount IS DISTINCT FROM theirs.amount
    )
