-- New expense lines and their items are noted by who writes them, budgetMgt: for a trigger over the rows of a statement
-- PostgreSQL keeps a copy of each.
DROP FUNCTION IF EXISTS campaign.queue_expense_line_insert CASCADE;
DROP FUNCTION IF EXISTS campaign.queue_expense_item_insert CASCADE;
DROP TRIGGER IF EXISTS announce_new_split ON campaign.expense_line;
