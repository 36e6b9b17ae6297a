-- Calculate the cost of each campaign that changed, or that has something changed below it.
--
-- Grain: one row of the work table campaign_costed per such campaign: its cost, what of it is its own
-- (a fixed or provisional cost, or what the real cost entered for it differs from the elements below), and
-- what it is charged to. Passes the campaigns' programs on (changed_cost). Rerun: only what differs is written.
-- A full run and a chunk have all their campaigns already.
INSERT INTO changed_cost (level, id)
SELECT
    'campaign' AS level,
    delivery.campaign_id
FROM changed_delivery
INNER JOIN campaign.delivery AS delivery ON changed_delivery.id = delivery.id
WHERE NOT (SELECT calculation.takes_all FROM calculation) AND %(first_campaign)s::bigint IS NULL
UNION
SELECT
    CASE WHEN task.campaign_id IS NOT NULL THEN 'campaign' ELSE 'program' END AS level,
    coalesce(task.campaign_id, task.program_id)
FROM changed_task
INNER JOIN campaign.task AS task ON changed_task.id = task.id
WHERE NOT (SELECT calculation.takes_all FROM calculation) AND %(first_campaign)s::bigint IS NULL;

ANALYZE changed_cost;

CREATE TEMPORARY TABLE campaign_costed ON COMMIT DROP AS
WITH touched AS (
    SELECT DISTINCT changed_cost.id
    FROM changed_cost
    WHERE changed_cost.level = 'campaign'
),

elements AS (
    SELECT
        below.campaign_id,
        count(*) AS count,
        sum(below.calculated_cost) AS amount
    FROM (
        SELECT
            delivery.campaign_id,
            delivery.calculated_cost
        FROM touched
        INNER JOIN campaign.delivery AS delivery ON touched.id = delivery.campaign_id
        WHERE NOT delivery.is_template
        UNION ALL
        SELECT
            task.campaign_id,
            task.calculated_cost
        FROM touched
        INNER JOIN campaign.task AS task ON touched.id = task.campaign_id
    ) AS below
    GROUP BY below.campaign_id
),

-- What is entered for the deliveries and tasks of a campaign that is being edited, can they be calculated or not.
expected AS (
    SELECT
        below.campaign_id,
        sum(below.provisional) AS amount
    FROM (
        SELECT
            delivery.campaign_id,
            coalesce(delivery.provisional_cost, broken_down.amount) AS provisional,
            delivery.status = 'canceled'
            AND coalesce(delivery.canceled_at, '-infinity') <= %(as_of)s::timestamptz AS is_canceled
        FROM touched
        INNER JOIN campaign.campaign AS edited ON touched.id = edited.id AND edited.budget_status = 'being_edited'
        INNER JOIN campaign.delivery AS delivery ON touched.id = delivery.campaign_id AND NOT delivery.is_template
        CROSS JOIN
            LATERAL (
                SELECT sum(breakdown.amount) AS amount
                FROM campaign.cost_breakdown AS breakdown
                WHERE breakdown.delivery_id = delivery.id AND breakdown.kind = 'provisional'
            ) AS broken_down
        UNION ALL
        SELECT
            task.campaign_id,
            coalesce(task.provisional_cost, broken_down.amount) AS provisional,
            task.status = 'canceled'
            AND coalesce(task.canceled_at, '-infinity') <= %(as_of)s::timestamptz AS is_canceled
        FROM touched
        INNER JOIN campaign.campaign AS edited ON touched.id = edited.id AND edited.budget_status = 'being_edited'
        INNER JOIN campaign.task AS task ON touched.id = task.campaign_id
        CROSS JOIN
            LATERAL (
                SELECT sum(breakdown.amount) AS amount
                FROM campaign.cost_breakdown AS breakdown
                WHERE breakdown.task_id = task.id AND breakdown.kind = 'provisional'
            ) AS broken_down
    ) AS below
    WHERE NOT below.is_canceled
    GROUP BY below.campaign_id
),

broken_down AS (
    SELECT
        breakdown.campaign_id,
        sum(breakdown.amount) FILTER (WHERE breakdown.kind = 'provisional') AS provisional,
        sum(breakdown.amount) FILTER (WHERE breakdown.kind = 'real') AS real
    FROM touched
    INNER JOIN campaign.cost_breakdown AS breakdown ON touched.id = breakdown.campaign_id
    GROUP BY breakdown.campaign_id
),

stated AS (
    SELECT
        edited.id,
        edited.program_id,
        edited.is_template,
        edited.budget_status,
        edited.commitment_level,
        coalesce(edited.budget_id, program.budget_id) AS budget_id,
        nullif(edited.fixed_cost, 0) AS fixed,
        coalesce(edited.provisional_cost, broken_down.provisional) AS provisional,
        coalesce(edited.real_cost, broken_down.real) AS real,
        coalesce(elements.count, 0) AS element_count,
        coalesce(elements.amount, 0.00) AS below,
        expected.amount AS expected,
        edited.status = 'canceled'
        AND coalesce(edited.canceled_at, '-infinity') <= %(as_of)s::timestamptz AS is_canceled,
        edited.status = 'finished'
        AND coalesce(edited.ends_at, '-infinity') <= %(as_of)s::timestamptz AS is_finished,
        edited.canceled_at,
        edited.ends_at
    FROM touched
    INNER JOIN campaign.campaign AS edited ON touched.id = edited.id
    INNER JOIN campaign.program AS program ON edited.program_id = program.id
    LEFT JOIN elements ON touched.id = elements.campaign_id
    LEFT JOIN expected ON touched.id = expected.campaign_id
    LEFT JOIN broken_down ON touched.id = broken_down.campaign_id
)

SELECT
    stated.id,
    stated.program_id,
    stated.budget_id,
    stated.is_template,
    stated.below,
    CASE
        WHEN stated.is_template THEN NULL
        WHEN stated.real IS NOT NULL THEN stated.real
        WHEN stated.is_canceled THEN stated.below
        WHEN stated.budget_status = 'being_edited' THEN coalesce(stated.provisional, stated.expected, 0.00)
        WHEN stated.fixed IS NOT NULL OR stated.element_count > 0
            THEN coalesce(stated.fixed, 0.00) + stated.below
        ELSE coalesce(stated.provisional, 0.00)
    END AS calculated_cost,
    NOT stated.is_template AND stated.budget_id IS NOT NULL
    AND stated.budget_status <> 'being_edited' AS is_charged,
    CASE WHEN stated.is_finished OR stated.is_canceled THEN 'spent' ELSE stated.commitment_level END AS level,
    CASE
        WHEN stated.is_finished THEN stated.ends_at
        WHEN stated.is_canceled THEN stated.canceled_at
    END AS charged_at,
    -- The breakdown of what is the campaign's own, where that is the whole of its cost.
    CASE
        WHEN stated.element_count > 0 THEN NULL
        WHEN stated.real IS NOT NULL THEN 'real'
        WHEN stated.fixed IS NULL AND NOT stated.is_canceled THEN 'provisional'
    END AS breakdown_kind
FROM stated;

ANALYZE campaign_costed;

UPDATE campaign.campaign AS campaign
SET calculated_cost = costed.calculated_cost
FROM campaign_costed AS costed
WHERE campaign.id = costed.id AND campaign.calculated_cost IS DISTINCT FROM costed.calculated_cost;

MERGE INTO campaign.cost_total AS total
USING campaign_costed AS costed
    ON total.level = 'campaign' AND total.element_id = costed.id
WHEN MATCHED AND costed.is_template THEN DELETE
WHEN MATCHED AND (total.own_amount, total.below_amount)
IS DISTINCT FROM (costed.calculated_cost - costed.below, costed.below) THEN
    UPDATE
        SET
            own_amount = costed.calculated_cost - costed.below,
            below_amount = costed.below,
            computed_at = %(as_of)s::timestamptz,
            run_id = %(run_id)s::text
WHEN NOT MATCHED AND NOT costed.is_template THEN INSERT (
    level, element_id, own_amount, below_amount, computed_at, run_id
) VALUES (
    'campaign', costed.id, costed.calculated_cost - costed.below, costed.below,
    %(as_of)s::timestamptz, %(run_id)s::text
);

INSERT INTO changed_cost (level, id)
SELECT DISTINCT
    'program' AS level,
    costed.program_id
FROM campaign_costed AS costed
WHERE NOT (SELECT calculation.takes_all FROM calculation);

-- A full run checks all of them.
INSERT INTO campaign.cost_check (campaign_id)
SELECT costed.id
FROM campaign_costed AS costed
WHERE NOT %(full)s::boolean;

SELECT count(*) AS campaigns_totalled
FROM campaign_costed;
