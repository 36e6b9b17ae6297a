-- What became of the runs of canceled workflows: stopped, over by themselves, or going on because Airflow could
-- not be told.
-- Grain: one row per canceled workflow.
-- Rerun: a run that is over is not looked at again; one that goes on is said once for a reason, and tried again.

WITH stop AS (
    SELECT
        workflow.id,
        workflow.campaign_id,
        workflow.delivery_id,
        entry.outcome,
        CASE entry.outcome
            WHEN 'stopped' THEN format('The run of the canceled workflow %%s was stopped.', workflow.internal_name)
            ELSE format('The canceled workflow %%s goes on. %%s', workflow.internal_name, entry.reason)
        END AS message
    FROM jsonb_to_recordset(%(stops)s::jsonb) AS entry (id bigint, outcome text, reason text)
    INNER JOIN campaign.workflow ON entry.id = workflow.id
),

over AS (
    UPDATE campaign.workflow AS workflow
    SET stopped_at = %(as_of)s::timestamptz
    FROM stop
    WHERE workflow.id = stop.id AND stop.outcome IN ('stopped', 'over')
),

written AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        CASE stop.outcome WHEN 'stopped' THEN 'info' ELSE 'error' END AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        stop.campaign_id,
        stop.delivery_id,
        stop.message
    FROM stop
    WHERE
        stop.outcome <> 'over'
        AND NOT EXISTS (
            SELECT 1 FROM campaign.journal
            WHERE journal.campaign_id IS NOT DISTINCT FROM stop.campaign_id AND journal.message = stop.message
        )
)

SELECT count(*) FILTER (WHERE stop.outcome = 'stopped') AS runs_stopped FROM stop;
