-- State where each changed delivery and task stands as of the moment of the run, and what it is charged to.
--
-- Fills the work table element, one row per changed delivery or task. line_id is that of its expense line, or the
-- one that it is going to have: from here on it names the element. One that was seen finished keeps its split.
-- Rerun: reads only.
CREATE TEMPORARY TABLE element ON COMMIT DROP AS
WITH stated AS (
    SELECT
        'delivery' AS kind,
        delivery.id,
        delivery.campaign_id,
        delivery.service_id,
        delivery.channel,
        delivery.status,
        coalesce(delivery.budget_id, campaign.budget_id, program.budget_id) AS budget_id,
        coalesce(delivery.commitment_level, campaign.commitment_level) AS chosen_level,
        campaign.budget_status <> 'being_edited' AS is_charged,
        delivery.is_template OR campaign.is_template AS is_template,
        coalesce(delivery.provisional_cost, broken_down.provisional) AS provisional,
        coalesce(CASE WHEN derived_later.delivery_id IS NULL THEN delivery.real_cost END, broken_down.real) AS real,
        coalesce(delivery.message_count, 0) AS message_count,
        0.00 AS day_count,
        delivery.message_count IS NOT NULL
        AND coalesce(delivery.analysed_at <= %(as_of)s::timestamptz, FALSE) AS is_analysed,
        delivery.analysed_at,
        CASE
            WHEN delivery.status = 'finished' THEN coalesce(delivery.finished_at, '-infinity')
            WHEN delivery.status = 'canceled' AND delivery.finished_at <= delivery.canceled_at
                THEN delivery.finished_at
        END AS finished_at,
        least(
            CASE WHEN delivery.status = 'canceled' THEN coalesce(delivery.canceled_at, '-infinity') END,
            CASE WHEN campaign.status = 'canceled' THEN coalesce(campaign.canceled_at, '-infinity') END
        ) AS canceled_at,
        line.id AS line_id,
        line.frozen_at,
        line.invoice_line_id,
        delivery.calculated_cost AS old_calculated_cost
    FROM changed_delivery  -- noqa: AL04
    INNER JOIN campaign.delivery AS delivery ON changed_delivery.id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    INNER JOIN campaign.program AS program ON campaign.program_id = program.id
    -- OFFSET 0: found by index for each delivery, however many there are: a chunk reads its own lines, not all.
    LEFT JOIN
        LATERAL (
            SELECT
                expense_line.id,
                expense_line.frozen_at,
                expense_line.invoice_line_id
            FROM campaign.expense_line AS expense_line
            WHERE expense_line.delivery_id = delivery.id
            OFFSET 0  -- noqa: AM09
        ) AS line
        ON TRUE
    LEFT JOIN (
        SELECT
            breakdown.delivery_id,
            sum(breakdown.amount) FILTER (WHERE breakdown.kind = 'provisional') AS provisional,
            sum(breakdown.amount) FILTER (WHERE breakdown.kind = 'real') AS real
        FROM campaign.cost_breakdown AS breakdown
        INNER JOIN changed_delivery ON breakdown.delivery_id = changed_delivery.id
        GROUP BY breakdown.delivery_id
    ) AS broken_down ON delivery.id = broken_down.delivery_id
    -- What a run for the past did not know yet: the real cost by what the provider answered.
    LEFT JOIN campaign.derived_real_cost AS derived_later
        ON
            delivery.id = derived_later.delivery_id AND delivery.real_cost = derived_later.real_cost
            AND derived_later.derived_at > %(as_of)s::timestamptz AND %(is_past)s::boolean
    UNION ALL
    SELECT
        'task' AS kind,
        task.id,
        task.campaign_id,
        task.service_id,
        'task' AS channel,
        task.status,
        coalesce(task.budget_id, campaign.budget_id, program.budget_id) AS budget_id,
        coalesce(task.commitment_level, campaign.commitment_level, 'planned') AS chosen_level,
        coalesce(campaign.budget_status <> 'being_edited', TRUE) AS is_charged,
        coalesce(campaign.is_template, FALSE) AS is_template,
        coalesce(task.provisional_cost, broken_down.provisional) AS provisional,
        coalesce(task.real_cost, broken_down.real) AS real,
        0 AS message_count,
        task.days_completed AS day_count,
        FALSE AS is_analysed,
        NULL AS analysed_at,
        CASE
            WHEN task.status = 'finished' THEN coalesce(task.finished_at, '-infinity')
            WHEN task.status = 'canceled' AND task.finished_at <= task.canceled_at THEN task.finished_at
        END AS finished_at,
        least(
            CASE WHEN task.status = 'canceled' THEN coalesce(task.canceled_at, '-infinity') END,
            CASE WHEN campaign.status = 'canceled' THEN coalesce(campaign.canceled_at, '-infinity') END
        ) AS canceled_at,
        line.id AS line_id,
        line.frozen_at,
        line.invoice_line_id,
        task.calculated_cost AS old_calculated_cost
    FROM changed_task  -- noqa: AL04
    INNER JOIN campaign.task AS task ON changed_task.id = task.id
    LEFT JOIN campaign.campaign AS campaign ON task.campaign_id = campaign.id
    INNER JOIN campaign.program AS program ON coalesce(task.program_id, campaign.program_id) = program.id
    LEFT JOIN campaign.expense_line AS line ON task.id = line.task_id
    LEFT JOIN (
        SELECT
            breakdown.task_id,
            sum(breakdown.amount) FILTER (WHERE breakdown.kind = 'provisional') AS provisional,
            sum(breakdown.amount) FILTER (WHERE breakdown.kind = 'real') AS real
        FROM campaign.cost_breakdown AS breakdown
        INNER JOIN changed_task ON breakdown.task_id = changed_task.id
        GROUP BY breakdown.task_id
    ) AS broken_down ON task.id = broken_down.task_id
),

judged AS (
    SELECT
        stated.*,
        coalesce(stated.finished_at <= %(as_of)s::timestamptz, FALSE) AS is_finished,
        coalesce(stated.canceled_at <= %(as_of)s::timestamptz, FALSE)
        AND NOT coalesce(stated.finished_at <= %(as_of)s::timestamptz, FALSE) AS is_canceled,
        coalesce(budget.decimals, 2) AS decimals,
        CASE WHEN invoice.id IS NOT NULL THEN invoice_line.amount END AS invoice_amount,
        invoice.paid_at
    FROM stated
    LEFT JOIN (
        SELECT
            budget.id,
            campaign.minor_unit(budget.currency) AS decimals
        FROM campaign.budget AS budget
        OFFSET 0  -- noqa: AM09
    ) AS budget ON stated.budget_id = budget.id
    LEFT JOIN campaign.invoice_line AS invoice_line ON stated.invoice_line_id = invoice_line.id
    LEFT JOIN campaign.invoice AS invoice
        ON
            invoice_line.invoice_id = invoice.id
            AND invoice.status = 'paid' AND invoice.paid_at <= %(as_of)s::timestamptz
)

SELECT
    coalesce(judged.line_id, nextval('campaign.expense_line_id_seq'::regclass)) AS line_id,
    judged.line_id IS NULL AS is_new,
    judged.kind,
    judged.id,
    judged.campaign_id,
    judged.service_id,
    judged.channel,
    judged.status,
    judged.budget_id,
    judged.decimals,
    judged.is_charged AND NOT judged.is_template AND judged.budget_id IS NOT NULL AS is_charged,
    judged.is_template,
    judged.provisional,
    judged.real,
    judged.message_count,
    judged.day_count,
    judged.analysed_at,
    judged.is_finished,
    judged.is_canceled,
    NOT judged.is_template AND NOT judged.is_canceled
    AND (judged.is_analysed OR judged.is_finished) AS is_split,
    judged.frozen_at IS NOT NULL AND (judged.is_finished OR %(is_past)s::boolean) AS keeps_split,
    -- What is finished, or was before it was canceled, is spent; what is paid is invoiced.
    CASE
        WHEN judged.paid_at IS NOT NULL THEN 'invoiced'
        WHEN judged.is_finished OR judged.is_canceled THEN 'spent'
        ELSE judged.chosen_level
    END AS level,
    CASE
        WHEN judged.paid_at IS NOT NULL THEN judged.paid_at
        WHEN judged.is_finished THEN nullif(judged.finished_at, '-infinity')
        WHEN judged.is_canceled THEN nullif(judged.canceled_at, '-infinity')
    END AS charged_at,
    judged.invoice_amount,
    judged.invoice_line_id,
    judged.old_calculated_cost
FROM judged;

ANALYZE element (kind, id, line_id, service_id, is_split, keeps_split, is_new);
