-- Files that were begun and are not wanted any more: their delivery was canceled, failed or sent back.
-- Grain: one row per attempt. Changes nothing.

SELECT
    attempt.delivery_id,
    attempt.file_name,
    delivery.label,
    delivery.campaign_id
FROM campaign.extraction_attempt AS attempt
INNER JOIN campaign.delivery ON attempt.delivery_id = delivery.id
WHERE delivery.status NOT IN ('extracting', 'extraction_pending')
ORDER BY attempt.delivery_id;
