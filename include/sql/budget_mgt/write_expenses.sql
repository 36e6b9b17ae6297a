-- Write the calculated cost of the changed deliveries and tasks, and their expense lines.
--
-- Grain: one expense_line per delivery or task that has a service, a cost entered or selected, or is
-- finished. Fills the work tables share (the split by expense category), costed (cost per element) and item_change
-- (what is to be written of the splits that stand). Rerun: only what differs is written.
CREATE TEMPORARY TABLE item_change ON COMMIT DROP AS
WITH stored AS (
    SELECT
        item.expense_line_id,
        item.cost_structure_id,
        item.kind,
        item.quantity,
        item.amount,
        item.explanation,
        item.expense_category_id
    FROM element
    INNER JOIN campaign.expense_item AS item ON element.line_id = item.expense_line_id
    WHERE NOT element.is_new AND NOT (element.is_split AND element.keeps_split)
),

wanted AS (
    SELECT
        new_item.line_id,
        new_item.cost_structure_id,
        new_item.kind,
        new_item.quantity,
        new_item.amount,
        new_item.explanation,
        new_item.expense_category_id
    FROM new_item
    WHERE NOT new_item.is_new
)

SELECT
    coalesce(wanted.line_id, stored.expense_line_id) AS line_id,
    coalesce(wanted.cost_structure_id, stored.cost_structure_id) AS cost_structure_id,
    coalesce(wanted.kind, stored.kind) AS kind,
    wanted.quantity,
    wanted.amount,
    wanted.explanation,
    wanted.expense_category_id,
    stored.expense_line_id IS NOT NULL AS is_stored
FROM wanted
FULL JOIN stored
    ON
        wanted.line_id = stored.expense_line_id
        AND wanted.cost_structure_id = stored.cost_structure_id
        AND wanted.kind = stored.kind
WHERE
    (wanted.quantity, wanted.amount, wanted.explanation, wanted.expense_category_id)
    IS DISTINCT FROM (stored.quantity, stored.amount, stored.explanation, stored.expense_category_id);

CREATE TEMPORARY TABLE share ON COMMIT DROP AS
SELECT
    new_item.line_id,
    new_item.expense_category_id,
    sum(new_item.amount) AS amount
FROM new_item
GROUP BY new_item.line_id, new_item.expense_category_id
UNION ALL
SELECT
    item.expense_line_id AS line_id,
    item.expense_category_id,
    sum(item.amount) AS amount
FROM element
INNER JOIN campaign.expense_item AS item ON element.line_id = item.expense_line_id
WHERE element.is_split AND element.keeps_split
GROUP BY item.expense_line_id, item.expense_category_id;

CREATE TEMPORARY TABLE costed ON COMMIT DROP AS
WITH split AS (
    SELECT
        share.line_id,
        sum(share.amount) AS amount
    FROM share
    GROUP BY share.line_id
),

-- What makes an expense line by its selection alone.
selected AS (
    SELECT DISTINCT element.line_id
    FROM element
    INNER JOIN campaign.delivery_cost AS selection ON element.id = selection.delivery_id
    WHERE element.kind = 'delivery' AND element.service_id IS NULL
    UNION ALL
    SELECT DISTINCT element.line_id
    FROM element
    INNER JOIN campaign.task_cost AS selection ON element.id = selection.task_id
    WHERE element.kind = 'task' AND element.service_id IS NULL
)

SELECT
    element.*,  -- noqa: AM04
    CASE
        WHEN element.is_canceled OR element.is_template THEN 0.00
        WHEN element.is_split THEN coalesce(split.amount, 0.00)
        ELSE coalesce(element.provisional, 0.00)
    END AS cost_total,
    CASE WHEN element.is_split AND element.is_finished THEN %(as_of)s::timestamptz END AS frozen_at,
    NOT element.is_template AND (
        element.service_id IS NOT NULL OR element.is_finished OR element.invoice_line_id IS NOT NULL
        OR element.provisional IS NOT NULL OR element.real IS NOT NULL OR selected.line_id IS NOT NULL
    ) AS has_line
FROM element
LEFT JOIN split ON element.line_id = split.line_id
LEFT JOIN selected ON element.line_id = selected.line_id;

ANALYZE share (line_id);
ANALYZE item_change (line_id, is_stored);
ANALYZE costed (line_id, kind, id, is_new, level);

-- A template costs nothing, whatever it cost before it became one.
UPDATE campaign.delivery AS delivery
SET calculated_cost = CASE WHEN NOT costed.is_template THEN coalesce(costed.real, costed.cost_total) END
FROM costed
WHERE
    costed.kind = 'delivery' AND costed.id = delivery.id
    AND costed.old_calculated_cost
    IS DISTINCT FROM CASE WHEN NOT costed.is_template THEN coalesce(costed.real, costed.cost_total) END;

UPDATE campaign.task AS task
SET calculated_cost = CASE WHEN NOT costed.is_template THEN coalesce(costed.real, costed.cost_total) END
FROM costed
WHERE
    costed.kind = 'task' AND costed.id = task.id
    AND costed.old_calculated_cost
    IS DISTINCT FROM CASE WHEN NOT costed.is_template THEN coalesce(costed.real, costed.cost_total) END;

-- Its items go with it.
DELETE FROM campaign.expense_line AS line
USING costed
WHERE NOT costed.is_new AND line.id = costed.line_id AND NOT costed.has_line;

UPDATE campaign.expense_line AS line
SET
    budget_id = costed.budget_id,
    campaign_id = costed.campaign_id,
    provisional_cost = costed.provisional,
    cost_total = costed.cost_total,
    real_cost = costed.real,
    charged_at = costed.charged_at,
    computed_at = %(as_of)s::timestamptz,
    run_id = %(run_id)s::text,
    frozen_at = CASE WHEN costed.frozen_at IS NOT NULL THEN coalesce(line.frozen_at, costed.frozen_at) END
FROM costed
LEFT JOIN (SELECT DISTINCT item_change.line_id FROM item_change) AS changed ON costed.line_id = changed.line_id
WHERE
    NOT costed.is_new AND costed.has_line AND line.id = costed.line_id
    AND (
        changed.line_id IS NOT NULL
        OR (costed.is_split AND line.computed_at < costed.analysed_at)
        OR (costed.frozen_at IS NULL) <> (line.frozen_at IS NULL)
        OR (
            costed.budget_id, costed.campaign_id, costed.provisional, costed.cost_total, costed.real,
            costed.charged_at
        ) IS DISTINCT FROM (
            line.budget_id, line.campaign_id, line.provisional_cost, line.cost_total, line.real_cost,
            line.charged_at
        )
    );

INSERT INTO campaign.expense_line (
    id, budget_id, campaign_id, delivery_id, task_id, provisional_cost, cost_total, real_cost, charged_at,
    computed_at, run_id, frozen_at
)
SELECT
    costed.line_id,
    costed.budget_id,
    costed.campaign_id,
    CASE WHEN costed.kind = 'delivery' THEN costed.id END,
    CASE WHEN costed.kind = 'task' THEN costed.id END,
    costed.provisional,
    costed.cost_total,
    costed.real,
    costed.charged_at,
    %(as_of)s::timestamptz,
    %(run_id)s::text,
    costed.frozen_at
FROM costed
WHERE costed.is_new AND costed.has_line;

-- The approvals that a new split concerns. Triggers do this for lines that stand, not for new ones: for a trigger over
-- the rows of a statement, PostgreSQL keeps a copy of each.
INSERT INTO campaign.approval_queue (delivery_id, due_at)
SELECT
    costed.id,
    '-infinity'
FROM costed
WHERE costed.is_new AND costed.has_line AND costed.kind = 'delivery' AND campaign.awaits_approvals(costed.status);

SELECT pg_notify('campaign_event', 'deliveryMgt')
WHERE EXISTS (
    SELECT 1
    FROM costed
    WHERE costed.is_new AND costed.has_line AND costed.kind = 'delivery' AND costed.status = 'target_ready'
);
