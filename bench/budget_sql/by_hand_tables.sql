DROP SCHEMA IF EXISTS by_hand CASCADE;
CREATE SCHEMA by_hand;
CREATE TABLE by_hand.item (
    delivery_id bigint, cost_type_id bigint, campaign_id bigint, level text, expense_category_id bigint, amount numeric,
    PRIMARY KEY (delivery_id, cost_type_id)
);
CREATE TABLE by_hand.charge (
    delivery_id bigint, campaign_id bigint, level text, expense_category_id bigint, amount numeric,
    PRIMARY KEY (delivery_id, expense_category_id)
);
CREATE TABLE by_hand.expense (delivery_id bigint PRIMARY KEY, amount numeric);
