-- The queued workflows that may be started now: no more at once than the setting allows, those whose DAG
-- was missing or paused behind the others.
-- Grain: one row per workflow. Changes nothing.

WITH running AS (
    SELECT
        workflow.campaign_id,
        count(*) AS workflow_count
    FROM campaign.workflow
    WHERE workflow.status = 'running'
    GROUP BY workflow.campaign_id
),

queue AS (
    SELECT
        workflow.id,
        workflow.internal_name,
        workflow.campaign_id,
        workflow.dag_id,
        workflow.run_id,
        workflow.conf,
        row_number() OVER (
            PARTITION BY workflow.campaign_id
            ORDER BY
                workflow.failure IS NOT NULL,
                array_position(ARRAY['critical', 'production', 'normal'], workflow.severity),
                coalesce(workflow.starts_at, workflow.start_planning_date, workflow.created_at),
                workflow.id
        ) AS place
    FROM campaign.workflow
    LEFT JOIN campaign.campaign ON workflow.campaign_id = campaign.id
    WHERE
        workflow.status = 'queued'
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
)

SELECT
    queue.id,
    queue.internal_name,
    queue.dag_id,
    queue.run_id,
    queue.conf
FROM queue
LEFT JOIN running ON queue.campaign_id IS NOT DISTINCT FROM running.campaign_id
WHERE queue.place <= campaign.whole_setting('workflows_at_once', 10) - coalesce(running.workflow_count, 0)
ORDER BY queue.place, queue.id;
