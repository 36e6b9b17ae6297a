-- Write the splits of the changed deliveries and tasks: what differs of those that stand, and all of the new ones.
--
-- Grain: one expense_item per expense line, cost structure and kind. Rerun: only what differs is written.
DELETE FROM campaign.expense_item AS item
USING item_change
WHERE
    item.expense_line_id = item_change.line_id AND item.cost_structure_id = item_change.cost_structure_id
    AND item.kind = item_change.kind AND item_change.amount IS NULL;

UPDATE campaign.expense_item AS item
SET
    quantity = item_change.quantity,
    amount = item_change.amount,
    explanation = item_change.explanation,
    expense_category_id = item_change.expense_category_id
FROM item_change
WHERE
    item.expense_line_id = item_change.line_id AND item.cost_structure_id = item_change.cost_structure_id
    AND item.kind = item_change.kind AND item_change.amount IS NOT NULL;

INSERT INTO campaign.expense_item (
    expense_line_id, cost_structure_id, kind, quantity, amount, explanation, expense_category_id
)
SELECT
    item_change.line_id,
    item_change.cost_structure_id,
    item_change.kind,
    item_change.quantity,
    item_change.amount,
    item_change.explanation,
    item_change.expense_category_id
FROM item_change
WHERE NOT item_change.is_stored
UNION ALL
SELECT
    new_item.line_id,
    new_item.cost_structure_id,
    new_item.kind,
    new_item.quantity,
    new_item.amount,
    new_item.explanation,
    new_item.expense_category_id
FROM new_item
WHERE new_item.is_new;

SELECT
    (SELECT count(*) FROM item_change)
    + (SELECT count(*) FILTER (WHERE new_item.is_new) FROM new_item) AS items_changed;
