-- A sum names what its cost lines name, and is there as long as one of them is: who deletes what they name is refused
-- (triggers/budget_references.sql).
ALTER TABLE campaign.budget_charge ALTER CONSTRAINT "the budget_id of a budget_charge must name a budget" NOT ENFORCED;
ALTER TABLE campaign.budget_charge
ALTER CONSTRAINT "the campaign_id of a budget_charge must name a campaign" NOT ENFORCED;
ALTER TABLE campaign.budget_charge ALTER CONSTRAINT "expense_category_id must name an expense_category" NOT ENFORCED;

-- Written with each line, and read only when a campaign is deleted: the lines of a campaign are found through its
-- deliveries and tasks.
DROP INDEX campaign.expense_line_campaign;
