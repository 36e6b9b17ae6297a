-- The workflows whose DAG run was started and has not been seen to end.
-- Grain: one row per workflow. Changes nothing.

SELECT
    workflow.id,
    workflow.internal_name,
    workflow.dag_id,
    workflow.run_id
FROM campaign.workflow
LEFT JOIN campaign.campaign ON workflow.campaign_id = campaign.id
WHERE
    workflow.status = 'running'
    AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
ORDER BY workflow.id;
