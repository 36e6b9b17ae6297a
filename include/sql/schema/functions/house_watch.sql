-- The watch over the five: each of their runs looks after the others.

-- How a run of a technical workflow ended, as Airflow says. A run that Airflow repeats ends anew.
CREATE OR REPLACE FUNCTION campaign.record_run_end(dag_id text, run_id text, state text) RETURNS void
LANGUAGE sql AS $$
    UPDATE campaign.technical_run AS run
    SET
        state = record_run_end.state,
        finished_at = clock_timestamp(),
        failed_task_id = CASE WHEN record_run_end.state = 'failed' THEN run.failed_task_id END,
        log_url = CASE WHEN record_run_end.state = 'failed' THEN run.log_url END
    WHERE run.dag_id = record_run_end.dag_id AND run.run_id = record_run_end.run_id
$$;

-- A task of a technical workflow failed for good: its run has failed, and the supervisors are told with its log.
CREATE OR REPLACE FUNCTION campaign.record_task_failure(
    dag_id text, run_id text, task_id text, as_of timestamptz, log_url text
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
BEGIN
    INSERT INTO campaign.technical_run AS run (dag_id, run_id, as_of, state, failed_task_id, log_url)
    VALUES (dag_id, run_id, as_of, 'failed', task_id, log_url)
    ON CONFLICT ON CONSTRAINT "a run is kept once" DO UPDATE
    SET state = excluded.state, failed_task_id = excluded.failed_task_id, log_url = excluded.log_url;
    PERFORM campaign.open_incident(dag_id, 'failing', format('Its step %s failed.', task_id), log_url);
END
$$;

-- Open an incident of a workflow, unless it has one of that kind, and write to the supervisors.
CREATE OR REPLACE FUNCTION campaign.open_incident(dag_id text, kind text, detail text, url text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    opened campaign.workflow_incident;
    told bigint;
BEGIN
    INSERT INTO campaign.workflow_incident (dag_id, kind, detail, url)
    SELECT
        workflow.dag_id,
        open_incident.kind,
        open_incident.detail,
        open_incident.url
    FROM campaign.technical_workflow AS workflow
    WHERE workflow.dag_id = open_incident.dag_id
    ON CONFLICT DO NOTHING
    RETURNING * INTO opened;
    IF opened.id IS NULL THEN
        RETURN FALSE;
    END IF;
    INSERT INTO campaign.notification (kind, dedupe_key, source, staff_id, recipient_email, facts)
    SELECT
        'workflow_trouble',
        concat_ws(':', 'incident', opened.id, supervisor.id),
        'supervision',
        supervisor.id,
        supervisor.email,
        jsonb_build_object(
            'dag_id', opened.dag_id, 'label', workflow.label, 'trouble', opened.kind, 'detail', opened.detail,
            'url', opened.url, 'opened_at', opened.opened_at
        )
    FROM campaign.staff_group AS supervisors
    INNER JOIN campaign.staff_group_member AS member ON supervisors.id = member.staff_group_id
    INNER JOIN campaign.staff AS supervisor ON member.staff_id = supervisor.id AND supervisor.active
    INNER JOIN campaign.technical_workflow AS workflow ON workflow.dag_id = opened.dag_id
    WHERE supervisors.internal_name = 'supervisors'
    ORDER BY supervisor.id;
    GET DIAGNOSTICS told = ROW_COUNT;
    INSERT INTO campaign.journal (level, source, message)
    VALUES (
        'error', 'supervision',
        format('The workflow %s is %s. %s', opened.dag_id, opened.kind, opened.detail)
        || CASE WHEN told = 0 THEN ' Nobody active is in the staff group supervisors, so nobody was told.' ELSE '' END
    );
    RETURN TRUE;
END
$$;

-- Look after the five: open an incident for each that is in trouble, close those of the ones that are well again.
--
-- paused: per dag_id what Airflow says of it, as far as it was asked. Returns the incidents opened and closed.
--
-- Overdue counts once another workflow has been running for a quarter of an hour beside the one that does not: a
-- house that was shut over night raises no alarm in the morning. And as long as no workflow was ever started by its
-- schedule or by news, the house is not in operation: only what fails is told.
CREATE OR REPLACE FUNCTION campaign.look_after_workflows(
    paused jsonb, OUT incidents_opened bigint, OUT incidents_closed bigint
)
LANGUAGE plpgsql AS $$
BEGIN
    incidents_opened := 0;
    incidents_closed := 0;
    -- One looks at a time; the next comes soon.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('campaign.watch', 0)) THEN
        RETURN;
    END IF;

    UPDATE campaign.technical_workflow AS workflow
    SET
        paused_since = CASE
            WHEN NOT paused ? workflow.dag_id THEN workflow.paused_since
            WHEN (paused ->> workflow.dag_id)::boolean THEN coalesce(workflow.paused_since, clock_timestamp())
        END,
        was_heard = workflow.was_heard OR listener.is_there,
        deaf_since = CASE
            WHEN workflow.was_heard AND NOT listener.is_there THEN coalesce(workflow.deaf_since, clock_timestamp())
        END
    FROM (
        SELECT
            listened.dag_id,
            EXISTS (
                SELECT 1
                FROM pg_catalog.pg_stat_activity AS session
                WHERE
                    session.datname = current_database()
                    AND session.application_name = listened.dag_id || '.listen'
            ) AS is_there
        FROM campaign.technical_workflow AS listened
    ) AS listener
    WHERE
        workflow.dag_id = listener.dag_id
        AND (
            (workflow.paused_since IS NOT NULL) <> (paused ->> workflow.dag_id)::boolean
            OR (NOT workflow.was_heard AND listener.is_there)
            OR (workflow.was_heard AND listener.is_there = (workflow.deaf_since IS NOT NULL))
        );

    WITH closed AS (
        UPDATE campaign.workflow_incident AS incident
        SET closed_at = clock_timestamp()
        FROM campaign.workflow_health AS health
        INNER JOIN campaign.technical_workflow AS workflow ON health.dag_id = workflow.dag_id
        WHERE
            incident.dag_id = health.dag_id
            AND incident.closed_at IS NULL
            AND incident.kind <> health.state
            -- One that is paused shows nothing else of what is wrong with it; a run that is under way proves nothing.
            AND (incident.kind = 'paused' OR health.state <> 'paused')
            AND (incident.kind <> 'failing' OR health.last_state = 'success')
            AND (incident.kind <> 'deaf' OR workflow.deaf_since IS NULL)
        RETURNING incident.dag_id, incident.kind, incident.opened_at, health.state, health.is_well
    ),

    told AS (
        INSERT INTO campaign.journal (source, message)
        SELECT
            'supervision',
            format(
                'The workflow %s is %s; it was %s since %s.',
                closed.dag_id,
                CASE WHEN closed.is_well THEN 'well again' ELSE closed.state || ' now' END,
                closed.kind,
                to_char(closed.opened_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')
            )
        FROM closed
    )

    SELECT count(*) INTO incidents_closed
    FROM closed;

    WITH troubled AS MATERIALIZED (
        SELECT
            health.dag_id,
            health.state,
            health.detail,
            health.log_url
        FROM campaign.workflow_health AS health
        INNER JOIN campaign.technical_workflow AS workflow ON health.dag_id = workflow.dag_id
        WHERE
            NOT health.is_well
            AND health.incident_id IS NULL
            AND (
                health.state = 'failing'
                OR EXISTS (
                    SELECT 1
                    FROM campaign.technical_run AS run
                    WHERE run.run_id LIKE ANY(ARRAY['scheduled\_\_%', 'asset\_triggered\_\_%'])
                )
            )
            AND (
                health.state <> 'overdue'
                OR EXISTS (
                    SELECT 1
                    FROM campaign.technical_run AS witness
                    WHERE
                        witness.dag_id <> health.dag_id
                        AND witness.started_at < clock_timestamp() - interval '15 minutes'
                        AND witness.started_at > coalesce(
                            health.last_started_at,
                            (SELECT min(run.started_at) FROM campaign.technical_run AS run)
                        ) + workflow.overdue_after
                )
            )
    )

    SELECT count(*) INTO incidents_opened
    FROM troubled
    WHERE campaign.open_incident(troubled.dag_id, troubled.state, troubled.detail, troubled.log_url);
END
$$;
