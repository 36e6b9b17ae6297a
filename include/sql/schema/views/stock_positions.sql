-- Where each stock line stands: the sums of its ledger as stockMgt last computed them. A line that it has not
-- met yet has nothing but its initial quantity. One row per stock line.
DROP VIEW IF EXISTS campaign.stock_position CASCADE;
CREATE VIEW campaign.stock_position AS
WITH summed AS (
    SELECT
        stock_line.id AS stock_line_id,
        stock_line.initial_quantity,
        stock_line.alert_level,
        coalesce(balance.received, 0) AS received,
        coalesce(balance.consumed, 0) AS consumed,
        coalesce(balance.on_order, 0) AS on_order,
        stock_line.initial_quantity
        + coalesce(balance.received, 0)
        - coalesce(balance.consumed, 0) AS in_stock
    FROM campaign.stock_line AS stock_line
    LEFT JOIN campaign.stock_balance AS balance ON stock_line.id = balance.stock_line_id
),

judged AS (
    SELECT
        summed.*,
        campaign.stock_state(summed.in_stock, summed.alert_level) AS state
    FROM summed
)

SELECT
    judged.stock_line_id,
    judged.initial_quantity,
    judged.received,
    judged.consumed,
    judged.on_order,
    judged.in_stock,
    judged.alert_level,
    judged.state
FROM judged;

-- When each stock line falls to its alert level and to zero, as things stand now. One row per stock line.
DROP VIEW IF EXISTS campaign.stock_forecast CASCADE;
CREATE VIEW campaign.stock_forecast AS
SELECT
    forecast.stock_line_id,
    forecast.low_on,
    forecast.empty_on,
    forecast.delivery_id,
    forecast.empty_delivery_id
FROM campaign.stock_forecast_as_of(campaign.moment()) AS forecast;

-- What the deliveries of each campaign took from each stock line. One row per campaign and stock line.
DROP VIEW IF EXISTS campaign.stock_campaign_consumption CASCADE;
CREATE VIEW campaign.stock_campaign_consumption AS
SELECT
    consumption.campaign_id,
    consumption.stock_line_id,
    sum(consumption.quantity)::bigint AS quantity,
    count(*) FILTER (WHERE consumption.quantity > 0) AS delivery_count,
    min(consumption.consumed_at) AS first_consumed_at,
    max(consumption.consumed_at) AS last_consumed_at
FROM campaign.stock_consumption AS consumption
GROUP BY consumption.campaign_id, consumption.stock_line_id;
