-- Tell the owner of a budget what is wrong with it: charged beyond its allocation, categories that do not add
-- up to the allocated amount, elements that could not be calculated.
--
-- Grain: one notification per crossing of an allocation and person; one per run, budget and person for what
-- is newly wrong otherwise. A budget that is back within its allocation can cross it again. Rerun: the
-- crossing stands in budget_alert, a problem told has told_at. A run for the past tells nothing.
DELETE FROM campaign.budget_alert AS alert
USING campaign.budget_position AS position
WHERE alert.budget_id = position.budget_id AND position.available >= 0 AND NOT %(is_past)s::boolean;

WITH crossed AS (
    INSERT INTO campaign.budget_alert (budget_id, amount_over, raised_at, run_id)
    SELECT
        position.budget_id,
        -position.available,
        %(as_of)s::timestamptz,
        %(run_id)s::text
    FROM campaign.budget_position AS position
    WHERE position.available < 0 AND NOT %(is_past)s::boolean
    ON CONFLICT (budget_id) DO NOTHING
    RETURNING budget_id, amount_over
),

-- What took it there, element by element over all expense categories: what this run charged to it; failing that (the
-- allocation was lowered), all. The largest first.
element AS (
    SELECT
        line.budget_id,
        line.campaign_id,
        line.delivery_id,
        line.task_id,
        line.level,
        sum(line.amount) AS amount,
        coalesce(bool_or(line.run_id = %(run_id)s::text), FALSE) AS is_of_this_run
    FROM crossed
    INNER JOIN campaign.budget_charge AS charge ON crossed.budget_id = charge.budget_id AND charge.level <> 'planned'
    INNER JOIN campaign.cost_line AS line
        ON
            charge.budget_id = line.budget_id AND charge.level = line.level
            AND charge.campaign_id = line.campaign_id
            AND charge.expense_category_id IS NOT DISTINCT FROM line.expense_category_id
    GROUP BY line.budget_id, line.campaign_id, line.delivery_id, line.task_id, line.level
    UNION ALL
    SELECT
        line.budget_id,
        NULL AS campaign_id,
        NULL AS delivery_id,
        line.task_id,
        line.level,
        sum(line.amount) AS amount,
        coalesce(bool_or(line.run_id = %(run_id)s::text), FALSE) AS is_of_this_run
    FROM crossed
    INNER JOIN campaign.cost_line AS line ON crossed.budget_id = line.budget_id
    WHERE line.campaign_id IS NULL AND line.level <> 'planned'
    GROUP BY line.budget_id, line.task_id, line.level
),

led AS (
    SELECT
        element.budget_id,
        element.level,
        element.amount,
        element.is_of_this_run,
        campaign.label AS campaign,
        coalesce(delivery.label, task.label, campaign.label) AS label,
        CASE
            WHEN element.delivery_id IS NOT NULL THEN 'delivery'
            WHEN element.task_id IS NOT NULL THEN 'task'
            ELSE 'campaign'
        END AS element,
        row_number() OVER (
            PARTITION BY element.budget_id
            ORDER BY
                element.is_of_this_run DESC, element.amount DESC,
                element.campaign_id ASC, element.delivery_id ASC, element.task_id ASC
        ) AS place,
        bool_or(element.is_of_this_run) OVER (PARTITION BY element.budget_id) AS has_lines_of_this_run
    FROM element
    LEFT JOIN campaign.delivery AS delivery ON element.delivery_id = delivery.id
    LEFT JOIN campaign.task AS task ON element.task_id = task.id
    LEFT JOIN campaign.campaign AS campaign ON element.campaign_id = campaign.id
),

named AS (
    SELECT
        led.budget_id,
        jsonb_agg(
            jsonb_build_object(
                'element', led.element,
                'label', led.label,
                'campaign', led.campaign,
                'level', led.level,
                'amount', led.amount::text
            )
            ORDER BY led.place
        ) FILTER (WHERE led.place <= 20) AS lines,
        greatest(count(*) - 20, 0) AS lines_more
    FROM led
    WHERE led.is_of_this_run OR NOT led.has_lines_of_this_run
    GROUP BY led.budget_id
),

told AS (
    INSERT INTO campaign.notification (kind, dedupe_key, source, staff_id, recipient_email, facts)
    SELECT
        'budget_overrun',
        concat_ws(
            ':', 'budget_overrun', crossed.budget_id, recipient.staff_id,
            extract(EPOCH FROM %(as_of)s::timestamptz), %(run_id)s::text
        ),
        %(dag_id)s::text,
        recipient.staff_id,
        recipient.email,
        jsonb_build_object(
            'budget', budget.label,
            'budget_name', budget.internal_name,
            'currency', budget.currency,
            'amount_over', crossed.amount_over::text,
            'allocated', position.allocated::text,
            'planned', position.planned::text,
            'reserved', position.reserved::text,
            'committed', position.committed::text,
            'spent', position.spent::text,
            'invoiced', position.invoiced::text,
            'as_of', %(as_of)s::timestamptz,
            'lines', coalesce(named.lines, '[]'),
            'lines_more', coalesce(named.lines_more, 0)
        )
    FROM crossed
    INNER JOIN campaign.budget AS budget ON crossed.budget_id = budget.id
    INNER JOIN campaign.budget_position AS position ON crossed.budget_id = position.budget_id
    LEFT JOIN named ON crossed.budget_id = named.budget_id
    CROSS JOIN LATERAL campaign.budget_recipients(crossed.budget_id) AS recipient
    ON CONFLICT (dedupe_key) DO NOTHING
    RETURNING id
),

noted AS (
    INSERT INTO campaign.journal (level, source, run_id, message)
    SELECT
        'warning',
        %(dag_id)s::text,
        %(run_id)s::text,
        format(
            'Budget ''%%s'' (%%s) is charged %%s %%s beyond its allocation of %%s.%%s',
            budget.label, budget.internal_name, crossed.amount_over, budget.currency, budget.allocated,
            coalesce(
                (
                    SELECT
                        ' Among what took it there: '
                        || string_agg(
                            format('%%s ''%%s'' %%s', led.element, led.label, led.amount), ', ' ORDER BY led.place
                        ) || '.'
                    FROM led
                    WHERE
                        led.budget_id = crossed.budget_id AND led.place <= 5
                        AND (led.is_of_this_run OR NOT led.has_lines_of_this_run)
                ),
                ''
            )
        )
    FROM crossed
    INNER JOIN campaign.budget AS budget ON crossed.budget_id = budget.id
    RETURNING id
)

SELECT
    (SELECT count(*) FROM noted) AS budgets_overrun,
    (SELECT count(*) FROM told) AS owners_told;

-- Categories that do not add up.
CREATE TEMPORARY TABLE unbalanced ON COMMIT DROP AS
SELECT
    budget.id AS budget_id,
    format(
        'The categories of budget ''%%s'' (%%s) add up to %%s %%s, but %%s is allocated to it: '
        'correct one or the other.',
        budget.label, budget.internal_name, sum(allocation.allocated), budget.currency, budget.allocated
    ) AS message
FROM campaign.budget AS budget
INNER JOIN campaign.budget_category AS allocation ON budget.id = allocation.budget_id
WHERE NOT %(is_past)s::boolean
GROUP BY budget.id
HAVING sum(allocation.allocated) <> budget.allocated;

DELETE FROM campaign.cost_problem AS stood
WHERE
    stood.budget_id IS NOT NULL AND NOT %(is_past)s::boolean
    AND NOT EXISTS (
        SELECT 1
        FROM unbalanced
        WHERE unbalanced.budget_id = stood.budget_id AND unbalanced.message = stood.message
    );

WITH noted AS (
    INSERT INTO campaign.cost_problem (budget_id, message, first_seen_at, run_id)
    SELECT
        unbalanced.budget_id,
        unbalanced.message,
        %(as_of)s::timestamptz,
        %(run_id)s::text
    FROM unbalanced
    ON CONFLICT DO NOTHING
    RETURNING message
)

INSERT INTO campaign.journal (level, source, run_id, message)
SELECT
    'warning',
    %(dag_id)s::text,
    %(run_id)s::text,
    noted.message
FROM noted;

-- What nobody has been told yet, to the owner of the budget that is or would be charged.
WITH told_now AS (
    UPDATE campaign.cost_problem
    SET told_at = %(as_of)s::timestamptz
    WHERE cost_problem.told_at IS NULL AND NOT %(is_past)s::boolean
    RETURNING
        cost_problem.id, cost_problem.budget_id, cost_problem.delivery_id, cost_problem.task_id,
        cost_problem.message
),

placed AS (
    SELECT
        told_now.message,
        coalesce(
            told_now.budget_id, delivery.budget_id, task.budget_id, campaign.budget_id, program.budget_id
        ) AS budget_id,
        row_number() OVER (
            PARTITION BY
                coalesce(
                    told_now.budget_id, delivery.budget_id, task.budget_id, campaign.budget_id, program.budget_id
                )
            ORDER BY told_now.id
        ) AS place
    FROM told_now
    LEFT JOIN campaign.delivery AS delivery ON told_now.delivery_id = delivery.id
    LEFT JOIN campaign.task AS task ON told_now.task_id = task.id
    LEFT JOIN campaign.campaign AS campaign ON coalesce(delivery.campaign_id, task.campaign_id) = campaign.id
    LEFT JOIN campaign.program AS program ON coalesce(campaign.program_id, task.program_id) = program.id
),

listed AS (
    SELECT
        placed.budget_id,
        jsonb_agg(placed.message ORDER BY placed.place) FILTER (WHERE placed.place <= 50) AS problems,
        greatest(count(*) - 50, 0) AS problems_more
    FROM placed
    GROUP BY placed.budget_id
),

told AS (
    INSERT INTO campaign.notification (kind, dedupe_key, source, staff_id, recipient_email, facts)
    SELECT
        'budget_problems',
        concat_ws(
            ':', 'budget_problems', coalesce(listed.budget_id, 0), recipient.staff_id,
            extract(EPOCH FROM %(as_of)s::timestamptz), %(run_id)s::text
        ),
        %(dag_id)s::text,
        recipient.staff_id,
        recipient.email,
        jsonb_build_object(
            'budget', budget.label,
            'problems', listed.problems,
            'problems_more', listed.problems_more,
            'as_of', %(as_of)s::timestamptz
        )
    FROM listed
    LEFT JOIN campaign.budget AS budget ON listed.budget_id = budget.id
    CROSS JOIN LATERAL campaign.budget_recipients(listed.budget_id) AS recipient
    ON CONFLICT (dedupe_key) DO NOTHING
    RETURNING id
)

SELECT
    (SELECT count(*) FROM told_now) AS problems_told,
    (SELECT count(*) FROM campaign.cost_problem) AS problems_standing;
