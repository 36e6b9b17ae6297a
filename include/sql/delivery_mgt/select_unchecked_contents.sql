-- Online deliveries whose content is new, or was edited since it was checked.
-- Grain: one row per delivery that was submitted and has not started. Rerun: reads only.
SELECT
    delivery.id,
    delivery.status,
    delivery.channel,
    delivery.subject,
    delivery.body_text,
    delivery.body_html,
    delivery.sender
FROM campaign.delivery AS delivery
INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
WHERE
    NOT delivery.content_checked
    AND delivery.channel <> 'direct_mail'
    AND delivery.status IN ('targeting_pending', 'target_ready', 'pending_confirmation', 'start_pending')
    AND NOT delivery.is_template
    AND campaign.status IN ('being_edited', 'started')
    AND coalesce(delivery.submitted_at, '-infinity') <= %(as_of)s::timestamptz
    AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
ORDER BY delivery.id
FOR NO KEY UPDATE OF delivery;
