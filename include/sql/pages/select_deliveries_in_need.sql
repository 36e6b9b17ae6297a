-- Deliveries that wait for a person other than by an approval: held, failed, or to be confirmed. They are
-- shown to who may help them: the owner of the campaign, and administrators.
-- Grain: one row per delivery; each carries their number. Changes nothing.
WITH waiting AS (
    SELECT
        delivery.id,
        delivery.label,
        delivery.channel,
        delivery.status,
        delivery.failed_from,
        delivery.failure,
        delivery.held_at,
        delivery.contact_date,
        delivery.message_count,
        campaign.label AS campaign,
        CASE
            WHEN delivery.status = 'failed' THEN 'failed'
            WHEN delivery.held_at IS NOT NULL THEN 'held'
            ELSE 'to_confirm'
        END AS need
    FROM campaign.delivery
    INNER JOIN campaign.campaign ON delivery.campaign_id = campaign.id
    WHERE
        (delivery.status IN ('failed', 'pending_confirmation') OR delivery.held_at IS NOT NULL)
        AND delivery.status NOT IN ('canceled', 'finished')
        AND NOT delivery.is_template
        AND campaign.status IN ('being_edited', 'started')
        AND (%(is_admin)s::boolean OR campaign.owner_id = %(staff_id)s::bigint)
        -- A start that must be approved is asked for as an approval.
        AND NOT (
            delivery.status = 'pending_confirmation'
            AND delivery.held_at IS NULL
            AND EXISTS (
                SELECT 1
                FROM campaign.approval_setting AS setting
                WHERE setting.delivery_id = delivery.id AND setting.kind = 'start' AND setting.is_demanded
            )
        )
)

SELECT
    waiting.*,
    count(*) OVER () AS total
FROM waiting
ORDER BY
    array_position(ARRAY['failed', 'held', 'to_confirm'], waiting.need),
    waiting.contact_date NULLS LAST,
    waiting.id
LIMIT %(limit)s::integer;
