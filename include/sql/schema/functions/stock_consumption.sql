-- What deliveries consume as of a moment, beside what is recorded of it.
-- Grain: one row per delivery that has left (extracted; online: started) and stock line.
--
-- quantity = messages x units, rounded up to whole units once per line: cost types of one delivery that
-- name the same line are added before. A finished delivery keeps the units that it was recorded with,
-- whatever becomes of its cost types.
--
-- deliveries: only these; NULL for all. The plan is made for the list at hand: a hundred deliveries are
-- found by index, a million by reading the tables once.
CREATE OR REPLACE FUNCTION campaign.stock_consumption_as_of(
    moment timestamptz, deliveries bigint[] DEFAULT NULL
) RETURNS TABLE (
    delivery_id bigint,
    stock_line_id bigint,
    campaign_id bigint,
    message_count bigint,
    units_per_message numeric,
    quantity bigint,
    consumed_at timestamptz,
    recorded_quantity bigint,
    is_recorded boolean
)
LANGUAGE plpgsql STABLE ROWS 100
SET plan_cache_mode = 'force_custom_plan' AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH standing AS (
        SELECT
            volume.delivery_id,
            volume.message_count,
            volume.valid_from,
            delivery.campaign_id,
            delivery.finished_at IS NOT NULL AND EXISTS (
                SELECT 1
                FROM campaign.stock_consumption AS consumption
                WHERE
                    consumption.delivery_id = volume.delivery_id
                    AND consumption.units_per_message IS NOT NULL
            ) AS is_frozen
        FROM campaign.delivery_volume AS volume
        INNER JOIN campaign.delivery AS delivery ON volume.delivery_id = delivery.id
        WHERE
            volume.valid_from <= moment
            AND (volume.valid_until > moment OR volume.valid_until = 'infinity')
            AND (deliveries IS NULL OR volume.delivery_id = ANY(deliveries))
    ),

    selected AS (
        SELECT
            standing.delivery_id,
            cost_type.stock_line_id,
            sum(cost_type.units_per_message) AS units_per_message
        FROM standing
        INNER JOIN campaign.delivery_selected_cost AS delivery_cost ON standing.delivery_id = delivery_cost.delivery_id
        INNER JOIN campaign.cost_type AS cost_type ON delivery_cost.cost_type_id = cost_type.id
        WHERE
            cost_type.stock_line_id IS NOT NULL
            AND NOT standing.is_frozen
            -- Said again, for a join does not reach into the view: without it all selections would be read.
            AND (deliveries IS NULL OR delivery_cost.delivery_id = ANY(deliveries))
        GROUP BY standing.delivery_id, cost_type.stock_line_id
    ),

    recorded AS (
        SELECT
            consumption.delivery_id,
            consumption.stock_line_id,
            consumption.campaign_id,
            consumption.message_count,
            consumption.units_per_message,
            consumption.quantity,
            consumption.consumed_at
        FROM standing
        INNER JOIN campaign.stock_consumption AS consumption ON standing.delivery_id = consumption.delivery_id
    ),

    lines AS (
        SELECT
            coalesce(selected.delivery_id, recorded.delivery_id) AS delivery_id,
            coalesce(selected.stock_line_id, recorded.stock_line_id) AS stock_line_id,
            selected.units_per_message AS selected_units,
            recorded.units_per_message AS recorded_units,
            recorded.quantity AS recorded_quantity,
            recorded.message_count AS recorded_count,
            recorded.campaign_id AS recorded_campaign_id,
            recorded.consumed_at AS recorded_at
        FROM selected
        FULL OUTER JOIN recorded
            ON selected.delivery_id = recorded.delivery_id AND selected.stock_line_id = recorded.stock_line_id
    ),

    computed AS (
        SELECT
            lines.delivery_id,
            lines.stock_line_id,
            standing.campaign_id,
            standing.message_count,
            CASE
                WHEN standing.is_frozen THEN coalesce(lines.recorded_units, 0)
                ELSE coalesce(lines.selected_units, 0)
            END AS units_per_message,
            standing.valid_from AS consumed_at,
            lines.recorded_quantity,
            lines.recorded_count,
            lines.recorded_units,
            lines.recorded_campaign_id,
            lines.recorded_at
        FROM lines
        INNER JOIN standing ON lines.delivery_id = standing.delivery_id
    )

    SELECT
        computed.delivery_id,
        computed.stock_line_id,
        computed.campaign_id,
        computed.message_count,
        computed.units_per_message,
        ceil(computed.message_count * computed.units_per_message)::bigint,
        computed.consumed_at,
        computed.recorded_quantity,
        (
            computed.campaign_id, computed.message_count, computed.units_per_message, computed.consumed_at
        ) IS NOT DISTINCT FROM (
            computed.recorded_campaign_id, computed.recorded_count, computed.recorded_units,
            computed.recorded_at
        )
    FROM computed;
END
$$;
