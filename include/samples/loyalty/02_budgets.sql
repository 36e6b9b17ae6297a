-- The budget that the campaign is charged to, linked to the main budget of the house.
-- Grain: one row per expense category, per budget, and per category of a budget. Amounts in US dollars.
-- Rerun: rows that are there stay as they are. Dates count from the day of the first load.

INSERT INTO campaign.expense_category (internal_name, label, nature)
VALUES
('production', 'Printing and paper', 'external'),
('postage', 'Postage', 'external'),
('creation', 'Design and text', 'external')
ON CONFLICT (internal_name) DO NOTHING;

INSERT INTO campaign.budget (internal_name, label, owner_id, currency, starts_on, ends_on, allocated)
SELECT
    'marketing' AS internal_name,
    'Marketing' AS label,
    (
        SELECT staff.id FROM campaign.staff
        WHERE staff.internal_name = 'vera'
    ) AS owner_id,
    'USD' AS currency,
    date_trunc('month', campaign.moment() AT TIME ZONE 'UTC')::date AS starts_on,
    (date_trunc('month', campaign.moment() AT TIME ZONE 'UTC') + interval '1 year - 1 day')::date AS ends_on,
    60000.00 AS allocated
ON CONFLICT (internal_name) DO NOTHING;

INSERT INTO campaign.budget (
    internal_name, label, owner_id, currency, parent_id, starts_on, ends_on, allocated
)
SELECT
    'direct-mail' AS internal_name,
    'Direct mail' AS label,
    (
        SELECT staff.id FROM campaign.staff
        WHERE staff.internal_name = 'vera'
    ) AS owner_id,
    'USD' AS currency,
    (
        SELECT budget.id FROM campaign.budget
        WHERE budget.internal_name = 'marketing'
    ) AS parent_id,
    date_trunc('month', campaign.moment() AT TIME ZONE 'UTC')::date AS starts_on,
    (date_trunc('month', campaign.moment() AT TIME ZONE 'UTC') + interval '1 year - 1 day')::date AS ends_on,
    10000.00 AS allocated
ON CONFLICT (internal_name) DO NOTHING;

-- The categories of each budget add up to what it is allocated.
INSERT INTO campaign.budget_category (budget_id, expense_category_id, allocated)
SELECT
    (
        SELECT budget.id FROM campaign.budget
        WHERE budget.internal_name = entry.budget
    ) AS budget_id,
    (
        SELECT expense_category.id
        FROM campaign.expense_category
        WHERE expense_category.internal_name = entry.expense_category
    ) AS expense_category_id,
    entry.allocated
FROM (
    VALUES
    ('marketing', 'production', 20000.00),
    ('marketing', 'postage', 25000.00),
    ('marketing', 'creation', 15000.00),
    ('direct-mail', 'production', 4000.00),
    ('direct-mail', 'postage', 3500.00),
    ('direct-mail', 'creation', 2500.00)
) AS entry (budget, expense_category, allocated)
ON CONFLICT (budget_id, expense_category_id) DO NOTHING;
