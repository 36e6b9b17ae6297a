-- One delivery as it stands, and what the reader may do with it. The functions that do it check again.
-- Grain: one row, or none. Changes nothing.
SELECT
    delivery.id,
    delivery.status,
    delivery.failed_from,
    delivery.failure,
    delivery.held_at,
    owner.label AS owner,
    campaign.delivery_facts(delivery.id) AS facts,
    %(is_admin)s::boolean OR coalesce(campaign.owner_id = %(staff_id)s::bigint, FALSE) AS may_see,
    delivery.held_at IS NOT NULL AS can_be_released,
    delivery.status = 'failed' AS can_be_retried,
    delivery.status = 'pending_confirmation'
    AND NOT EXISTS (
        SELECT 1
        FROM campaign.approval_setting AS setting
        WHERE setting.delivery_id = delivery.id AND setting.kind = 'start' AND setting.is_demanded
    ) AS can_be_confirmed,
    campaign.moment() AS moment
FROM campaign.delivery
INNER JOIN campaign.campaign ON delivery.campaign_id = campaign.id
LEFT JOIN campaign.staff AS owner ON campaign.owner_id = owner.id
WHERE delivery.id = %(delivery_id)s::bigint;
