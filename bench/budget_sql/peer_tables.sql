-- Tables like ours, for those who write their own.
DROP SCHEMA IF EXISTS peer CASCADE;
CREATE SCHEMA peer;
CREATE TABLE peer.expense_line (LIKE campaign.expense_line INCLUDING ALL);
CREATE TABLE peer.expense_item (LIKE campaign.expense_item INCLUDING ALL);
CREATE TABLE peer.cost_line (LIKE campaign.cost_line INCLUDING ALL);
CREATE TABLE peer.budget_charge (LIKE campaign.budget_charge INCLUDING ALL);
CREATE TABLE peer.cost_total (LIKE campaign.cost_total INCLUDING ALL);
CREATE TABLE peer.delivery (id bigint, calculated_cost numeric(18, 2));
SET LOCAL campaign.cost_bookkeeping = 'off';
UPDATE campaign.delivery SET calculated_cost = NULL WHERE calculated_cost IS NOT NULL;
