-- Where the budgets stand now, as one JSON list, for the history of a day.
-- Grain: one entry per budget, expense category and level that holds an amount.
SELECT coalesce(jsonb_agg(to_jsonb(position)), '[]')::text AS position
FROM (
    SELECT
        charge.budget_id,
        charge.expense_category_id,
        charge.level,
        sum(charge.amount) AS amount
    FROM campaign.budget_charge AS charge
    GROUP BY charge.budget_id, charge.expense_category_id, charge.level
    HAVING sum(charge.amount) <> 0
) AS position;
