-- The direct-mail deliveries whose file is to be written now: approved, their extraction date reached, or
-- begun by a run that did not end.
-- Grain: one row per delivery. Changes nothing.

SELECT
    delivery.id,
    delivery.internal_name
FROM campaign.delivery
INNER JOIN campaign.campaign ON delivery.campaign_id = campaign.id
WHERE
    delivery.status IN ('extraction_pending', 'extracting')
    AND NOT delivery.is_template
    AND campaign.status <> 'canceled'
    AND coalesce(delivery.extraction_date, '-infinity') <= %(as_of)s::timestamptz
    AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    AND campaign.delivery_is_cleared(delivery.id, %(as_of)s::timestamptz)
ORDER BY delivery.id;
