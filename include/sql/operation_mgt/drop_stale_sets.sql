-- Work tables of targeting runs that ended without dropping them: killed ones, and those of a workflow
-- that ended or was canceled. A run that nobody follows is given two days. One that somebody still reads, a canceled
-- run that could not be stopped, is left for the next run: waiting for it would keep all campaigns waiting.
-- Grain: one row per work table.
-- Rerun: what is dropped is gone from the register.

WITH stale AS (
    SELECT target_set.table_name
    FROM campaign_work.target_set
    LEFT JOIN campaign.workflow
        ON target_set.run_id = workflow.run_id AND target_set.dag_id = workflow.dag_id
    WHERE
        (
            workflow.status IN ('finished', 'failed', 'canceled')
            OR (workflow.id IS NULL AND target_set.created_at < %(as_of)s::timestamptz - interval '2 days')
        )
        AND NOT EXISTS (
            SELECT 1
            FROM pg_catalog.pg_locks
            WHERE
                pg_locks.relation = to_regclass('campaign_work.' || target_set.table_name)
                AND pg_locks.database = (
                    SELECT pg_database.oid FROM pg_catalog.pg_database
                    WHERE pg_database.datname = current_database()
                )
        )
)

SELECT campaign_work.drop_sets(coalesce(array_agg(stale.table_name), '{}')) AS work_tables_dropped
FROM stale;
