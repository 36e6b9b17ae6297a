-- What a cost names cannot be deleted: the keys of expense_line, expense_item, cost_line and of their sums are not
-- checked row by row when budgetMgt writes them (versions/0003_budget), so they are checked here, when what they name
-- is deleted.
--
-- Who deletes waits for the transaction in which costs are being calculated, and that one for who is deleting: both
-- hold the lock campaign.cost_references. So neither misses what the other has not committed.
CREATE OR REPLACE FUNCTION campaign.wait_for_costs() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('campaign.cost_references', 0));
    RETURN NULL;
END
$$;

-- Arguments: pairs of a table and its column that may name a row that is gone.
CREATE OR REPLACE FUNCTION campaign.refuse_removal() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    named bigint;
BEGIN
    FOR place IN 0 .. TG_NARGS - 1 BY 2 LOOP
        EXECUTE format(
            'SELECT gone.id FROM gone '
            'WHERE EXISTS (SELECT 1 FROM campaign.%1$I AS cost WHERE cost.%2$I = gone.id) LIMIT 1',
            TG_ARGV[place], TG_ARGV[place + 1]
        ) INTO named;
        IF named IS NOT NULL THEN
            RAISE EXCEPTION 'The % with id % cannot be deleted: a row of % names it.', TG_TABLE_NAME, named, TG_ARGV[place]
                USING ERRCODE = 'foreign_key_violation', TABLE = TG_ARGV[place], COLUMN = TG_ARGV[place + 1];
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER wait_for_costs BEFORE DELETE ON campaign.delivery
FOR EACH STATEMENT EXECUTE FUNCTION campaign.wait_for_costs();
CREATE OR REPLACE TRIGGER refuse_removal AFTER DELETE ON campaign.delivery
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
EXECUTE FUNCTION campaign.refuse_removal('expense_line', 'delivery_id', 'cost_line', 'delivery_id');

CREATE OR REPLACE TRIGGER wait_for_costs BEFORE DELETE ON campaign.task
FOR EACH STATEMENT EXECUTE FUNCTION campaign.wait_for_costs();
CREATE OR REPLACE TRIGGER refuse_removal AFTER DELETE ON campaign.task
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
EXECUTE FUNCTION campaign.refuse_removal('expense_line', 'task_id', 'cost_line', 'task_id');

CREATE OR REPLACE TRIGGER wait_for_costs BEFORE DELETE ON campaign.campaign
FOR EACH STATEMENT EXECUTE FUNCTION campaign.wait_for_costs();
CREATE OR REPLACE TRIGGER refuse_removal AFTER DELETE ON campaign.campaign
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
EXECUTE FUNCTION campaign.refuse_removal('expense_line', 'campaign_id', 'cost_line', 'campaign_id');

CREATE OR REPLACE TRIGGER wait_for_costs BEFORE DELETE ON campaign.budget
FOR EACH STATEMENT EXECUTE FUNCTION campaign.wait_for_costs();
CREATE OR REPLACE TRIGGER refuse_removal AFTER DELETE ON campaign.budget
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
EXECUTE FUNCTION campaign.refuse_removal('expense_line', 'budget_id', 'cost_line', 'budget_id');

CREATE OR REPLACE TRIGGER wait_for_costs BEFORE DELETE ON campaign.expense_category
FOR EACH STATEMENT EXECUTE FUNCTION campaign.wait_for_costs();
CREATE OR REPLACE TRIGGER refuse_removal AFTER DELETE ON campaign.expense_category
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
EXECUTE FUNCTION campaign.refuse_removal('expense_item', 'expense_category_id', 'cost_line', 'expense_category_id');

CREATE OR REPLACE TRIGGER wait_for_costs BEFORE DELETE ON campaign.cost_structure
FOR EACH STATEMENT EXECUTE FUNCTION campaign.wait_for_costs();
CREATE OR REPLACE TRIGGER refuse_removal AFTER DELETE ON campaign.cost_structure
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
EXECUTE FUNCTION campaign.refuse_removal('expense_item', 'cost_structure_id');

-- The items of an expense line go with it.
CREATE OR REPLACE FUNCTION campaign.remove_expense_items() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM campaign.expense_item AS item USING gone WHERE item.expense_line_id = gone.id;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER remove_expense_items AFTER DELETE ON campaign.expense_line
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION campaign.remove_expense_items();
