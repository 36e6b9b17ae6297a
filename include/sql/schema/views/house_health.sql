-- How the five technical workflows are, as far as their database can see. One row per workflow, trouble first.
--
-- Counted are runs of the whole house: neither one limited to a campaign nor one for the past proves that the
-- workflow is kept up. The clock decides here, not as_of: the watch is over the machine.
DROP VIEW IF EXISTS campaign.house_health CASCADE;
DROP VIEW IF EXISTS campaign.workflow_health CASCADE;
CREATE VIEW campaign.workflow_health AS
WITH seen AS (
    SELECT
        workflow.dag_id,
        workflow.label,
        workflow.overdue_after,
        workflow.stuck_after,
        workflow.paused_since,
        workflow.deaf_since,
        last_run.run_id,
        last_run.started_at AS last_started_at,
        last_run.finished_at AS last_finished_at,
        last_run.state AS last_state,
        last_run.failed_task_id,
        last_run.log_url,
        (
            SELECT max(run.finished_at)
            FROM campaign.technical_run AS run
            WHERE run.dag_id = workflow.dag_id AND run.state = 'success'
        ) AS last_succeeded_at,
        clock_timestamp() AS at
    FROM campaign.technical_workflow AS workflow
    LEFT OUTER JOIN LATERAL (
        SELECT run.*
        FROM campaign.technical_run AS run
        WHERE
            run.dag_id = workflow.dag_id
            AND run.campaign_id IS NULL
            AND run.as_of > run.started_at - workflow.overdue_after
        ORDER BY run.started_at DESC
        LIMIT 1
    ) AS last_run ON TRUE
),

judged AS (
    SELECT
        seen.*,
        CASE
            WHEN seen.paused_since IS NOT NULL THEN 'paused'
            WHEN seen.last_state = 'failed' THEN 'failing'
            WHEN seen.last_started_at IS NOT NULL AND seen.last_finished_at IS NULL
                THEN CASE
                    WHEN seen.last_started_at < seen.at - seen.stuck_after THEN 'stuck'
                    WHEN seen.deaf_since < seen.at - interval '10 minutes' THEN 'deaf'
                    ELSE 'ok'
                END
            WHEN coalesce(seen.last_started_at, '-infinity') < seen.at - seen.overdue_after THEN 'overdue'
            WHEN seen.deaf_since < seen.at - interval '10 minutes' THEN 'deaf'
            ELSE 'ok'
        END AS state
    FROM seen
)

SELECT
    judged.dag_id,
    judged.label,
    judged.state,
    judged.last_started_at,
    judged.last_finished_at,
    judged.last_state,
    judged.last_succeeded_at,
    judged.run_id AS last_run_id,
    incident.id AS incident_id,
    incident.opened_at AS incident_opened_at,
    judged.state = 'ok' AS is_well,
    CASE judged.state
        WHEN 'paused' THEN judged.paused_since
        WHEN 'failing' THEN judged.last_started_at
        WHEN 'stuck' THEN judged.last_started_at
        WHEN 'overdue' THEN judged.last_started_at + judged.overdue_after
        WHEN 'deaf' THEN judged.deaf_since
    END AS since,
    CASE judged.state
        WHEN 'paused' THEN 'It is paused: unpause it in the Airflow UI.'
        WHEN 'failing'
            THEN format(
                'Its last run failed%s: its log says why.',
                coalesce(format(' at the step %s', judged.failed_task_id), '')
            )
        WHEN 'stuck'
            THEN format(
                'A run has been under way for more than %s: look what it waits for.', judged.stuck_after
            )
        WHEN 'overdue'
            THEN CASE
                WHEN judged.last_started_at IS NULL THEN 'It has never run: unpause it, and see that Airflow works.'
                ELSE format(
                    'It has not started for more than %s: see that it is not paused, and that Airflow works.',
                    judged.overdue_after
                )
            END
        WHEN 'deaf' THEN 'Nobody listens for its news, so that it runs by the clock only: start the triggerer.'
    END AS detail,
    CASE
        WHEN judged.state = 'failing' THEN judged.log_url
    END AS log_url
FROM judged
LEFT OUTER JOIN campaign.workflow_incident AS incident
    ON judged.dag_id = incident.dag_id AND judged.state = incident.kind AND incident.closed_at IS NULL
ORDER BY
    array_position(ARRAY['paused', 'failing', 'stuck', 'overdue', 'deaf', 'ok'], judged.state),
    judged.dag_id;

-- All that a page or a monitor shows first: the five, and whether this database may send. One row per thing.
CREATE VIEW campaign.house_health AS
SELECT
    copy.thing,
    copy.label,
    copy.state,
    copy.is_well,
    copy.since,
    copy.detail,
    copy.log_url
FROM campaign.clone_reason() AS reason
CROSS JOIN
    LATERAL (
        VALUES
        (
            'database', format('Database %s', current_database()), CASE WHEN reason IS NULL THEN 'ok' ELSE 'copy' END,
            reason IS NULL, NULL::timestamptz, reason, NULL::text
        )
    ) AS copy (thing, label, state, is_well, since, detail, log_url)
UNION ALL
SELECT
    workflow.dag_id AS thing,
    workflow.label,
    workflow.state,
    workflow.is_well,
    workflow.since,
    workflow.detail,
    workflow.log_url
FROM campaign.workflow_health AS workflow;
