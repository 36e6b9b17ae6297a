-- Write the expense lines of the changed deliveries and tasks, their split, and the calculated cost of each.
--
-- Grain: one expense_line per delivery or task that has a service, a cost entered or selected, or is
-- finished; one expense_item per cost structure and kind. Fills the work table split (cost per element).
-- Rerun: only what differs is written.
CREATE TEMPORARY TABLE item_change ON COMMIT DROP AS
WITH stored AS (
    SELECT
        item.id,
        element.kind AS element_kind,
        element.id AS element_id,
        item.expense_line_id,
        item.cost_structure_id,
        item.kind,
        item.quantity,
        item.amount,
        item.explanation,
        item.expense_category_id
    FROM element
    INNER JOIN campaign.expense_item AS item ON element.line_id = item.expense_line_id
    WHERE NOT (element.is_split AND element.keeps_split)
)

SELECT
    stored.id AS item_id,
    coalesce(new_item.element_kind, stored.element_kind) AS element_kind,
    coalesce(new_item.element_id, stored.element_id) AS element_id,
    new_item.cost_structure_id,
    new_item.kind,
    new_item.quantity,
    new_item.amount,
    new_item.explanation,
    new_item.expense_category_id
FROM new_item
FULL JOIN stored
    ON
        new_item.line_id = stored.expense_line_id
        AND new_item.cost_structure_id = stored.cost_structure_id
        AND new_item.kind = stored.kind
WHERE
    (new_item.quantity, new_item.amount, new_item.explanation, new_item.expense_category_id)
    IS DISTINCT FROM (stored.quantity, stored.amount, stored.explanation, stored.expense_category_id)
    OR stored.id IS NULL OR new_item.element_id IS NULL;

CREATE TEMPORARY TABLE split ON COMMIT DROP AS
SELECT
    new_item.element_kind AS kind,
    new_item.element_id AS id,
    sum(new_item.amount) AS amount
FROM new_item
GROUP BY new_item.element_kind, new_item.element_id
UNION ALL
SELECT
    element.kind,
    element.id,
    sum(item.amount) AS amount
FROM element
INNER JOIN campaign.expense_item AS item ON element.line_id = item.expense_line_id
WHERE element.is_split AND element.keeps_split
GROUP BY element.kind, element.id;

CREATE TEMPORARY TABLE costed ON COMMIT DROP AS
SELECT
    element.*,  -- noqa: AM04
    CASE
        WHEN element.is_canceled OR element.is_template THEN 0.00
        WHEN element.is_split THEN coalesce(split.amount, 0.00)
        ELSE coalesce(element.provisional, 0.00)
    END AS cost_total,
    NOT element.is_template AND (
        element.service_id IS NOT NULL OR element.is_finished OR element.invoice_line_id IS NOT NULL
        OR element.provisional IS NOT NULL OR element.real IS NOT NULL
        OR (
            element.kind = 'delivery'
            AND EXISTS (
                SELECT 1 FROM campaign.delivery_cost AS selection
                WHERE selection.delivery_id = element.id
            )
        )
        OR (
            element.kind = 'task'
            AND EXISTS (
                SELECT 1 FROM campaign.task_cost AS selection
                WHERE selection.task_id = element.id
            )
        )
    ) AS has_line
FROM element
LEFT JOIN split ON element.kind = split.kind AND element.id = split.id;

ANALYZE costed;

DELETE FROM campaign.expense_line AS line
USING costed
WHERE line.id = costed.line_id AND NOT costed.has_line;

CREATE TEMPORARY TABLE wanted ON COMMIT DROP AS
SELECT
    costed.*,  -- noqa: AM04
    CASE WHEN costed.is_split AND costed.is_finished THEN %(as_of)s::timestamptz END AS frozen_at,
    changed.element_id IS NOT NULL AS has_new_split
FROM costed
LEFT JOIN (  -- noqa: ST05
    SELECT DISTINCT
        item_change.element_kind,
        item_change.element_id
    FROM item_change
) AS changed ON costed.kind = changed.element_kind AND costed.id = changed.element_id
WHERE costed.has_line;

ANALYZE wanted;

MERGE INTO campaign.expense_line AS line
USING wanted
    ON wanted.line_id = line.id
WHEN MATCHED AND (
    wanted.has_new_split
    OR (wanted.is_split AND line.computed_at < wanted.analysed_at)
    OR (wanted.frozen_at IS NULL) <> (line.frozen_at IS NULL)
    OR (
        wanted.budget_id, wanted.campaign_id, wanted.provisional, wanted.cost_total, wanted.real,
        wanted.charged_at
    ) IS DISTINCT FROM (
        line.budget_id, line.campaign_id, line.provisional_cost, line.cost_total, line.real_cost,
        line.charged_at
    )
) THEN
    UPDATE
        SET
            budget_id = wanted.budget_id,
            campaign_id = wanted.campaign_id,
            provisional_cost = wanted.provisional,
            cost_total = wanted.cost_total,
            real_cost = wanted.real,
            charged_at = wanted.charged_at,
            computed_at = %(as_of)s::timestamptz,
            run_id = %(run_id)s::text,
            frozen_at = CASE WHEN wanted.frozen_at IS NULL THEN NULL ELSE coalesce(line.frozen_at, wanted.frozen_at) END
WHEN NOT MATCHED THEN INSERT (
    budget_id, campaign_id, delivery_id, task_id, provisional_cost, cost_total, real_cost, charged_at,
    computed_at, run_id, frozen_at
) VALUES (
    wanted.budget_id,
    wanted.campaign_id,
    CASE WHEN wanted.kind = 'delivery' THEN wanted.id END,
    CASE WHEN wanted.kind = 'task' THEN wanted.id END,
    wanted.provisional,
    wanted.cost_total,
    wanted.real,
    wanted.charged_at,
    %(as_of)s::timestamptz,
    %(run_id)s::text,
    wanted.frozen_at
);

DELETE FROM campaign.expense_item AS item
USING item_change
WHERE item.id = item_change.item_id AND item_change.kind IS NULL;

UPDATE campaign.expense_item AS item
SET
    quantity = item_change.quantity,
    amount = item_change.amount,
    explanation = item_change.explanation,
    expense_category_id = item_change.expense_category_id
FROM item_change
WHERE item.id = item_change.item_id AND item_change.kind IS NOT NULL;

INSERT INTO campaign.expense_item (
    expense_line_id, cost_structure_id, kind, quantity, amount, explanation, expense_category_id
)
SELECT
    line.id,
    item_change.cost_structure_id,
    item_change.kind,
    item_change.quantity,
    item_change.amount,
    item_change.explanation,
    item_change.expense_category_id
FROM item_change
INNER JOIN campaign.expense_line AS line ON item_change.element_id = line.delivery_id
WHERE item_change.item_id IS NULL AND item_change.element_kind = 'delivery'
UNION ALL
SELECT
    line.id,
    item_change.cost_structure_id,
    item_change.kind,
    item_change.quantity,
    item_change.amount,
    item_change.explanation,
    item_change.expense_category_id
FROM item_change
INNER JOIN campaign.expense_line AS line ON item_change.element_id = line.task_id
WHERE item_change.item_id IS NULL AND item_change.element_kind = 'task';

UPDATE campaign.delivery AS delivery
SET calculated_cost = coalesce(costed.real, costed.cost_total)
FROM costed
WHERE
    costed.kind = 'delivery' AND costed.id = delivery.id AND NOT costed.is_template
    AND delivery.calculated_cost IS DISTINCT FROM coalesce(costed.real, costed.cost_total);

UPDATE campaign.task AS task
SET calculated_cost = coalesce(costed.real, costed.cost_total)
FROM costed
WHERE
    costed.kind = 'task' AND costed.id = task.id AND NOT costed.is_template
    AND task.calculated_cost IS DISTINCT FROM coalesce(costed.real, costed.cost_total);

-- A template costs nothing, whatever it cost before it became one.
UPDATE campaign.delivery AS delivery
SET calculated_cost = NULL
FROM costed
WHERE
    costed.kind = 'delivery' AND costed.id = delivery.id AND costed.is_template
    AND delivery.calculated_cost IS NOT NULL;

UPDATE campaign.task AS task
SET calculated_cost = NULL
FROM costed
WHERE
    costed.kind = 'task' AND costed.id = task.id AND costed.is_template AND task.calculated_cost IS NOT NULL;

SELECT (SELECT count(*) FROM item_change) AS items_changed;
