-- What has been written last, by table: the youngest transaction, and how many rows there are.
SELECT 'expense_line', max(xmin::text::bigint), count(*) FROM campaign.expense_line
UNION ALL
SELECT 'expense_item', max(xmin::text::bigint), count(*) FROM campaign.expense_item
UNION ALL
SELECT 'cost_line', max(xmin::text::bigint), count(*) FROM campaign.cost_line
UNION ALL
SELECT 'budget_charge', max(xmin::text::bigint), count(*) FROM campaign.budget_charge
UNION ALL
SELECT 'delivery', max(xmin::text::bigint), count(*) FROM campaign.delivery
UNION ALL
SELECT 'campaign', max(xmin::text::bigint), count(*) FROM campaign.campaign
ORDER BY 1
