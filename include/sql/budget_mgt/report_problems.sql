-- Report the elements that cannot be calculated, with the names a person needs to mend them, and leave them out.
--
-- They leave the work tables element and new_item, so they keep what they had; what is wrong stands in cost_problem,
-- and is in the journal when it is new. Rerun: the same problems stand already.
CREATE TEMPORARY TABLE problem ON COMMIT DROP AS
WITH found AS (
    SELECT
        new_item.line_id,
        CASE
            WHEN new_item.cost_structure_id IS NULL
                THEN format(
                    'the cost type ''%%s - %%s'' of the service ''%%s'' has no cost structure: '
                    'enter one, or select another cost type.',
                    category.label, cost_type.label, service.label
                )
            WHEN new_item.explanation IS NOT NULL
                THEN format(
                    'its cost by ''%%s'' is more than can be right, %%s: '
                    'correct the cost structure, or what it counts.',
                    coalesce(structure.label, category.label || ' - ' || cost_type.label), new_item.explanation
                )
            ELSE format(
                '%%s messages are more than the last threshold of the cost structure ''%%s'', '
                'which has no amount beyond it: enter that amount, or another threshold.',
                new_item.quantity,
                coalesce(structure.label, category.label || ' - ' || cost_type.label)
            )
        END AS reason
    FROM new_item
    INNER JOIN campaign.cost_type AS cost_type ON new_item.cost_type_id = cost_type.id
    INNER JOIN campaign.cost_category AS category ON cost_type.cost_category_id = category.id
    INNER JOIN campaign.service AS service ON category.service_id = service.id
    LEFT JOIN campaign.cost_structure AS structure ON new_item.cost_structure_id = structure.id
    WHERE new_item.amount IS NULL
    UNION ALL
    SELECT
        element.line_id,
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
            INNER JOIN new_item ON cost_type.id = new_item.cost_type_id
            WHERE cost_type.cost_category_id = category.id AND new_item.line_id = element.line_id
        )
)

SELECT
    found.line_id,
    element.kind,
    element.id,
    element.campaign_id,
    format(
        'The cost of %%s ''%%s'' (%%s) cannot be calculated: %%s',
        element.kind,
        coalesce(delivery.label, task.label),
        coalesce(delivery.internal_name, task.internal_name),
        found.reason
    ) AS message
FROM found
INNER JOIN element ON found.line_id = element.line_id
LEFT JOIN campaign.delivery AS delivery ON element.kind = 'delivery' AND element.id = delivery.id
LEFT JOIN campaign.task AS task ON element.kind = 'task' AND element.id = task.id;

-- What was mended.
DELETE FROM campaign.cost_problem AS stood
USING element
WHERE
    element.id = coalesce(stood.delivery_id, stood.task_id)
    AND element.kind = CASE WHEN stood.delivery_id IS NOT NULL THEN 'delivery' ELSE 'task' END
    AND NOT EXISTS (
        SELECT 1
        FROM problem
        WHERE problem.line_id = element.line_id AND problem.message = stood.message  -- noqa: RF01
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
    coalesce(delivery.campaign_id, task.campaign_id),
    noted.delivery_id,
    noted.task_id,
    noted.message
FROM noted
LEFT JOIN campaign.delivery AS delivery ON noted.delivery_id = delivery.id
LEFT JOIN campaign.task AS task ON noted.task_id = task.id;

DELETE FROM new_item
USING problem
WHERE new_item.line_id = problem.line_id;

DELETE FROM element
USING problem
WHERE element.line_id = problem.line_id;

SELECT
    (SELECT count(*) FROM element) AS elements_calculated,
    (SELECT count(DISTINCT problem.line_id) FROM problem) AS elements_not_calculated;
