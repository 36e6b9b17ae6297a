-- Take away all that budgetMgt has calculated, and its queue.
SET LOCAL campaign.cost_bookkeeping = 'off';
TRUNCATE
    campaign.expense_line, campaign.expense_item, campaign.cost_line, campaign.budget_charge, campaign.cost_total,
    campaign.cost_change, campaign.cost_check CASCADE;
UPDATE campaign.delivery SET calculated_cost = NULL WHERE calculated_cost IS NOT NULL;
UPDATE campaign.campaign SET calculated_cost = NULL;
UPDATE campaign.program SET calculated_cost = NULL;
UPDATE campaign.plan SET calculated_cost = NULL;
