-- What the printers hold for the house, and what is on its way to them.
-- Grain: one row per stock, per stock line and per order. Quantities in pieces (envelopes, sheets).
-- Rerun: rows that are there stay as they are; a line that has an order gets no second one.

INSERT INTO campaign.stock (internal_name, label, provider_id, assigned_to_id)
SELECT
    'warehouse' AS internal_name,
    'Warehouse' AS label,
    (
        SELECT provider.id FROM campaign.provider
        WHERE provider.internal_name = 'printers'
    ) AS provider_id,
    (
        SELECT staff.id FROM campaign.staff
        WHERE staff.internal_name = 'pawel'
    ) AS assigned_to_id
ON CONFLICT (internal_name) DO NOTHING;

-- The delivery 'Summer Catalog' has about 3,400 messages, each one envelope and four sheets:
-- some 1,600 envelopes are left, which is below their alert level, and some 26,000 sheets, which is not.
INSERT INTO campaign.stock_line (stock_id, internal_name, label, initial_quantity, alert_level)
SELECT
    (
        SELECT stock.id FROM campaign.stock
        WHERE stock.internal_name = 'warehouse'
    ) AS stock_id,
    entry.internal_name,
    entry.label,
    entry.initial_quantity,
    entry.alert_level
FROM (
    VALUES
    ('envelopes-c5', 'Envelopes C5', 5000, 2000),
    ('paper-a4-100g', 'Paper A4 100 g', 40000, 10000)
) AS entry (internal_name, label, initial_quantity, alert_level)
ON CONFLICT (internal_name) DO NOTHING;

INSERT INTO campaign.stock_order (stock_line_id, ordered_at, delivery_on, quantity)
SELECT
    stock_line.id AS stock_line_id,
    campaign.moment() AS ordered_at,
    (campaign.moment() AT TIME ZONE 'UTC')::date + 14 AS delivery_on,
    10000 AS quantity
FROM campaign.stock_line
WHERE
    stock_line.internal_name = 'envelopes-c5'
    AND NOT EXISTS (
        SELECT 1
        FROM campaign.stock_order
        WHERE stock_order.stock_line_id = stock_line.id
    );
