-- Derive the real cost of finished deliveries from what their providers answered: the split as it was frozen, or is
-- by this run, with each item per message priced for the messages to be paid for. Unless a person made it another.
--
-- Grain: the changed deliveries whose answer is to be costed (view answer_to_cost), as of the moment since which it is,
-- whenever this run comes. Writes the real cost into the work table element too, so that this run charges it already.
-- Rerun: what was costed is marked so.
-- An item keeps its frozen amount for its frozen quantity; for another one the structure is asked, as long
-- as it still gives the frozen amount; when its prices have changed since, the item counts pro rata.
CREATE TEMPORARY TABLE answered ON COMMIT DROP AS
SELECT
    answer.delivery_id,
    answer.billable,
    answer.due_at,
    element.line_id,
    element.keeps_split,
    element.decimals
FROM campaign.answer_to_cost AS answer
INNER JOIN element ON element.kind = 'delivery' AND answer.delivery_id = element.id
WHERE answer.due_at <= %(as_of)s::timestamptz AND element.is_split AND element.is_finished
ORDER BY answer.delivery_id
-- What a person enters, and what a provider answers, from here on comes after.
FOR UPDATE OF answer;

CREATE TEMPORARY TABLE derived ON COMMIT DROP AS
WITH item AS (
    SELECT
        answered.delivery_id,
        stored.cost_structure_id,
        stored.kind,
        stored.quantity,
        stored.amount
    FROM answered
    INNER JOIN campaign.expense_item AS stored ON answered.line_id = stored.expense_line_id
    WHERE answered.keeps_split
    UNION ALL
    SELECT
        answered.delivery_id,
        new_item.cost_structure_id,
        new_item.kind,
        new_item.quantity,
        new_item.amount
    FROM answered
    INNER JOIN new_item ON answered.line_id = new_item.line_id
    WHERE NOT answered.keeps_split
),

priced AS (
    SELECT
        item.delivery_id,
        answered.billable,
        answered.decimals,
        item.cost_structure_id,
        item.kind,
        item.quantity,
        item.amount AS frozen_amount,
        coalesce(structure.label, category.label || ' - ' || cost_type.label) AS label,
        item.kind = 'calculated' AND structure.basis = 'per_message' AND item.quantity <> answered.billable
            AS is_repriced,
        round(campaign.structure_cost(structure.id, item.quantity::bigint), answered.decimals) AS price_then,
        round(campaign.structure_cost(structure.id, answered.billable), answered.decimals) AS price_now
    FROM item
    INNER JOIN answered ON item.delivery_id = answered.delivery_id
    INNER JOIN campaign.cost_structure AS structure ON item.cost_structure_id = structure.id
    INNER JOIN campaign.cost_type AS cost_type ON structure.cost_type_id = cost_type.id
    INNER JOIN campaign.cost_category AS category ON cost_type.cost_category_id = category.id
),

judged AS (
    SELECT
        priced.*,
        coalesce(priced.price_then = priced.frozen_amount, FALSE) AND priced.price_now IS NOT NULL AS holds
    FROM priced
),

real_item AS (
    SELECT
        judged.delivery_id,
        judged.billable,
        judged.cost_structure_id,
        judged.label,
        judged.kind,
        judged.is_repriced AND NOT judged.holds AS is_pro_rata,
        CASE
            WHEN NOT judged.is_repriced THEN judged.frozen_amount
            WHEN judged.holds THEN judged.price_now
            ELSE round(judged.frozen_amount * judged.billable / nullif(judged.quantity, 0), judged.decimals)
        END AS amount
    FROM judged
),

summed AS (
    SELECT
        real_item.delivery_id,
        sum(real_item.amount) AS real_cost,
        format(
            '%%s messages to be paid for: %%s.',
            real_item.billable,
            string_agg(
                concat(
                    real_item.label,
                    CASE WHEN real_item.kind = 'surcharge' THEN ', surcharge' END, ' ', real_item.amount,
                    CASE WHEN real_item.is_pro_rata THEN ' (pro rata: its prices have changed since)' END
                ), ', ' ORDER BY real_item.cost_structure_id, real_item.kind
            )
        ) AS explanation
    FROM real_item
    GROUP BY real_item.delivery_id, real_item.billable
    -- Without an amount for an item (nothing was frozen for it) there is no sum to be right.
    HAVING count(*) = count(real_item.amount)
)

SELECT
    summed.delivery_id,
    delivery.campaign_id,
    delivery.label,
    summed.real_cost,
    summed.explanation,
    answered.billable,
    answered.due_at,
    -- A real cost that is the one derived before is ours, and follows; one that a person entered or broke down stands,
    -- and one that a person took away stays away until the answer comes to another.
    (
        coalesce(delivery.real_cost = earlier.real_cost, FALSE)
        OR (delivery.real_cost IS NULL AND earlier.real_cost IS DISTINCT FROM summed.real_cost)
    )
    AND NOT EXISTS (
        SELECT 1 FROM campaign.cost_breakdown AS breakdown
        WHERE breakdown.delivery_id = summed.delivery_id AND breakdown.kind = 'real'
    ) AS is_entered,
    (delivery.real_cost IS DISTINCT FROM summed.real_cost) AS is_changed
FROM summed
INNER JOIN answered ON summed.delivery_id = answered.delivery_id
INNER JOIN campaign.delivery AS delivery ON summed.delivery_id = delivery.id
LEFT JOIN campaign.derived_real_cost AS earlier ON summed.delivery_id = earlier.delivery_id;

UPDATE campaign.delivery AS delivery
SET real_cost = derived.real_cost
FROM derived
WHERE derived.is_entered AND derived.is_changed AND derived.delivery_id = delivery.id;

UPDATE element
SET real = derived.real_cost
FROM derived
WHERE derived.is_entered AND element.kind = 'delivery' AND derived.delivery_id = element.id;

INSERT INTO campaign.derived_real_cost AS stood (delivery_id, real_cost, quantity, explanation, derived_at, run_id)
SELECT
    derived.delivery_id,
    derived.real_cost,
    derived.billable,
    derived.explanation,
    derived.due_at,
    %(run_id)s::text
FROM derived
WHERE derived.is_entered
ON CONFLICT (delivery_id) DO UPDATE
    SET
        real_cost = excluded.real_cost,
        quantity = excluded.quantity,
        explanation = excluded.explanation,
        derived_at = excluded.derived_at,
        run_id = excluded.run_id
    WHERE
    (stood.real_cost, stood.quantity, stood.explanation)
    IS DISTINCT FROM (excluded.real_cost, excluded.quantity, excluded.explanation);

INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
SELECT
    %(dag_id)s::text,
    %(run_id)s::text,
    derived.campaign_id,
    derived.delivery_id,
    format(
        CASE
            WHEN derived.is_entered THEN 'The real cost of %%L is %%s, by what its provider answered: %%s'
            ELSE
                'The real cost of %%L stays what a person made it; by what its provider answered it would be %%s: %%s'
        END,
        derived.label, derived.real_cost, derived.explanation
    )
FROM derived
WHERE derived.is_changed OR NOT derived.is_entered;

UPDATE campaign.provider_answer AS answer
SET costed_at = answered.due_at
FROM answered
WHERE answered.delivery_id = answer.delivery_id;

SELECT
    count(*) FILTER (WHERE derived.is_entered) AS real_costs_derived,
    count(*) FILTER (WHERE NOT derived.is_entered) AS real_costs_left_to_people
FROM derived;
