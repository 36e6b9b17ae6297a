-- Enter in the journal that the router's file was checked.
--
-- Grain: one line per job and message. Rerun: a line that is there is not written again.
INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
SELECT
    'routerAcknowledgement' AS source,
    %(run_id)s::text AS run_id,
    delivery.campaign_id,
    delivery.id AS delivery_id,
    %(message)s::text AS message
FROM campaign.provider_job AS job
INNER JOIN campaign.delivery AS delivery ON job.delivery_id = delivery.id
WHERE
    job.id = %(job_id)s::bigint
    AND NOT EXISTS (
        SELECT 1
        FROM campaign.journal AS written
        WHERE written.delivery_id = delivery.id AND written.message = %(message)s::text
    );
