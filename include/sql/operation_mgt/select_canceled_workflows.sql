-- The canceled workflows whose DAG run is not known to be over.
-- Grain: one row per workflow. Changes nothing.

SELECT
    workflow.id,
    workflow.internal_name,
    workflow.dag_id,
    workflow.run_id
FROM campaign.workflow
LEFT JOIN campaign.campaign ON workflow.campaign_id = campaign.id
WHERE
    workflow.status = 'canceled'
    AND workflow.run_id IS NOT NULL
    AND workflow.stopped_at IS NULL
    AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
ORDER BY workflow.id;
