-- One row with a slip of the finger must not stop the sums of all others: these bounds leave room for millions of
-- the largest.
ALTER TABLE campaign.stock_line
ADD CONSTRAINT "the initial_quantity of a stock_line is at most 1000000000000"
CHECK (initial_quantity <= 1000000000000),
ADD CONSTRAINT "the alert_level of a stock_line is at most 1000000000000" CHECK (alert_level <= 1000000000000);
ALTER TABLE campaign.stock_order
ADD CONSTRAINT "the quantity of a stock_order is at most 1000000000000" CHECK (abs(quantity) <= 1000000000000),
DROP CONSTRAINT "delivery_on must be a day, not infinity",
ADD CONSTRAINT "delivery_on must be a day from 1900-01-01 to 9999-12-31"
CHECK (delivery_on BETWEEN '1900-01-01' AND '9999-12-31');
ALTER TABLE campaign.cost_type
ADD CONSTRAINT "units_per_message is at most 1000000" CHECK (units_per_message <= 1000000);
