SET LOCAL campaign.cost_bookkeeping = 'off';
UPDATE campaign.delivery SET calculated_cost = computed.calculated_cost
FROM peer.delivery AS computed
WHERE delivery.id = computed.id;

-- The totals, summed where the lines now are: so few rows are no work for either side.
INSERT INTO peer.budget_charge (budget_id, campaign_id, expense_category_id, level, amount)
SELECT line.budget_id, line.campaign_id, line.expense_category_id, line.level, sum(line.amount)
FROM peer.cost_line AS line
GROUP BY line.budget_id, line.campaign_id, line.expense_category_id, line.level;

INSERT INTO peer.cost_total (level, element_id, own_amount, below_amount, computed_at, run_id)
SELECT
    CASE WHEN campaign.id IS NOT NULL THEN 'campaign' WHEN program.id IS NOT NULL THEN 'program' ELSE 'plan' END,
    coalesce(campaign.id, program.id, program.plan_id), 0, sum(charge.amount), now(), 'bench'
FROM peer.budget_charge AS charge
INNER JOIN campaign.campaign ON charge.campaign_id = campaign.id
INNER JOIN campaign.program ON campaign.program_id = program.id
GROUP BY GROUPING SETS ((campaign.id), (program.id), (program.plan_id))
