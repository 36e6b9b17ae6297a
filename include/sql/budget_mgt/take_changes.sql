-- Find what is to be calculated: what was edited since the last run, and what has come due since then
-- without an edit (a moment of analysis, finish, cancellation or payment that the last run lay before), and what a
-- provider's answer costs from now on.
--
-- Fills the work tables of the transaction: changed_delivery, changed_task, and changed_cost (level, id) for
-- campaigns, programs and plans. A full run, and one for the past, takes all: in chunks (plan_chunks.sql), a chunk
-- its campaigns, and what is above them after the last chunk. A run limited to a campaign takes that campaign, and
-- leaves the queue to the next run that is not. Rerun: the queue is empty.
--
-- Nothing that a cost may name is deleted while costs are calculated: see triggers/budget_references.sql.
SELECT pg_advisory_xact_lock_shared(hashtextextended('campaign.cost_references', 0));

CREATE TEMPORARY TABLE taken_change (element text, element_id bigint) ON COMMIT DROP;
CREATE TEMPORARY TABLE changed_delivery (id bigint) ON COMMIT DROP;
CREATE TEMPORARY TABLE changed_task (id bigint) ON COMMIT DROP;
CREATE TEMPORARY TABLE changed_cost (level text, id bigint) ON COMMIT DROP;
CREATE TEMPORARY TABLE calculation ON COMMIT DROP AS
SELECT
    %(as_of)s::timestamptz AS as_of,
    coalesce((SELECT watermark.as_of FROM campaign.cost_watermark AS watermark), '-infinity') AS seen_until,
    %(campaign)s::text IS NULL AND (%(full)s::boolean OR %(is_past)s::boolean)
    AND %(first_campaign)s::bigint IS NULL AND NOT %(are_chunks_done)s::boolean AS takes_all,
    %(campaign)s::text IS NULL AND %(first_campaign)s::bigint IS NULL AS takes_queue,
    %(campaign)s::text IS NULL AND %(first_campaign)s::bigint IS NULL AND NOT %(are_chunks_done)s::boolean AS takes_due,
    (
        SELECT campaign.id FROM campaign.campaign AS campaign
        WHERE campaign.internal_name = %(campaign)s::text
    ) AS campaign_id;

ANALYZE calculation;

-- One statement takes and deletes, so that it sees one state of the queue: what is noted meanwhile stays.
WITH taken AS (
    DELETE FROM campaign.cost_change
    WHERE (SELECT calculation.takes_queue FROM calculation) AND NOT %(is_past)s::boolean
    RETURNING element, element_id
)

INSERT INTO taken_change (element, element_id)
SELECT DISTINCT
    taken.element,
    taken.element_id
FROM taken
WHERE NOT (SELECT calculation.takes_all FROM calculation);

ANALYZE taken_change;

-- Who stands above what changed, for the elements to follow: campaigns of programs, budgets.
WITH above AS (
    SELECT
        taken_change.element AS level,
        taken_change.element_id AS id
    FROM taken_change
    WHERE taken_change.element IN ('campaign', 'program', 'plan')
    UNION
    SELECT
        'campaign' AS level,
        campaign.id
    FROM taken_change
    INNER JOIN campaign.campaign AS campaign
        ON taken_change.element = 'program' AND taken_change.element_id = campaign.program_id
    UNION
    SELECT
        'campaign' AS level,
        campaign.id
    FROM campaign.campaign AS campaign
    CROSS JOIN calculation
    WHERE
        calculation.takes_all
        OR campaign.id = calculation.campaign_id
        OR campaign.id BETWEEN %(first_campaign)s::bigint AND %(last_campaign)s::bigint
        OR (
            calculation.takes_due
            AND (
                (campaign.canceled_at > calculation.seen_until AND campaign.canceled_at <= calculation.as_of)
                OR (
                    campaign.status = 'finished'
                    AND campaign.ends_at > calculation.seen_until AND campaign.ends_at <= calculation.as_of
                )
            )
        )
    UNION
    SELECT
        'program' AS level,
        program.id
    FROM campaign.program AS program
    WHERE (SELECT calculation.takes_all FROM calculation) OR %(are_chunks_done)s::boolean
    UNION
    SELECT
        'plan' AS level,
        plan.id
    FROM campaign.plan AS plan
    WHERE (SELECT calculation.takes_all FROM calculation) OR %(are_chunks_done)s::boolean
)

INSERT INTO changed_cost (level, id)
SELECT
    above.level,
    above.id
FROM above;

ANALYZE changed_cost;

-- All of them, or none of these rows.
INSERT INTO changed_delivery (id)
SELECT delivery.id
FROM campaign.delivery AS delivery
WHERE (SELECT calculation.takes_all FROM calculation);

INSERT INTO changed_delivery (id)
SELECT delivery.id
FROM campaign.delivery AS delivery
WHERE delivery.campaign_id BETWEEN %(first_campaign)s::bigint AND %(last_campaign)s::bigint;

INSERT INTO changed_task (id)
SELECT task.id
FROM campaign.task AS task
WHERE (SELECT calculation.takes_all FROM calculation);

INSERT INTO changed_task (id)
SELECT task.id
FROM campaign.task AS task
WHERE task.campaign_id BETWEEN %(first_campaign)s::bigint AND %(last_campaign)s::bigint;

-- Or what changed. In both tables an element stands once.
INSERT INTO changed_delivery (id)
SELECT changed.id
FROM (
    SELECT taken_change.element_id AS id
    FROM taken_change
    WHERE taken_change.element = 'delivery'
    UNION
    SELECT delivery.id
    FROM changed_cost
    INNER JOIN campaign.delivery AS delivery
        ON changed_cost.level = 'campaign' AND changed_cost.id = delivery.campaign_id
    UNION
    SELECT selection.delivery_id
    FROM taken_change
    INNER JOIN campaign.delivery_cost AS selection
        ON taken_change.element = 'cost_type' AND taken_change.element_id = selection.cost_type_id
    UNION
    -- A service, or a cost type that its service selects by default.
    SELECT delivery.id
    FROM (
        SELECT taken_change.element_id AS service_id
        FROM taken_change
        WHERE taken_change.element = 'service'
        UNION
        SELECT category.service_id
        FROM taken_change
        INNER JOIN campaign.cost_type AS cost_type
            ON
                taken_change.element = 'cost_type' AND taken_change.element_id = cost_type.id
                AND cost_type.selected_by_default
        INNER JOIN campaign.cost_category AS category ON cost_type.cost_category_id = category.id
    ) AS service
    INNER JOIN campaign.delivery AS delivery ON service.service_id = delivery.service_id
    UNION
    SELECT line.delivery_id
    FROM taken_change
    INNER JOIN campaign.expense_line AS line
        ON taken_change.element = 'budget' AND taken_change.element_id = line.budget_id
    WHERE line.delivery_id IS NOT NULL
    UNION
    SELECT delivery.id
    FROM campaign.delivery AS delivery
    CROSS JOIN calculation
    WHERE
        calculation.takes_due AND calculation.seen_until < calculation.as_of
        AND delivery.analysed_at > calculation.seen_until AND delivery.analysed_at <= calculation.as_of
    UNION
    SELECT delivery.id
    FROM campaign.delivery AS delivery
    CROSS JOIN calculation
    WHERE
        calculation.takes_due AND calculation.seen_until < calculation.as_of
        AND delivery.finished_at > calculation.seen_until AND delivery.finished_at <= calculation.as_of
    UNION
    SELECT delivery.id
    FROM campaign.delivery AS delivery
    CROSS JOIN calculation
    WHERE
        calculation.takes_due AND calculation.seen_until < calculation.as_of
        AND delivery.canceled_at > calculation.seen_until AND delivery.canceled_at <= calculation.as_of
    UNION
    SELECT paid.delivery_id
    FROM campaign.invoice AS invoice
    CROSS JOIN calculation
    INNER JOIN campaign.invoice_line AS invoice_line ON invoice.id = invoice_line.invoice_id
    -- OFFSET 0: found by index for each invoice line, however many expense lines there are.
    CROSS JOIN
        LATERAL (
            SELECT line.delivery_id
            FROM campaign.expense_line AS line
            WHERE line.invoice_line_id = invoice_line.id AND line.delivery_id IS NOT NULL
            OFFSET 0  -- noqa: AM09
        ) AS paid
    WHERE
        calculation.takes_due
        AND invoice.paid_at > calculation.seen_until AND invoice.paid_at <= calculation.as_of
    UNION
    SELECT answer.delivery_id
    FROM campaign.answer_to_cost AS answer
    CROSS JOIN calculation
    WHERE calculation.takes_due AND answer.due_at <= calculation.as_of
) AS changed
WHERE NOT (SELECT calculation.takes_all FROM calculation) AND %(first_campaign)s::bigint IS NULL;

INSERT INTO changed_task (id)
SELECT changed.id
FROM (
    SELECT taken_change.element_id AS id
    FROM taken_change
    WHERE taken_change.element = 'task'
    UNION
    SELECT task.id
    FROM changed_cost
    INNER JOIN campaign.task AS task
        ON changed_cost.level = 'campaign' AND changed_cost.id = task.campaign_id
    UNION
    SELECT task.id
    FROM changed_cost
    INNER JOIN campaign.task AS task
        ON changed_cost.level = 'program' AND changed_cost.id = task.program_id
    UNION
    SELECT selection.task_id
    FROM taken_change
    INNER JOIN campaign.task_cost AS selection
        ON taken_change.element = 'cost_type' AND taken_change.element_id = selection.cost_type_id
    UNION
    SELECT task.id
    FROM (
        SELECT taken_change.element_id AS service_id
        FROM taken_change
        WHERE taken_change.element = 'service'
        UNION
        SELECT category.service_id
        FROM taken_change
        INNER JOIN campaign.cost_type AS cost_type
            ON
                taken_change.element = 'cost_type' AND taken_change.element_id = cost_type.id
                AND cost_type.selected_by_default
        INNER JOIN campaign.cost_category AS category ON cost_type.cost_category_id = category.id
    ) AS service
    INNER JOIN campaign.task AS task ON service.service_id = task.service_id
    UNION
    SELECT line.task_id
    FROM taken_change
    INNER JOIN campaign.expense_line AS line
        ON taken_change.element = 'budget' AND taken_change.element_id = line.budget_id
    WHERE line.task_id IS NOT NULL
    UNION
    SELECT task.id
    FROM campaign.task AS task
    CROSS JOIN calculation
    WHERE
        calculation.takes_due AND calculation.seen_until < calculation.as_of
        AND task.finished_at > calculation.seen_until AND task.finished_at <= calculation.as_of
    UNION
    SELECT task.id
    FROM campaign.task AS task
    CROSS JOIN calculation
    WHERE
        calculation.takes_due AND calculation.seen_until < calculation.as_of
        AND task.canceled_at > calculation.seen_until AND task.canceled_at <= calculation.as_of
    UNION
    SELECT paid.task_id
    FROM campaign.invoice AS invoice
    CROSS JOIN calculation
    INNER JOIN campaign.invoice_line AS invoice_line ON invoice.id = invoice_line.invoice_id
    CROSS JOIN
        LATERAL (
            SELECT line.task_id
            FROM campaign.expense_line AS line
            WHERE line.invoice_line_id = invoice_line.id AND line.task_id IS NOT NULL
            OFFSET 0  -- noqa: AM09
        ) AS paid
    WHERE
        calculation.takes_due
        AND invoice.paid_at > calculation.seen_until AND invoice.paid_at <= calculation.as_of
) AS changed
WHERE NOT (SELECT calculation.takes_all FROM calculation) AND %(first_campaign)s::bigint IS NULL;

ANALYZE changed_delivery;
ANALYZE changed_task;

INSERT INTO campaign.cost_watermark (as_of)
SELECT calculation.as_of
FROM calculation
WHERE calculation.takes_queue AND NOT %(is_past)s::boolean
ON CONFLICT (
    is_only_row) DO UPDATE SET as_of = excluded.as_of
WHERE cost_watermark.as_of < excluded.as_of;
