-- What it did is in include/sql/budget_mgt/derive_real_costs.sql.
DROP FUNCTION IF EXISTS campaign.enter_derived_cost;
