-- What elements cost is written by budgetMgt alone, millions of rows in a run, from the very rows that it names.
-- A check of each key of each row took half the time of such a run. So the keys that name few, small tables stand
-- here for a reader only: budgetMgt holds the rows that it names against deletion while it writes, and who deletes
-- one that is named is refused (triggers/budget_references.sql).
ALTER TABLE campaign.expense_item ALTER CONSTRAINT "an expense_item belongs to an expense_line" NOT ENFORCED;
ALTER TABLE campaign.expense_item ALTER CONSTRAINT "cost_structure_id must name a cost_structure" NOT ENFORCED;
ALTER TABLE campaign.expense_item ALTER CONSTRAINT "expense_category_id must name an expense_category" NOT ENFORCED;
ALTER TABLE campaign.expense_line ALTER CONSTRAINT "the budget_id of an expense_line must name a budget" NOT ENFORCED;
ALTER TABLE campaign.expense_line
ALTER CONSTRAINT "the campaign_id of an expense_line must name a campaign" NOT ENFORCED;
ALTER TABLE campaign.expense_line
ALTER CONSTRAINT "the delivery_id of an expense_line must name a delivery" NOT ENFORCED;
ALTER TABLE campaign.expense_line ALTER CONSTRAINT "the task_id of an expense_line must name a task" NOT ENFORCED;
ALTER TABLE campaign.cost_line ALTER CONSTRAINT "the budget_id of a cost_line must name a budget" NOT ENFORCED;
ALTER TABLE campaign.cost_line ALTER CONSTRAINT "the campaign_id of a cost_line must name a campaign" NOT ENFORCED;
ALTER TABLE campaign.cost_line ALTER CONSTRAINT "the delivery_id of a cost_line must name a delivery" NOT ENFORCED;
ALTER TABLE campaign.cost_line ALTER CONSTRAINT "the task_id of a cost_line must name a task" NOT ENFORCED;
ALTER TABLE campaign.cost_line ALTER CONSTRAINT "expense_category_id must name an expense_category" NOT ENFORCED;

-- Only the lines of tasks have one.
ALTER TABLE campaign.expense_line DROP CONSTRAINT "a task has one expense_line";
CREATE UNIQUE INDEX "a task has one expense_line" ON campaign.expense_line (task_id) WHERE task_id IS NOT NULL;

-- The lines of a budget are found through its campaigns (budget_charge), and those of no campaign here.
DROP INDEX campaign.cost_line_budget;
CREATE INDEX cost_line_without_campaign ON campaign.cost_line (budget_id) WHERE campaign_id IS NULL;

-- Room on each page for every row of it to be written once more where it stands, so that a run that calculates all
-- of them touches no index.
ALTER TABLE campaign.delivery SET (fillfactor = 50);
ALTER TABLE campaign.task SET (fillfactor = 50);
-- And for a tenth of what it has written, for the runs of each quarter of an hour.
ALTER TABLE campaign.expense_line SET (fillfactor = 90);
ALTER TABLE campaign.expense_item SET (fillfactor = 90);
ALTER TABLE campaign.cost_line SET (fillfactor = 90);
ALTER TABLE campaign.budget_charge SET (fillfactor = 80);
ALTER TABLE campaign.cost_total SET (fillfactor = 80);

-- An item is known by its line, structure and kind, a cost line by its element and category: an index of their ids
-- would be written with each row, and read by nobody. The ids stay, given by the database.
ALTER TABLE campaign.expense_item DROP CONSTRAINT expense_item_pkey;
ALTER TABLE campaign.expense_item DROP CONSTRAINT "an expense_line has one item of a structure and kind";
ALTER TABLE campaign.expense_item
ADD CONSTRAINT "an expense_line has one item of a structure and kind"
PRIMARY KEY (expense_line_id, cost_structure_id, kind);
ALTER TABLE campaign.cost_line DROP CONSTRAINT cost_line_pkey;

-- A run takes ids by the million, on several connections.
ALTER TABLE campaign.expense_line ALTER COLUMN id SET CACHE 1000;
ALTER TABLE campaign.expense_item ALTER COLUMN id SET CACHE 1000;
ALTER TABLE campaign.cost_line ALTER COLUMN id SET CACHE 1000;
