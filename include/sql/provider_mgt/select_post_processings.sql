-- The post-processings whose DAG run was started and whose end is not known.
--
-- Grain: one row per job. Reads only.
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
    AND job.status = 'running'
    AND job.run_started_at IS NOT NULL
    AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
ORDER BY job.id;
