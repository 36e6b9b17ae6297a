-- A delivery that waits for its target gets a workflow, one a round; workflows whose start is reached
-- enter the queue of their campaign.
-- Grain: one workflow per waiting delivery without an open one; one row per workflow that is queued.
-- Rerun: a delivery with an open workflow gets none, a queued workflow is not pending any more.

-- Without a workflow template nobody knows whom to target: a person must say.
WITH untargetable AS (
    UPDATE campaign.delivery AS delivery
    SET
        status = 'failed',
        failed_from = 'targeting_pending',
        failure
        = 'It has no workflow template, so nothing can target it. Give it one (workflow_template_id), '
        || 'then send it back with campaign.retry_delivery.'
    FROM campaign.campaign
    WHERE
        delivery.campaign_id = campaign.id
        AND delivery.status = 'targeting_pending'
        AND delivery.workflow_template_id IS NULL
        AND NOT delivery.is_template
        AND NOT campaign.is_template
        AND campaign.status <> 'canceled'
        AND coalesce(delivery.submitted_at, '-infinity') <= %(as_of)s::timestamptz
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    RETURNING
        delivery.id, delivery.label, delivery.campaign_id, delivery.failure,
        campaign.label AS campaign_label
),

written AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        'error' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        untargetable.campaign_id,
        untargetable.id,
        format('Delivery %%L failed: %%s', untargetable.label, untargetable.failure) AS message
    FROM untargetable
),

told AS (
    INSERT INTO campaign.notification (
        kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id
    )
    SELECT
        'targeting_failed' AS kind,
        format(
            'targeting_failed:%%s:%%s:%%s', untargetable.id,
            campaign.incident_number('targeting_failed', untargetable.id, person.staff_id), person.staff_id
        ) AS dedupe_key,
        %(dag_id)s::text,
        person.staff_id,
        person.email,
        jsonb_build_object(
            'campaign', untargetable.campaign_label,
            'delivery', untargetable.label,
            'reason', untargetable.failure
        ) AS facts,
        untargetable.id,
        untargetable.campaign_id
    FROM untargetable
    CROSS JOIN LATERAL campaign.people_in_charge(untargetable.campaign_id) AS person
    ON CONFLICT (dedupe_key) DO NOTHING
)

SELECT count(*) AS deliveries_without_template FROM untargetable;

-- A workflow that could not be started follows its template when that is corrected after it; what the
-- workflow itself is for stays, and so does what a person corrected on the workflow since.
WITH corrected AS (
    UPDATE campaign.workflow AS workflow
    SET
        dag_id = template.dag_id,
        conf = template.conf || jsonb_strip_nulls(
            jsonb_build_object(
                'workflow', workflow.conf -> 'workflow',
                'delivery', workflow.conf -> 'delivery',
                'deliveries', workflow.conf -> 'deliveries',
                'start_planning_date', workflow.conf -> 'start_planning_date',
                'as_of', workflow.conf -> 'as_of'
            )
        )
    FROM campaign.workflow_template AS template
    WHERE
        workflow.workflow_template_id = template.id
        AND workflow.status = 'queued'
        AND workflow.failure IS NOT NULL
        AND (
            workflow.delivery_id IS NOT NULL
            OR EXISTS (
                SELECT 1 FROM campaign.campaign_schedule AS line
                WHERE line.workflow_id = workflow.id
            )
        )
        AND template.updated_at > workflow.updated_at
        AND (
            workflow.dag_id <> template.dag_id
            OR workflow.conf - ARRAY['workflow', 'delivery', 'deliveries', 'start_planning_date', 'as_of']
            <> template.conf
        )
        AND (
            %(campaign)s::text IS NULL
            OR workflow.campaign_id = (
                SELECT campaign.id FROM campaign.campaign
                WHERE campaign.internal_name = %(campaign)s::text
            )
        )
    RETURNING workflow.id
)

SELECT count(*) AS workflows_corrected FROM corrected;

WITH due AS (
    SELECT
        delivery.id,
        delivery.internal_name,
        delivery.label,
        delivery.campaign_id,
        template.id AS workflow_template_id,
        template.dag_id,
        template.conf,
        template.severity,
        delivery.internal_name || '_targeting_' || (
            SELECT count(*) + 1 FROM campaign.workflow AS earlier
            WHERE earlier.delivery_id = delivery.id
        ) AS workflow_name,
        -- A recurring campaign counts its starts.
        CASE WHEN campaign.kind <> 'recurring' THEN coalesce(
            (
                SELECT max(counted.number)
                FROM campaign.workflow AS counted
                WHERE
                    counted.campaign_id = delivery.campaign_id
                    AND counted.workflow_template_id = template.id
            ),
            0
        ) + row_number() OVER (PARTITION BY delivery.campaign_id, template.id ORDER BY delivery.id) END AS number
    FROM campaign.delivery
    INNER JOIN campaign.campaign ON delivery.campaign_id = campaign.id
    INNER JOIN campaign.workflow_template AS template ON delivery.workflow_template_id = template.id
    WHERE
        delivery.status = 'targeting_pending'
        AND NOT delivery.is_template
        AND NOT campaign.is_template
        AND campaign.status <> 'canceled'
        AND coalesce(delivery.submitted_at, '-infinity') <= %(as_of)s::timestamptz
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.workflow AS open
            WHERE
                (open.delivery_id = delivery.id OR open.id = delivery.workflow_id)
                AND open.status IN ('pending', 'queued', 'running')
        )
),

-- A name that somebody else gave a workflow is left to it.
named AS (
    SELECT
        due.*,
        due.workflow_name || CASE
            WHEN
                EXISTS (
                    SELECT 1 FROM campaign.workflow AS other
                    WHERE other.internal_name = due.workflow_name
                )
                THEN '_' || due.id
            ELSE ''
        END AS free_name
    FROM due
),

created AS (
    INSERT INTO campaign.workflow (
        internal_name, label, workflow_template_id, campaign_id, delivery_id, number, dag_id, conf, severity
    )
    SELECT
        named.free_name,
        format('Targeting of %%s', named.label) AS label,
        named.workflow_template_id,
        named.campaign_id,
        named.id,
        named.number,
        named.dag_id,
        named.conf || jsonb_build_object(
            'workflow', named.free_name,
            'delivery', named.internal_name,
            'as_of', to_char(%(as_of)s::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        ) AS conf,
        named.severity
    FROM named
    RETURNING id, delivery_id, campaign_id, internal_name, dag_id
),

linked AS (
    UPDATE campaign.delivery AS delivery
    SET workflow_id = created.id
    FROM created
    WHERE delivery.id = created.delivery_id
),

written AS (
    INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        created.campaign_id,
        created.delivery_id,
        format('Workflow %%s of the DAG %%s was created to target it.', created.internal_name, created.dag_id)
            AS message
    FROM created
)

SELECT count(*) AS workflows_created FROM created;

-- As many at once as the setting allows: the more severe first, then the older. A workflow whose DAG is
-- missing or paused takes no place from the others.
WITH busy AS (
    SELECT
        workflow.campaign_id,
        count(*) AS workflow_count
    FROM campaign.workflow
    WHERE
        workflow.status = 'running'
        OR (workflow.status = 'queued' AND workflow.failure IS NULL)
    GROUP BY workflow.campaign_id
),

waiting AS (
    SELECT
        workflow.id,
        workflow.campaign_id,
        row_number() OVER (
            PARTITION BY workflow.campaign_id
            ORDER BY
                array_position(ARRAY['critical', 'production', 'normal'], workflow.severity),
                coalesce(workflow.starts_at, workflow.start_planning_date, workflow.created_at),
                workflow.id
        ) AS place
    FROM campaign.workflow
    LEFT JOIN campaign.campaign ON workflow.campaign_id = campaign.id
    WHERE
        workflow.status = 'pending'
        AND workflow.automatic_start
        AND coalesce(workflow.starts_at, workflow.start_planning_date, '-infinity') <= %(as_of)s::timestamptz
        AND campaign.status IS DISTINCT FROM 'canceled'
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
),

queued AS (
    UPDATE campaign.workflow AS workflow
    SET
        status = 'queued',
        queued_at = %(as_of)s::timestamptz,
        -- What a schedule line made in advance works as of its start.
        conf = workflow.conf || CASE
            WHEN
                EXISTS (
                    SELECT 1 FROM campaign.campaign_schedule AS line
                    WHERE line.workflow_id = workflow.id
                )
                THEN
                    jsonb_build_object(
                        'as_of',
                        to_char(%(as_of)s::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                    )
            ELSE '{}'
        END,
        run_id = campaign.workflow_run_id(workflow.internal_name, workflow.id)
    FROM waiting
    LEFT JOIN busy ON waiting.campaign_id IS NOT DISTINCT FROM busy.campaign_id
    WHERE
        workflow.id = waiting.id
        AND waiting.place
        <= campaign.whole_setting('workflows_at_once', 10) - coalesce(busy.workflow_count, 0)
    RETURNING workflow.id
)

SELECT
    (SELECT count(*) FROM queued) AS workflows_queued,
    (SELECT count(*) FROM waiting) - (SELECT count(*) FROM queued) AS workflows_waiting;

-- The deliveries that were copied with a workflow are submitted when it enters the queue.
WITH submitted AS (
    UPDATE campaign.delivery AS delivery
    SET status = 'targeting_pending', submitted_at = %(as_of)s::timestamptz
    FROM campaign.workflow
    INNER JOIN campaign.campaign_schedule AS line ON workflow.id = line.workflow_id
    LEFT JOIN campaign.campaign ON workflow.campaign_id = campaign.id
    WHERE
        delivery.workflow_id = workflow.id
        AND delivery.status = 'being_edited'
        AND workflow.status = 'queued'
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    RETURNING
        delivery.id,
        delivery.label,
        delivery.campaign_id,
        workflow.internal_name AS workflow
),

written AS (
    INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        submitted.campaign_id,
        submitted.id,
        format('Delivery %%L was submitted by the start of workflow %%s.', submitted.label, submitted.workflow)
            AS message
    FROM submitted
)

SELECT count(*) AS deliveries_submitted FROM submitted;

-- Told once per campaign and number: the text is the same as long as the setting is.
WITH crowded AS (
    SELECT
        campaign.id,
        format(
            'Campaign %%L has more than %%s workflows: a person does not see through it any more. '
            'Split it, or raise the setting workflows_shown.',
            campaign.label,
            campaign.whole_setting('workflows_shown', 28)
        ) AS message
    FROM (
        SELECT workflow.campaign_id
        FROM campaign.workflow
        WHERE
            workflow.campaign_id IN (
                SELECT open.campaign_id
                FROM campaign.workflow AS open
                WHERE open.status IN ('pending', 'queued', 'running')
            )
        GROUP BY workflow.campaign_id
        HAVING count(*) > campaign.whole_setting('workflows_shown', 28)
    ) AS counted
    INNER JOIN campaign.campaign ON counted.campaign_id = campaign.id
    WHERE %(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text
),

written AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, message)
    SELECT
        'warning' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        crowded.id,
        crowded.message
    FROM crowded
    WHERE
        NOT EXISTS (
            SELECT 1
            FROM campaign.journal
            WHERE
                journal.campaign_id = crowded.id
                AND journal.source = %(dag_id)s::text
                AND journal.message = crowded.message
        )
    RETURNING 1
)

SELECT count(*) AS campaigns_crowded FROM written;
