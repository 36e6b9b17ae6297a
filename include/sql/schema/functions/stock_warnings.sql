-- What an approver has to know of the stock: a sentence for each line that the delivery uses and that, with
-- the delivery's consumption, is below zero or at its alert level.
--
-- It does not wait for stockMgt: what was extracted since its last run counts, of this delivery and of all
-- others on the same lines, and so do orders whose day has come. A delivery that is not extracted yet
-- counts with its messages to send.
CREATE OR REPLACE FUNCTION campaign.stock_warnings(delivery_id bigint) RETURNS text[]
LANGUAGE plpgsql STABLE
SET plan_cache_mode = 'force_custom_plan' AS $$
#variable_conflict use_column
DECLARE
    noted CONSTANT bigint [] := ARRAY(SELECT listed.delivery_id FROM campaign.stock_deliveries_to_record() AS listed);
    unrecorded bigint [];
    concerned bigint [];
BEGIN
    SELECT array_agg(DISTINCT cost_type.stock_line_id) INTO concerned
    FROM campaign.delivery_selected_cost AS delivery_cost
    INNER JOIN campaign.cost_type AS cost_type ON delivery_cost.cost_type_id = cost_type.id
    WHERE delivery_cost.delivery_id = $1 AND cost_type.stock_line_id IS NOT NULL;

    SELECT array_agg(DISTINCT listed.delivery_id) INTO unrecorded
    FROM (
        SELECT delivery_cost.delivery_id
        FROM campaign.delivery_selected_cost AS delivery_cost
        INNER JOIN campaign.cost_type AS cost_type ON delivery_cost.cost_type_id = cost_type.id
        WHERE delivery_cost.delivery_id = ANY(noted) AND cost_type.stock_line_id = ANY(concerned)
        UNION ALL
        SELECT consumption.delivery_id
        FROM campaign.stock_consumption AS consumption
        WHERE consumption.delivery_id = ANY(noted) AND consumption.stock_line_id = ANY(concerned)
        UNION ALL
        VALUES ($1)
    ) AS listed;

    RETURN (
        WITH movements AS (
            SELECT
                stock_order.stock_line_id,
                stock_order.quantity
            FROM campaign.stock_order AS stock_order
            WHERE
                stock_order.stock_line_id = ANY(concerned)
                AND coalesce(stock_order.received_at, campaign.stock_day_start(stock_order.delivery_on))
                <= greatest(campaign.moment(), stock_order.received_at)
            UNION ALL
            SELECT
                consumption.stock_line_id,
                -consumption.quantity
            FROM campaign.stock_consumption AS consumption
            WHERE consumption.stock_line_id = ANY(concerned)
            UNION ALL
            SELECT
                consumption.stock_line_id,
                coalesce(consumption.recorded_quantity, 0) - consumption.quantity
            FROM campaign.stock_consumption_as_of('infinity', unrecorded) AS consumption
            UNION ALL
            SELECT
                cost_type.stock_line_id,
                -ceil(delivery.message_count * sum(cost_type.units_per_message))
            FROM campaign.delivery AS delivery
            INNER JOIN campaign.delivery_selected_cost AS delivery_cost ON delivery.id = delivery_cost.delivery_id
            INNER JOIN campaign.cost_type AS cost_type ON delivery_cost.cost_type_id = cost_type.id
            WHERE
                delivery.id = $1
                AND delivery.status <> 'canceled'
                AND NOT EXISTS (
                    SELECT 1
                    FROM campaign.delivery_volume AS volume
                    WHERE volume.delivery_id = $1
                )
            GROUP BY cost_type.stock_line_id, delivery.message_count
        ),

        positions AS (
            SELECT
                stock_line.id,
                stock_line.label,
                stock_line.alert_level,
                stock.label AS stock,
                stock.internal_name AS stock_name,
                stock_line.initial_quantity + coalesce(sum(movements.quantity), 0) AS in_stock
            FROM campaign.stock_line AS stock_line
            INNER JOIN campaign.stock AS stock ON stock_line.stock_id = stock.id
            LEFT OUTER JOIN movements ON stock_line.id = movements.stock_line_id
            WHERE stock_line.id = ANY(concerned)
            GROUP BY stock_line.id, stock.id
        )

        SELECT
            coalesce(
                array_agg(
                    format(
                        'Stock status ''%s (%s (%s))'' %s ''%s''',
                        positions.label,
                        positions.stock,
                        positions.stock_name,
                        campaign.stock_state(positions.in_stock::bigint, positions.alert_level),
                        positions.in_stock
                    )
                    ORDER BY positions.label, positions.id
                ),
                '{}'
            )
        FROM positions
        WHERE positions.in_stock <= positions.alert_level OR positions.in_stock < 0
    );
END
$$;
