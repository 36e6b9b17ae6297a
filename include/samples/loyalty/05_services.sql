-- What the providers do, what they are sent for it, and what it costs.
-- Grain: one row per export format, service, cost category, cost type, cost structure and threshold.
--        Unit amounts in US dollars.
-- Rerun: rows that are there stay as they are.

-- Columns of the extraction file: a heading, and source.column of where its value is.
INSERT INTO campaign.export_format (
    internal_name, label, columns, delimiter, quote, header, encoding, line_end, compression
)
VALUES
(
    'printers-csv',
    'CSV for The Printers Inc.',
    '[
            {"header": "customer", "expression": "recipient.internal_name"},
            {"header": "first_name", "expression": "recipient.first_name"},
            {"header": "last_name", "expression": "recipient.last_name"},
            {"header": "address1", "expression": "recipient.address1"},
            {"header": "address2", "expression": "recipient.address2"},
            {"header": "postal_code", "expression": "recipient.postal_code"},
            {"header": "city", "expression": "recipient.city"},
            {"header": "country", "expression": "recipient.country"},
            {"header": "language", "expression": "recipient.language"},
            {"header": "delivery", "expression": "delivery.label"}
        ]',
    ',',
    '"',
    TRUE,
    'UTF-8',
    E'\n',
    'none'
)
ON CONFLICT (internal_name) DO NOTHING;

-- No notification_template: the e-mail to the router is the built-in one.
INSERT INTO campaign.service (
    provider_id,
    internal_name,
    label,
    export_format_id,
    file_name_template,
    notification_template,
    notification_group_id,
    notification_emails,
    post_processing_dag_id
)
SELECT
    (
        SELECT provider.id FROM campaign.provider
        WHERE provider.internal_name = 'printers'
    ) AS provider_id,
    'catalog' AS internal_name,
    'Catalog' AS label,
    (
        SELECT export_format.id FROM campaign.export_format
        WHERE export_format.internal_name = 'printers-csv')
        AS export_format_id,
    '{{ delivery.internal_name }}_{{ as_of.strftime("%Y%m%d") }}.csv' AS file_name_template,
    NULL AS notification_template,
    (
        SELECT staff_group.id FROM campaign.staff_group
        WHERE staff_group.internal_name = 'production')
        AS notification_group_id,
    ARRAY['orders@printers.example'] AS notification_emails,
    'routerAcknowledgement' AS post_processing_dag_id
ON CONFLICT (internal_name) DO NOTHING;

-- Neither file, e-mail nor post-processing: the studio is only paid.
INSERT INTO campaign.service (provider_id, internal_name, label)
SELECT
    (
        SELECT provider.id FROM campaign.provider
        WHERE provider.internal_name = 'studio'
    ) AS provider_id,
    'content' AS internal_name,
    'Content' AS label
ON CONFLICT (internal_name) DO NOTHING;

INSERT INTO campaign.cost_category (service_id, label, channel, selection_required)
SELECT
    (
        SELECT service.id FROM campaign.service
        WHERE service.internal_name = entry.service
    ) AS service_id,
    entry.label,
    entry.channel,
    entry.selection_required
FROM (
    VALUES
    ('catalog', 'Envelopes', 'direct_mail', TRUE),
    ('catalog', 'Postage', 'direct_mail', TRUE),
    ('catalog', 'Print', 'direct_mail', TRUE),
    ('catalog', 'Design', 'direct_mail', FALSE),
    ('content', 'Design', 'task', FALSE)
) AS entry (service, label, channel, selection_required)
ON CONFLICT (service_id, label, channel) DO NOTHING;

-- A catalog is four sheets, folded to 16 pages, in one envelope.
INSERT INTO campaign.cost_type (
    cost_category_id, label, selected_by_default, stock_line_id, units_per_message
)
SELECT
    (
        SELECT cost_category.id
        FROM campaign.cost_category
        INNER JOIN campaign.service ON cost_category.service_id = service.id
        WHERE service.internal_name = entry.service AND cost_category.label = entry.cost_category
    ) AS cost_category_id,
    entry.label,
    entry.selected_by_default,
    (
        SELECT stock_line.id FROM campaign.stock_line
        WHERE stock_line.internal_name = entry.stock_line)
        AS stock_line_id,
    entry.units_per_message
FROM (
    VALUES
    ('catalog', 'Envelopes', 'C5', TRUE, 'envelopes-c5', 1),
    ('catalog', 'Postage', 'Standard letter', TRUE, NULL, 1),
    ('catalog', 'Print', '16 pages', TRUE, 'paper-a4-100g', 4),
    ('catalog', 'Print', 'Machine set-up', FALSE, NULL, 1),
    ('catalog', 'Design', 'Layout', FALSE, NULL, 1),
    ('content', 'Design', 'Content template', TRUE, NULL, 1)
) AS entry (service, cost_category, label, selected_by_default, stock_line, units_per_message)
ON CONFLICT (cost_category_id, label) DO NOTHING;

-- For 3,400 messages:
--   envelopes   38.00 for each started thousand                       4 x 38.00            =   152.00
--   postage     the price of the band of the total, for each          3,400 x 0.55         = 1,870.00
--   print       each catalog at the price of its own band             420.00 + 2,400 x 0.31 = 1,164.00
--   set-up      one price for the run                                                      =   140.00
--   layout      one price, whatever is printed                                             =   450.00
-- and for the content template 300.00 for each day worked on it.
INSERT INTO campaign.cost_structure (
    cost_type_id, basis, method, amount, batch_size, whole_batches, beyond_amount
)
SELECT
    (
        SELECT cost_type.id
        FROM campaign.cost_type
        INNER JOIN campaign.cost_category ON cost_type.cost_category_id = cost_category.id
        INNER JOIN campaign.service ON cost_category.service_id = service.id
        WHERE
            service.internal_name = entry.service
            AND cost_category.label = entry.cost_category
            AND cost_type.label = entry.cost_type
    ) AS cost_type_id,
    entry.basis,
    entry.method,
    entry.amount,
    entry.batch_size,
    entry.whole_batches,
    entry.beyond_amount
FROM (
    VALUES
    ('catalog', 'Envelopes', 'C5', 'per_message', 'linear', 38.00, 1000, TRUE, NULL),
    ('catalog', 'Postage', 'Standard letter', 'per_message', 'linear_by_threshold', NULL, 1, FALSE, 0.49),
    ('catalog', 'Print', '16 pages', 'per_message', 'graduated', NULL, 1, FALSE, 0.24),
    ('catalog', 'Print', 'Machine set-up', 'per_message', 'constant_by_threshold', NULL, 1, FALSE, 220.00),
    ('catalog', 'Design', 'Layout', 'fixed', NULL, 450.00, 1, FALSE, NULL),
    ('content', 'Design', 'Content template', 'per_day', NULL, 300.00, 1, FALSE, NULL)
)
    AS entry (
        service, cost_category, cost_type, basis, method, amount, batch_size, whole_batches, beyond_amount
    )
ON CONFLICT (cost_type_id) DO NOTHING;

INSERT INTO campaign.cost_threshold (cost_structure_id, up_to, amount)
SELECT
    (
        SELECT cost_structure.id
        FROM campaign.cost_structure
        INNER JOIN campaign.cost_type ON cost_structure.cost_type_id = cost_type.id
        INNER JOIN campaign.cost_category ON cost_type.cost_category_id = cost_category.id
        INNER JOIN campaign.service ON cost_category.service_id = service.id
        WHERE
            service.internal_name = 'catalog'
            AND cost_category.label = entry.cost_category
            AND cost_type.label = entry.cost_type
    ) AS cost_structure_id,
    entry.up_to,
    entry.amount
FROM (
    VALUES
    ('Postage', 'Standard letter', 1000, 0.62),
    ('Postage', 'Standard letter', 5000, 0.55),
    ('Print', '16 pages', 1000, 0.42),
    ('Print', '16 pages', 5000, 0.31),
    ('Print', 'Machine set-up', 1000, 90.00),
    ('Print', 'Machine set-up', 5000, 140.00)
) AS entry (cost_category, cost_type, up_to, amount)
ON CONFLICT (cost_structure_id, up_to) DO NOTHING;
