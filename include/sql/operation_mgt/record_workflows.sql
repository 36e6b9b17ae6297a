-- What became of workflows: started, blocked (their DAG is missing or paused, before or after their start),
-- finished, failed. A failed one fails its delivery, and the people in charge of the campaign are told, with a link
-- to the run. One that is blocked is back in the queue: its run is found there when its DAG can run again.
-- Grain: one row per outcome, that is per workflow.
-- Rerun: a workflow takes an outcome only from a status that it can come from, and a blocked one that is
-- blocked for the same reason is left alone.

WITH outcome AS (
    SELECT
        entry.id,
        entry.outcome,
        entry.reason
    FROM jsonb_to_recordset(%(outcomes)s::jsonb) AS entry (id bigint, outcome text, reason text)
),

-- A run that ends well must have prepared its delivery, unless that was submitted again meanwhile.
judged AS (
    SELECT
        workflow.id,
        delivery.id AS delivery_id,
        workflow.status = 'running' AS is_started,
        CASE
            WHEN
                outcome.outcome = 'finished'
                AND delivery.status = 'targeting_pending'
                AND delivery.workflow_id = workflow.id
                AND coalesce(delivery.submitted_at, '-infinity') <= (workflow.conf ->> 'as_of')::timestamptz
                THEN 'failed'
            ELSE outcome.outcome
        END AS outcome,
        CASE
            WHEN outcome.outcome = 'finished'
                THEN
                    'The run ended well, but did not prepare the target of the delivery: the DAG needs the '
                    || 'delivery preparation as its last operator.'
            WHEN outcome.outcome = 'failed'
                THEN coalesce(workflow.failure, outcome.reason, 'The run failed.')
            ELSE outcome.reason
        END AS reason
    FROM outcome
    INNER JOIN campaign.workflow ON outcome.id = workflow.id
    LEFT JOIN campaign.delivery ON workflow.delivery_id = delivery.id
),

changed AS (
    UPDATE campaign.workflow AS workflow
    SET
        status = CASE judged.outcome
            WHEN 'started' THEN 'running'
            WHEN 'blocked' THEN 'queued'
            ELSE judged.outcome
        END,
        failure = CASE WHEN judged.outcome IN ('blocked', 'failed') THEN judged.reason END,
        finished_at = CASE WHEN judged.outcome IN ('finished', 'failed') THEN %(as_of)s::timestamptz END
    FROM judged
    WHERE
        workflow.id = judged.id
        AND (
            (judged.outcome = 'started' AND workflow.status = 'queued')
            OR (
                judged.outcome = 'blocked'
                AND (
                    workflow.status = 'running'
                    OR (workflow.status = 'queued' AND workflow.failure IS DISTINCT FROM judged.reason)
                )
            )
            OR (judged.outcome = 'finished' AND workflow.status = 'running')
            OR (judged.outcome = 'failed' AND workflow.status IN ('queued', 'running'))
        )
    RETURNING
        workflow.id, workflow.internal_name, workflow.label, workflow.campaign_id, workflow.delivery_id,
        workflow.dag_id, workflow.run_id, workflow.failure, judged.outcome, judged.is_started,
        campaign.workflow_run_url(workflow.dag_id, workflow.run_id) AS url
),

failed_delivery AS (
    UPDATE campaign.delivery AS delivery
    SET
        status = 'failed',
        failed_from = 'targeting_pending',
        failure = format(
            'Its targeting workflow %%s failed: %%s See %%s',
            changed.internal_name,
            changed.failure,
            changed.url
        )
    FROM changed
    WHERE
        changed.outcome = 'failed'
        AND delivery.workflow_id = changed.id
        AND delivery.status = 'targeting_pending'
    RETURNING delivery.id
),

written AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        CASE WHEN changed.outcome IN ('blocked', 'failed') THEN 'error' ELSE 'info' END AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        changed.campaign_id,
        changed.delivery_id,
        CASE changed.outcome
            WHEN 'started' THEN format('Workflow %%s was started: %%s', changed.internal_name, changed.url)
            WHEN
                'blocked'
                THEN
                    format(
                        'Workflow %%s cannot %%s: %%s', changed.internal_name,
                        CASE WHEN changed.is_started THEN 'go on' ELSE 'start' END, changed.failure
                    )
            WHEN 'finished' THEN format('Workflow %%s finished.', changed.internal_name)
            ELSE
                format(
                    'Workflow %%s failed: %%s See %%s', changed.internal_name, changed.failure, changed.url
                )
        END AS message
    FROM changed
),

told AS (
    INSERT INTO campaign.notification (
        kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id
    )
    SELECT
        'workflow_' || changed.outcome AS kind,
        format(
            'workflow_%%s:%%s:%%s:%%s', changed.outcome, changed.id,
            CASE WHEN changed.outcome = 'blocked' THEN md5(changed.failure) ELSE '' END, person.staff_id
        ) AS dedupe_key,
        %(dag_id)s::text,
        person.staff_id,
        person.email,
        jsonb_build_object(
            'workflow', changed.label,
            'workflow_name', changed.internal_name,
            'dag_id', changed.dag_id,
            'campaign', campaign.label,
            'delivery', delivery.label,
            'reason', changed.failure,
            'is_started', changed.is_started,
            'run_url', changed.url
        ) AS facts,
        changed.delivery_id,
        changed.campaign_id
    FROM changed
    LEFT JOIN campaign.campaign ON changed.campaign_id = campaign.id
    LEFT JOIN campaign.delivery ON changed.delivery_id = delivery.id
    CROSS JOIN LATERAL campaign.people_in_charge(changed.campaign_id) AS person
    WHERE changed.outcome IN ('blocked', 'failed')
    ON CONFLICT (dedupe_key) DO NOTHING
)

SELECT
    count(*) FILTER (WHERE changed.outcome = 'started') AS workflows_started,
    count(*) FILTER (WHERE changed.outcome = 'blocked') AS workflows_blocked,
    count(*) FILTER (WHERE changed.outcome = 'finished') AS workflows_finished,
    count(*) FILTER (WHERE changed.outcome = 'failed') AS workflows_failed,
    (SELECT count(*) FROM failed_delivery) AS deliveries_failed
FROM changed;
