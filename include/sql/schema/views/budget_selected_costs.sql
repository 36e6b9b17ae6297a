-- The cost types that count for a delivery or task: those selected, and in each category of its service
-- (and channel) where none is selected, those selected by default.
--
-- What a person selects in a category takes the place of its defaults.
CREATE OR REPLACE VIEW campaign.delivery_selected_cost AS
SELECT
    selection.delivery_id,
    selection.cost_type_id,
    selection.surcharge,
    selection.expense_category_id,
    FALSE AS is_default
FROM campaign.delivery_cost AS selection
UNION ALL
SELECT
    delivery.id AS delivery_id,
    cost_type.id AS cost_type_id,
    0.00 AS surcharge,
    NULL AS expense_category_id,
    TRUE AS is_default
FROM campaign.delivery AS delivery
INNER JOIN campaign.cost_category AS category
    ON delivery.service_id = category.service_id AND delivery.channel = category.channel
INNER JOIN campaign.cost_type AS cost_type
    ON category.id = cost_type.cost_category_id AND cost_type.selected_by_default
WHERE NOT EXISTS (
    SELECT 1
    FROM campaign.delivery_cost AS chosen
    INNER JOIN campaign.cost_type AS chosen_type ON chosen.cost_type_id = chosen_type.id
    WHERE chosen.delivery_id = delivery.id AND chosen_type.cost_category_id = category.id
);

CREATE OR REPLACE VIEW campaign.task_selected_cost AS
SELECT
    selection.task_id,
    selection.cost_type_id,
    selection.surcharge,
    selection.expense_category_id,
    FALSE AS is_default
FROM campaign.task_cost AS selection
UNION ALL
SELECT
    task.id AS task_id,
    cost_type.id AS cost_type_id,
    0.00 AS surcharge,
    NULL AS expense_category_id,
    TRUE AS is_default
FROM campaign.task AS task
INNER JOIN campaign.cost_category AS category
    ON task.service_id = category.service_id AND category.channel = 'task'
INNER JOIN campaign.cost_type AS cost_type
    ON category.id = cost_type.cost_category_id AND cost_type.selected_by_default
WHERE NOT EXISTS (
    SELECT 1
    FROM campaign.task_cost AS chosen
    INNER JOIN campaign.cost_type AS chosen_type ON chosen.cost_type_id = chosen_type.id
    WHERE chosen.task_id = task.id AND chosen_type.cost_category_id = category.id
);

-- The categories in which a cost type must be selected for a delivery, and none is: what an analysis fails on.
CREATE OR REPLACE FUNCTION campaign.missing_cost_categories(delivery_id bigint) RETURNS text[]
LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(category.label ORDER BY category.label), '{}')
    FROM campaign.delivery AS delivery
    INNER JOIN campaign.cost_category AS category
        ON
            delivery.service_id = category.service_id AND delivery.channel = category.channel
            AND category.selection_required
    WHERE
        delivery.id = $1
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.delivery_selected_cost AS selected
            INNER JOIN campaign.cost_type AS cost_type ON selected.cost_type_id = cost_type.id
            WHERE selected.delivery_id = delivery.id AND cost_type.cost_category_id = category.id
        )
$$;
