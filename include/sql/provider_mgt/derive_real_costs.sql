-- Derive the real cost of finished deliveries from what their providers answered: the split as it was frozen,
-- with each item per message priced for the messages to be paid for.
--
-- Grain: deliveries whose every row is answered, and whose answer changed since the last time. Rerun: what
-- was derived is marked so. An answer that is not complete, or a split that is not frozen yet, waits.
-- An item keeps its frozen amount for its frozen quantity; for another one the structure is asked, as long
-- as it still gives the frozen amount; when its prices have changed since, the item counts pro rata.
WITH due AS (
    SELECT
        answer.delivery_id,
        answer.billable,
        line.id AS line_id,
        coalesce(campaign.minor_unit(budget.currency), 2) AS decimals
    FROM campaign.provider_answer AS answer
    INNER JOIN campaign.delivery AS delivery ON answer.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    INNER JOIN campaign.extraction_file AS file ON answer.extraction_file_id = file.id
    INNER JOIN campaign.expense_line AS line ON delivery.id = line.delivery_id AND line.frozen_at IS NOT NULL
    LEFT JOIN campaign.budget AS budget ON line.budget_id = budget.id
    WHERE
        answer.answered_at IS NOT NULL
        AND answer.costed_at IS NULL
        AND answer.answered >= file.row_count
        AND delivery.status = 'finished'
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
),

priced AS (
    SELECT
        due.delivery_id,
        due.billable,
        due.decimals,
        item.cost_structure_id,
        item.kind,
        item.quantity,
        item.amount AS frozen_amount,
        coalesce(structure.label, category.label || ' - ' || cost_type.label) AS label,
        item.kind = 'calculated' AND structure.basis = 'per_message' AND item.quantity <> due.billable AS is_repriced,
        round(campaign.structure_cost(structure.id, item.quantity::bigint), due.decimals) AS price_then,
        round(campaign.structure_cost(structure.id, due.billable), due.decimals) AS price_now
    FROM due
    INNER JOIN campaign.expense_item AS item ON due.line_id = item.expense_line_id
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

derived AS (
    SELECT
        real_item.delivery_id,
        real_item.billable,
        sum(real_item.amount) AS cost,
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
),

entered AS (
    SELECT
        derived.delivery_id,
        campaign.enter_derived_cost(
            derived.delivery_id, derived.cost, derived.billable, derived.explanation,
            %(as_of)s::timestamptz, %(run_id)s::text
        ) AS is_entered
    FROM derived
),

marked AS (
    UPDATE campaign.provider_answer AS answer
    SET costed_at = %(as_of)s::timestamptz
    FROM due
    LEFT JOIN entered ON due.delivery_id = entered.delivery_id
    WHERE answer.delivery_id = due.delivery_id
    RETURNING entered.is_entered
)

SELECT
    count(*) FILTER (WHERE marked.is_entered) AS real_costs_derived,
    count(*) FILTER (WHERE NOT marked.is_entered) AS real_costs_left_to_people
FROM marked;
