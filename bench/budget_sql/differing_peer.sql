-- How many items and deliveries differ from the plain sums by hand: none.
SELECT
    (
        SELECT count(*)
        FROM (
            SELECT line.delivery_id, structure.cost_type_id, item.amount
            FROM peer.expense_item AS item
            INNER JOIN peer.expense_line AS line ON item.expense_line_id = line.id
            INNER JOIN campaign.cost_structure AS structure ON item.cost_structure_id = structure.id
        ) AS ours
        FULL JOIN by_hand.item AS theirs USING (delivery_id, cost_type_id)
        WHERE ours.amount IS DISTINCT FROM theirs.amount
    ),
    (
        SELECT count(*)
        FROM campaign.delivery AS ours
        FULL JOIN by_hand.expense AS theirs ON ours.id = theirs.delivery_id
        WHERE ours.calculated_cost IS DISTINCT FROM theirs.amount
    )
