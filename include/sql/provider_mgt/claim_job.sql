-- Enter that a job is being carried out, before it is: whoever finds it running after a crash repeats it.
--
-- Grain: the one job of job_id, if it is still due; no row otherwise.
-- Rerun: a post-processing whose DAG run was decided but maybe not started keeps its try and its run id.
UPDATE campaign.provider_job AS job
SET
    status = 'running',
    next_try_at = NULL,
    tries = claim.tries,
    run_id
    = CASE job.kind WHEN 'post_processing' THEN concat_ws('_', 'campaign__job', job.id, claim.tries) END
FROM (
    SELECT
        due.id,
        claimed.tries + (claimed.status = 'pending' OR claimed.kind = 'transfer')::integer AS tries
    FROM campaign.due_provider_jobs(%(kind)s::text, %(as_of)s::timestamptz, NULL) AS due
    INNER JOIN campaign.provider_job AS claimed ON due.id = claimed.id
    WHERE due.id = %(job_id)s::bigint
) AS claim
WHERE job.id = claim.id
RETURNING
    job.id AS job_id,
    job.tries,
    job.run_id,
    job.destination,
    job.tries - job.tries_before > campaign.job_tries() AS is_beyond_its_tries,
    (
        SELECT service.post_processing_dag_id
        FROM campaign.service AS service
        WHERE service.id = job.service_id
    ) AS dag_id,
    campaign.provider_facts(job.delivery_id, job.service_id) AS facts;
