-- The levels above the campaigns, and what is below each: what campaign.total_difference checks. A team that adds a
-- level or a source of costs adds it here (docs/cost-calculation.md).
CREATE OR REPLACE VIEW campaign.cost_level AS
SELECT
    'program' AS level,
    program.id AS element_id,
    program.internal_name AS name,
    program.calculated_cost
FROM campaign.program AS program
UNION ALL
SELECT
    'plan' AS level,
    plan.id AS element_id,
    plan.internal_name AS name,
    plan.calculated_cost
FROM campaign.plan AS plan;

CREATE OR REPLACE VIEW campaign.cost_below AS
SELECT
    'program' AS level,
    campaign.program_id AS element_id,
    campaign.calculated_cost
FROM campaign.campaign AS campaign
UNION ALL
SELECT
    'program' AS level,
    task.program_id AS element_id,
    task.calculated_cost
FROM campaign.task AS task
UNION ALL
SELECT
    'plan' AS level,
    program.plan_id AS element_id,
    program.calculated_cost
FROM campaign.program AS program;
