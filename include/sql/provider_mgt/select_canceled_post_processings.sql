-- The post-processings that were canceled while their DAG run was under way, and are not known to be over.
--
-- Grain: one row per job. Reads only: a run that was stopped is forgotten by its job.
SELECT
    job.id AS job_id,
    job.run_id,
    job.error,
    delivery.id AS delivery_id,
    delivery.campaign_id,
    service.post_processing_dag_id AS dag_id
FROM campaign.provider_job AS job
INNER JOIN campaign.service AS service ON job.service_id = service.id
INNER JOIN campaign.delivery AS delivery ON job.delivery_id = delivery.id
INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
WHERE
    job.kind = 'post_processing'
    AND job.status = 'canceled'
    AND job.run_started_at IS NOT NULL
    AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
ORDER BY job.id;
