-- The direct-mail delivery 'Summer Catalog': its content, its offers, and the costs selected for it.
-- Grain: one row per outline, outline item, delivery, and cost type of the delivery. Costs in US dollars.
-- Rerun: rows that are there stay as they are.

INSERT INTO campaign.delivery_outline (internal_name, label, campaign_id)
SELECT
    'summer-offers' AS internal_name,
    'Summer offers' AS label,
    (
        SELECT campaign.id FROM campaign.campaign
        WHERE campaign.internal_name = 'loyalty'
    ) AS campaign_id
ON CONFLICT (internal_name) DO NOTHING;

INSERT INTO campaign.delivery_outline_item (outline_id, label, description, cost)
SELECT
    delivery_outline.id AS outline_id,
    entry.label,
    entry.description,
    entry.cost
FROM campaign.delivery_outline
CROSS JOIN (
    VALUES
    ('Voucher', 'Ten dollars off any three albums until the end of August', 10.00),
    ('Sampler', 'A compact disc with twelve songs of the season', 2.40),
    ('Catalog', 'Sixteen pages: new releases and back catalog', 0.00)
) AS entry (label, description, cost)
WHERE
    delivery_outline.internal_name = 'summer-offers'
    AND NOT EXISTS (
        SELECT 1
        FROM campaign.delivery_outline_item
        WHERE
            delivery_outline_item.outline_id = delivery_outline.id
            AND delivery_outline_item.label = entry.label
    );

-- Neither extraction_date nor contact_date: the file is extracted as soon as the approvals are granted.
INSERT INTO campaign.delivery (
    internal_name,
    label,
    campaign_id,
    channel,
    service_id,
    outline_id,
    workflow_template_id,
    sender,
    subject,
    body_text,
    body_html,
    provisional_cost
)
SELECT
    'summer-catalog' AS internal_name,
    'Summer Catalog' AS label,
    (
        SELECT campaign.id FROM campaign.campaign
        WHERE campaign.internal_name = 'loyalty'
    ) AS campaign_id,
    'direct_mail' AS channel,
    (
        SELECT service.id FROM campaign.service
        WHERE service.internal_name = 'catalog'
    ) AS service_id,
    (
        SELECT delivery_outline.id FROM campaign.delivery_outline
        WHERE delivery_outline.internal_name = 'summer-offers'
    ) AS outline_id,
    (
        SELECT workflow_template.id
        FROM campaign.workflow_template
        WHERE workflow_template.internal_name = 'loyalty-targeting'
    ) AS workflow_template_id,
    'The Music Shop, 12 Harbor Street, Portland, OR 97201' AS sender,
    'Your summer catalog, and ten dollars from us' AS subject,
    'Dear {{ recipient.first_name }} {{ recipient.last_name }},

you have been with us for more than a year. Thank you! Here is our summer catalog, and a voucher of
ten dollars for your next three albums.

The Music Shop' AS body_text,
    '<p>Dear {{ recipient.first_name }} {{ recipient.last_name }},</p>
<p>you have been with us for more than a year. Thank you! Here is our summer catalog, and a voucher of
<strong>ten dollars</strong> for your next three albums.</p>
<p>The Music Shop</p>' AS body_html,
    4000.00 AS provisional_cost
ON CONFLICT (internal_name) DO NOTHING;

-- The surcharge on the print is for a fifth colour on the cover.
INSERT INTO campaign.delivery_cost (delivery_id, cost_type_id, surcharge, expense_category_id)
SELECT
    (
        SELECT delivery.id FROM campaign.delivery
        WHERE delivery.internal_name = 'summer-catalog'
    ) AS delivery_id,
    (
        SELECT cost_type.id
        FROM campaign.cost_type
        INNER JOIN campaign.cost_category ON cost_type.cost_category_id = cost_category.id
        INNER JOIN campaign.service ON cost_category.service_id = service.id
        WHERE
            service.internal_name = 'catalog'
            AND cost_category.label = entry.cost_category
            AND cost_type.label = entry.cost_type
    ) AS cost_type_id,
    entry.surcharge,
    (
        SELECT expense_category.id
        FROM campaign.expense_category
        WHERE expense_category.internal_name = entry.expense_category
    ) AS expense_category_id
FROM (
    VALUES
    ('Envelopes', 'C5', 0.00, 'production'),
    ('Postage', 'Standard letter', 0.00, 'postage'),
    ('Print', '16 pages', 75.00, 'production'),
    ('Print', 'Machine set-up', 0.00, 'production'),
    ('Design', 'Layout', 0.00, 'creation')
) AS entry (cost_category, cost_type, surcharge, expense_category)
ON CONFLICT (delivery_id, cost_type_id) DO NOTHING;
