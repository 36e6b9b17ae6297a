-- The campaign 'Loyalty' with what stands above it, the workflow that targets for it, and a task.
-- Grain: one row per plan, program, campaign, workflow template, task, and cost type of the task.
-- Rerun: rows that are there stay as they are. Dates count from the day of the first load.

INSERT INTO campaign.plan (internal_name, label, starts_at, ends_at, budget_id)
SELECT
    'customer-care' AS internal_name,
    'Customer care' AS label,
    date_trunc('month', campaign.moment(), 'UTC') AS starts_at,
    date_trunc('month', campaign.moment(), 'UTC') + interval '1 year' AS ends_at,
    (
        SELECT budget.id FROM campaign.budget
        WHERE budget.internal_name = 'marketing'
    ) AS budget_id
ON CONFLICT (internal_name) DO NOTHING;

-- The budget stands here: a campaign without a budget of its own is charged to that of its program.
INSERT INTO campaign.program (plan_id, internal_name, label, starts_at, ends_at, budget_id)
SELECT
    (
        SELECT plan.id FROM campaign.plan
        WHERE plan.internal_name = 'customer-care'
    ) AS plan_id,
    'mailings' AS internal_name,
    'Mailings' AS label,
    date_trunc('month', campaign.moment(), 'UTC') AS starts_at,
    date_trunc('month', campaign.moment(), 'UTC') + interval '1 year' AS ends_at,
    (
        SELECT budget.id FROM campaign.budget
        WHERE budget.internal_name = 'direct-mail'
    ) AS budget_id
ON CONFLICT (internal_name) DO NOTHING;

-- Provisional: what the owner expects the whole to cost. Fixed: a licence for the music on the cover,
-- due whatever is sent.
INSERT INTO campaign.campaign (
    internal_name,
    label,
    program_id,
    kind,
    owner_id,
    starts_at,
    ends_at,
    budget_status,
    commitment_level,
    provisional_cost,
    fixed_cost,
    approval_mode
)
SELECT
    'loyalty' AS internal_name,
    'Loyalty' AS label,
    (
        SELECT program.id FROM campaign.program
        WHERE program.internal_name = 'mailings'
    ) AS program_id,
    'unique' AS kind,
    (
        SELECT staff.id FROM campaign.staff
        WHERE staff.internal_name = 'olga'
    ) AS owner_id,
    date_trunc('day', campaign.moment(), 'UTC') AS starts_at,
    date_trunc('day', campaign.moment(), 'UTC') + interval '30 days' AS ends_at,
    'defined' AS budget_status,
    'reserved' AS commitment_level,
    6000.00 AS provisional_cost,
    250.00 AS fixed_cost,
    'automatic' AS approval_mode
ON CONFLICT (internal_name) DO NOTHING;

-- Who is loyal: bought at least three times, for at least 75 dollars in all, and still in 1998. A tenth
-- of them is kept as a control group; the seed addresses get a copy.
INSERT INTO campaign.workflow_template (internal_name, label, campaign_id, dag_id, conf, severity)
SELECT
    'loyalty-targeting' AS internal_name,
    'Loyalty targeting' AS label,
    (
        SELECT campaign.id FROM campaign.campaign
        WHERE campaign.internal_name = 'loyalty'
    ) AS campaign_id,
    'campaignTargeting' AS dag_id,
    '{
        "purchases": {"min_count": 3, "min_amount": "75.00", "last_on_or_after": "1998-01-01"},
        "where": [],
        "lists": [],
        "exclude_lists": [],
        "control_group": {"share": 0.1},
        "seeds": true
    }' AS conf,
    'production' AS severity
ON CONFLICT (internal_name) DO NOTHING;

-- Five days at 300.00 are expected; the first two are done.
INSERT INTO campaign.task (
    internal_name,
    label,
    campaign_id,
    status,
    starts_at,
    ends_at,
    assigned_to_id,
    days_completed,
    service_id,
    provisional_cost
)
SELECT
    'loyalty-content-template' AS internal_name,
    'Design - Content template' AS label,
    (
        SELECT campaign.id FROM campaign.campaign
        WHERE campaign.internal_name = 'loyalty'
    ) AS campaign_id,
    'in_progress' AS status,
    date_trunc('day', campaign.moment(), 'UTC') - interval '2 days' AS starts_at,
    date_trunc('day', campaign.moment(), 'UTC') + interval '5 days' AS ends_at,
    (
        SELECT staff.id FROM campaign.staff
        WHERE staff.internal_name = 'ursula'
    ) AS assigned_to_id,
    2 AS days_completed,
    (
        SELECT service.id FROM campaign.service
        WHERE service.internal_name = 'content'
    ) AS service_id,
    1500.00 AS provisional_cost
ON CONFLICT (internal_name) DO NOTHING;

INSERT INTO campaign.task_cost (task_id, cost_type_id, surcharge, expense_category_id)
SELECT
    (
        SELECT task.id FROM campaign.task
        WHERE task.internal_name = 'loyalty-content-template'
    ) AS task_id,
    (
        SELECT cost_type.id
        FROM campaign.cost_type
        INNER JOIN campaign.cost_category ON cost_type.cost_category_id = cost_category.id
        INNER JOIN campaign.service ON cost_category.service_id = service.id
        WHERE
            service.internal_name = 'content'
            AND cost_category.label = 'Design'
            AND cost_type.label = 'Content template'
    ) AS cost_type_id,
    0.00 AS surcharge,
    (
        SELECT expense_category.id
        FROM campaign.expense_category
        WHERE expense_category.internal_name = 'creation'
    ) AS expense_category_id
ON CONFLICT (task_id, cost_type_id) DO NOTHING;
