-- Split the costs of the changed deliveries and tasks by cost structure, as of the moment of the run.
--
-- Fills the work tables element (one row per changed delivery or task: where it stands, what it is
-- charged to) and new_item (one row per item of a split: calculated, or surcharge). An element that was
-- seen finished keeps its split. One that cannot be calculated leaves both tables, so it keeps what it
-- had; what is wrong with it goes to campaign.cost_problem, and to the journal when it is new.
-- Rerun: the same problems stand already.
CREATE TEMPORARY TABLE element ON COMMIT DROP AS
WITH stated AS (
    SELECT
        'delivery' AS kind,
        delivery.id,
        delivery.campaign_id,
        campaign.program_id,
        delivery.service_id,
        delivery.channel,
        coalesce(delivery.budget_id, campaign.budget_id, program.budget_id) AS budget_id,
        coalesce(delivery.commitment_level, campaign.commitment_level) AS chosen_level,
        campaign.budget_status <> 'being_edited' AS is_charged,
        delivery.is_template OR campaign.is_template AS is_template,
        coalesce(delivery.provisional_cost, broken_down.provisional) AS provisional,
        coalesce(delivery.real_cost, broken_down.real) AS real,
        coalesce(delivery.message_count, 0) AS message_count,
        0.00 AS day_count,
        delivery.message_count IS NOT NULL AND delivery.analysed_at <= calculation.as_of AS is_analysed,
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
    CROSS JOIN calculation
    INNER JOIN campaign.delivery AS delivery ON changed_delivery.id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    INNER JOIN campaign.program AS program ON campaign.program_id = program.id
    LEFT JOIN campaign.expense_line AS line ON delivery.id = line.delivery_id
    LEFT JOIN (
        SELECT
            breakdown.delivery_id,
            sum(breakdown.amount) FILTER (WHERE breakdown.kind = 'provisional') AS provisional,
            sum(breakdown.amount) FILTER (WHERE breakdown.kind = 'real') AS real
        FROM campaign.cost_breakdown AS breakdown
        INNER JOIN changed_delivery ON breakdown.delivery_id = changed_delivery.id
        GROUP BY breakdown.delivery_id
    ) AS broken_down ON delivery.id = broken_down.delivery_id
    UNION ALL
    SELECT
        'task' AS kind,
        task.id,
        task.campaign_id,
        program.id AS program_id,
        task.service_id,
        'task' AS channel,
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
        coalesce(stated.finished_at <= calculation.as_of, FALSE) AS is_finished,
        coalesce(stated.canceled_at <= calculation.as_of, FALSE)
        AND NOT coalesce(stated.finished_at <= calculation.as_of, FALSE) AS is_canceled,
        coalesce(campaign.minor_unit(budget.currency), 2) AS decimals,
        CASE WHEN invoice.id IS NOT NULL THEN invoice_line.amount END AS invoice_amount,
        invoice.paid_at
    FROM stated
    CROSS JOIN calculation
    LEFT JOIN campaign.budget AS budget ON stated.budget_id = budget.id
    LEFT JOIN campaign.invoice_line AS invoice_line ON stated.invoice_line_id = invoice_line.id
    LEFT JOIN campaign.invoice AS invoice
        ON
            invoice_line.invoice_id = invoice.id
            AND invoice.status = 'paid' AND calculation.as_of >= invoice.paid_at
)

SELECT
    judged.kind,
    judged.id,
    judged.campaign_id,
    judged.program_id,
    judged.service_id,
    judged.channel,
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
    judged.line_id,
    judged.old_calculated_cost
FROM judged;

ANALYZE element;

-- One row per cost structure: its bands as arrays, so that the band of a count is found by bisection.
-- base is the cost of all bands below, for graduated prices; words says it.
CREATE TEMPORARY TABLE tariff ON COMMIT DROP AS
WITH band AS (
    SELECT
        threshold.cost_structure_id,
        threshold.up_to,
        threshold.amount,
        coalesce(
            lag(threshold.up_to) OVER (PARTITION BY threshold.cost_structure_id ORDER BY threshold.up_to), 0
        ) AS above
    FROM campaign.cost_threshold AS threshold
),

filled AS (
    SELECT
        band.cost_structure_id,
        band.up_to,
        band.amount,
        sum((band.up_to - band.above) * band.amount) OVER upwards AS base,
        string_agg(
            format('%%s × %%s', band.up_to - band.above, campaign.plain_amount(band.amount)), ' + '
        ) OVER upwards AS words
    FROM band
    WINDOW upwards AS (PARTITION BY band.cost_structure_id ORDER BY band.up_to)
),

bands AS (
    SELECT
        filled.cost_structure_id,
        array_agg(filled.up_to ORDER BY filled.up_to) AS up_to,
        array_agg(filled.amount ORDER BY filled.up_to) AS amounts,
        array_agg(filled.base ORDER BY filled.up_to) AS bases,
        array_agg(filled.words || ' + ' ORDER BY filled.up_to) AS words
    FROM filled
    GROUP BY filled.cost_structure_id
)

SELECT
    structure.id AS cost_structure_id,
    structure.cost_type_id,
    CASE structure.basis WHEN 'per_message' THEN structure.method ELSE structure.basis END AS method,
    structure.amount,
    structure.batch_size,
    structure.whole_batches,
    coalesce(bands.up_to, '{}') AS up_to,
    array_append(coalesce(bands.amounts, '{}'), structure.beyond_amount) AS amounts,
    array_prepend(0.00, coalesce(bands.bases, '{}')) AS bases,
    array_prepend('', coalesce(bands.words, '{}')) AS words,
    array_prepend(0::bigint, coalesce(bands.up_to, '{}')) AS above
FROM campaign.cost_structure AS structure
LEFT JOIN bands ON structure.id = bands.cost_structure_id;

ANALYZE tariff;

-- One row per element that is to be split and cost type that counts for it; exact is null where the
-- structure gives no amount.
CREATE TEMPORARY TABLE priced ON COMMIT DROP AS
WITH selection AS (
    SELECT
        element.kind,
        element.id,
        element.line_id,
        element.decimals,
        element.message_count,
        element.day_count,
        selected.cost_type_id,
        selected.surcharge,
        selected.expense_category_id
    FROM element
    INNER JOIN campaign.delivery_selected_cost AS selected ON element.id = selected.delivery_id
    WHERE element.kind = 'delivery' AND element.is_split AND NOT element.keeps_split
    UNION ALL
    SELECT
        element.kind,
        element.id,
        element.line_id,
        element.decimals,
        element.message_count,
        element.day_count,
        selected.cost_type_id,
        selected.surcharge,
        selected.expense_category_id
    FROM element
    INNER JOIN campaign.task_selected_cost AS selected ON element.id = selected.task_id
    WHERE element.kind = 'task' AND element.is_split AND NOT element.keeps_split
),

banded AS (
    SELECT
        selection.*,
        tariff.cost_structure_id,
        tariff.method,
        tariff.amount,
        tariff.batch_size,
        tariff.whole_batches,
        tariff.up_to,
        tariff.amounts,
        tariff.bases,
        tariff.words,
        tariff.above,
        -- The upper bound belongs to its band: 100 messages are in 'up to 100'.
        width_bucket(selection.message_count - 1, tariff.up_to) + 1 AS band
    FROM selection
    LEFT JOIN tariff ON selection.cost_type_id = tariff.cost_type_id
)

SELECT
    banded.kind,
    banded.id,
    banded.line_id,
    banded.decimals,
    banded.cost_type_id,
    banded.cost_structure_id,
    banded.method,
    banded.message_count,
    banded.day_count,
    banded.surcharge,
    banded.expense_category_id,
    banded.amount,
    banded.batch_size,
    banded.whole_batches,
    banded.band,
    banded.up_to[banded.band] AS band_up_to,
    banded.above[banded.band] AS band_above,
    banded.amounts[banded.band] AS band_amount,
    banded.words[banded.band] AS band_words,
    CASE
        WHEN banded.method = 'fixed' THEN banded.amount
        WHEN banded.method = 'per_day' THEN banded.amount * banded.day_count
        WHEN banded.message_count = 0 AND banded.method IS NOT NULL THEN 0
        WHEN banded.method = 'linear' AND banded.whole_batches
            THEN banded.amount * div(banded.message_count + banded.batch_size - 1, banded.batch_size)
        WHEN banded.method = 'linear' AND banded.batch_size = 1 THEN banded.amount * banded.message_count
        -- Twenty decimals, so that the rounding to cents is that of the exact quotient.
        WHEN banded.method = 'linear'
            THEN round(banded.amount * banded.message_count, 20) / banded.batch_size
        WHEN banded.method = 'linear_by_threshold'
            THEN banded.amounts[banded.band] * banded.message_count
        WHEN banded.method = 'constant_by_threshold' THEN banded.amounts[banded.band]
        WHEN banded.method = 'graduated'
            THEN
                banded.bases[banded.band]
                + banded.amounts[banded.band] * (banded.message_count - banded.above[banded.band])
    END AS exact
FROM banded;

CREATE TEMPORARY TABLE problem ON COMMIT DROP AS
WITH found AS (
    SELECT
        priced.kind,
        priced.id,
        CASE
            WHEN priced.cost_structure_id IS NULL
                THEN format(
                    'the cost type ''%%s - %%s'' of the service ''%%s'' has no cost structure: '
                    'enter one, or select another cost type.',
                    category.label, cost_type.label, service.label
                )
            ELSE format(
                '%%s messages are more than the last threshold of the cost structure ''%%s'', '
                'which has no amount beyond it: enter that amount, or another threshold.',
                priced.message_count,
                coalesce(structure.label, category.label || ' - ' || cost_type.label)
            )
        END AS reason
    FROM priced
    INNER JOIN campaign.cost_type AS cost_type ON priced.cost_type_id = cost_type.id
    INNER JOIN campaign.cost_category AS category ON cost_type.cost_category_id = category.id
    INNER JOIN campaign.service AS service ON category.service_id = service.id
    LEFT JOIN campaign.cost_structure AS structure ON priced.cost_structure_id = structure.id
    WHERE priced.exact IS NULL
    UNION ALL
    SELECT
        element.kind,
        element.id,
        format(
            'its service ''%%s'' demands a cost type of the category ''%%s'', and none is selected: select one.',
            service.label, category.label
        ) AS reason
    FROM element
    INNER JOIN campaign.cost_category AS category
        ON
            element.service_id = category.service_id AND element.channel = category.channel
            AND category.selection_required
    INNER JOIN campaign.service AS service ON category.service_id = service.id
    WHERE
        element.is_split AND NOT element.keeps_split
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.cost_type AS cost_type
            INNER JOIN priced ON cost_type.id = priced.cost_type_id
            WHERE
                cost_type.cost_category_id = category.id
                AND priced.kind = element.kind AND priced.id = element.id
        )
)

SELECT
    found.kind,
    found.id,
    element.campaign_id,
    format(
        'The cost of %%s ''%%s'' (%%s) cannot be calculated: %%s',
        found.kind,
        coalesce(delivery.label, task.label),
        coalesce(delivery.internal_name, task.internal_name),
        found.reason
    ) AS message
FROM found
INNER JOIN element ON found.kind = element.kind AND found.id = element.id
LEFT JOIN campaign.delivery AS delivery ON found.kind = 'delivery' AND found.id = delivery.id
LEFT JOIN campaign.task AS task ON found.kind = 'task' AND found.id = task.id;

-- What was mended.
DELETE FROM campaign.cost_problem AS stood
USING element
WHERE
    element.id = coalesce(stood.delivery_id, stood.task_id)
    AND element.kind = CASE WHEN stood.delivery_id IS NOT NULL THEN 'delivery' ELSE 'task' END
    AND NOT EXISTS (
        SELECT 1
        FROM problem
        WHERE problem.kind = element.kind AND problem.id = element.id AND problem.message = stood.message  -- noqa: RF01
    );

-- What is new.
WITH noted AS (
    INSERT INTO campaign.cost_problem (delivery_id, task_id, message, first_seen_at, run_id)
    SELECT
        CASE WHEN problem.kind = 'delivery' THEN problem.id END,
        CASE WHEN problem.kind = 'task' THEN problem.id END,
        problem.message,
        %(as_of)s::timestamptz,
        %(run_id)s::text
    FROM problem
    ON CONFLICT DO NOTHING
    RETURNING delivery_id, task_id, message
)

INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, task_id, message)
SELECT
    'error',
    %(dag_id)s::text,
    %(run_id)s::text,
    element.campaign_id,
    noted.delivery_id,
    noted.task_id,
    noted.message
FROM noted
INNER JOIN element
    ON
        coalesce(noted.delivery_id, noted.task_id) = element.id
        AND CASE WHEN noted.delivery_id IS NULL THEN 'task' ELSE 'delivery' END = element.kind;

DELETE FROM element
USING problem
WHERE element.kind = problem.kind AND element.id = problem.id;

CREATE TEMPORARY TABLE new_item ON COMMIT DROP AS
SELECT
    priced.kind AS element_kind,
    priced.id AS element_id,
    priced.line_id,
    priced.cost_structure_id,
    'calculated' AS kind,
    CASE priced.method
        WHEN 'fixed' THEN 1
        WHEN 'per_day' THEN priced.day_count
        ELSE priced.message_count
    END AS quantity,
    round(priced.exact, priced.decimals) AS amount,
    CASE
        WHEN priced.method = 'fixed' THEN 'fixed ' || campaign.plain_amount(priced.amount)
        WHEN priced.method = 'per_day'
            THEN concat(trim_scale(priced.day_count), ' days × ', campaign.plain_amount(priced.amount))
        WHEN priced.message_count = 0 THEN 'no messages'
        WHEN priced.method = 'linear' AND priced.whole_batches
            THEN concat(
                div(priced.message_count + priced.batch_size - 1, priced.batch_size), ' started batches of ',
                priced.batch_size, ' (', priced.message_count, ') × ', campaign.plain_amount(priced.amount)
            )
        WHEN priced.method = 'linear' AND priced.batch_size = 1
            THEN concat(priced.message_count, ' × ', campaign.plain_amount(priced.amount))
        WHEN priced.method = 'linear'
            THEN concat(
                priced.message_count, ' / ', priced.batch_size, ' × ', campaign.plain_amount(priced.amount)
            )
        ELSE concat(
            'band ', priced.band_above + 1,
            coalesce(' to ' || priced.band_up_to, ' and more'), ': ',
            CASE WHEN priced.method = 'graduated' THEN priced.band_words END,
            CASE
                WHEN priced.method = 'constant_by_threshold' THEN priced.message_count || ' messages for '
                WHEN priced.method = 'graduated' THEN priced.message_count - priced.band_above || ' × '
                ELSE priced.message_count || ' × '
            END,
            campaign.plain_amount(priced.band_amount)
        )
    END
    || CASE
        WHEN round(priced.exact, priced.decimals) = priced.exact
            THEN ' = ' || round(priced.exact, priced.decimals)
        ELSE concat(
            ' = ', campaign.plain_amount(round(priced.exact, 10)),
            ', rounded ', round(priced.exact, priced.decimals)
        )
    END AS explanation,
    priced.expense_category_id
FROM priced
WHERE
    NOT EXISTS (
        SELECT 1 FROM problem
        WHERE problem.kind = priced.kind AND problem.id = priced.id
    )
UNION ALL
SELECT
    priced.kind AS element_kind,
    priced.id AS element_id,
    priced.line_id,
    priced.cost_structure_id,
    'surcharge' AS kind,
    1 AS quantity,
    round(priced.surcharge, priced.decimals) AS amount,
    CASE
        WHEN round(priced.surcharge, priced.decimals) = priced.surcharge
            THEN 'surcharge ' || round(priced.surcharge, priced.decimals)
        ELSE format('surcharge %%s, rounded %%s', priced.surcharge, round(priced.surcharge, priced.decimals))
    END AS explanation,
    priced.expense_category_id
FROM priced
WHERE
    priced.surcharge <> 0
    AND NOT EXISTS (
        SELECT 1 FROM problem
        WHERE problem.kind = priced.kind AND problem.id = priced.id
    );

ANALYZE new_item;

SELECT
    (SELECT count(*) FROM element) AS elements_calculated,
    (SELECT count(DISTINCT concat(problem.kind, problem.id)) FROM problem) AS elements_not_calculated;
