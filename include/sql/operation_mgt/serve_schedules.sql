-- Each schedule line whose time has come is served: a recurring campaign gets a workflow, a copy of its workflow
-- template with copies of the deliveries that belong to it; of a periodic campaign a whole new one is made.
-- Grain: one row per line served, and per row copied for it, all in one statement. At most creation_cap lines a
-- campaign; what is above it waits for the next run.
-- Rerun: the line names what was made for it, in the same transaction.
--
-- A copy is the whole row of its pattern (jsonb_populate_record), but for what is named beside it: so a column
-- that is added later is copied, and a test asks what is to become of it.

CREATE TEMPORARY TABLE serving ON COMMIT DROP AS
WITH due AS (
    SELECT
        line.id AS line_id,
        line.starts_at,
        line.submit_for_approval,
        line.automatic_start,
        repeating.id AS campaign_id,
        repeating.internal_name,
        repeating.label,
        repeating.kind,
        repeating.starts_at AS pattern_starts_at,
        repeating.time_zone,
        repeating.creation_cap,
        row_number() OVER (PARTITION BY line.campaign_id ORDER BY line.starts_at) AS place
    FROM campaign.campaign_schedule AS line
    INNER JOIN campaign.repeating_campaign AS repeating ON line.campaign_id = repeating.id
    WHERE
        line.workflow_id IS NULL
        AND line.created_campaign_id IS NULL
        AND line.skipped_at IS NULL
        AND line.starts_at <= %(as_of)s::timestamptz + repeating.created_before
        AND line.starts_at <= repeating.series_ends_at
        AND (%(campaign)s::text IS NULL OR repeating.internal_name = %(campaign)s::text)
),

due_campaign AS (
    SELECT DISTINCT
        due.campaign_id,
        due.kind,
        due.pattern_starts_at
    FROM due
),

-- What a campaign's lines are made from, how many were before them, and what is in their way.
prepared AS (
    SELECT
        due_campaign.campaign_id,
        template.id AS workflow_template_id,
        CASE due_campaign.kind
            WHEN 'recurring'
                THEN (
                    SELECT max(workflow.number) FROM campaign.workflow
                    WHERE workflow.campaign_id = due_campaign.campaign_id
                )
            ELSE (
                SELECT count(line.created_campaign_id) FROM campaign.campaign_schedule AS line
                WHERE line.campaign_id = due_campaign.campaign_id
            )
        END AS served_before,
        CASE
            WHEN due_campaign.kind = 'recurring' AND template.id IS NULL
                THEN
                    'it has no workflow template, so there is nothing to run. Give it one '
                    || '(workflow_template.campaign_id).'
            WHEN
                due_campaign.pattern_starts_at IS NULL
                AND (
                    EXISTS (
                        SELECT 1 FROM campaign.delivery
                        WHERE
                            delivery.campaign_id = due_campaign.campaign_id
                            AND (due_campaign.kind = 'periodic' OR delivery.is_template)
                            AND num_nonnulls(delivery.extraction_date, delivery.contact_date) > 0
                    )
                    OR (
                        due_campaign.kind = 'periodic'
                        AND EXISTS (
                            SELECT 1 FROM campaign.task
                            WHERE
                                task.campaign_id = due_campaign.campaign_id
                                AND num_nonnulls(task.starts_at, task.ends_at) > 0
                        )
                    )
                )
                THEN
                    'the dates of its deliveries and tasks count from its start, and it has none. Enter '
                    || 'campaign.starts_at.'
        END AS problem
    FROM due_campaign
    LEFT JOIN LATERAL (
        -- The one whose deliveries are to be copied, else the first.
        SELECT candidate.id
        FROM campaign.workflow_template AS candidate
        WHERE candidate.campaign_id = due_campaign.campaign_id AND due_campaign.kind = 'recurring'
        ORDER BY
            EXISTS (
                SELECT 1 FROM campaign.delivery
                WHERE delivery.workflow_template_id = candidate.id AND delivery.is_template
            ) DESC,
            candidate.id
        LIMIT 1
    ) AS template ON TRUE
)

SELECT
    due.*,
    prepared.workflow_template_id,
    prepared.problem,
    coalesce(prepared.served_before, 0) + due.place AS number
FROM due
INNER JOIN prepared ON due.campaign_id = prepared.campaign_id;

-- So that the plan of what follows fits one line as well as ten thousand.
ANALYZE serving;

WITH hindered AS (
    SELECT DISTINCT
        serving.campaign_id,
        format('The schedule of campaign %%L cannot be served: %%s', serving.label, serving.problem) AS message
    FROM serving
    WHERE serving.problem IS NOT NULL
),

-- Said once, as long as it stands.
written AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, message)
    SELECT
        'error' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        hindered.campaign_id,
        hindered.message
    FROM hindered
    WHERE
        NOT EXISTS (
            SELECT 1
            FROM campaign.journal
            WHERE journal.campaign_id = hindered.campaign_id AND journal.message = hindered.message
        )
),

above AS (
    SELECT
        serving.campaign_id,
        serving.label,
        serving.creation_cap,
        count(*) AS line_count
    FROM serving
    WHERE serving.problem IS NULL AND serving.place > serving.creation_cap
    GROUP BY serving.campaign_id, serving.label, serving.creation_cap
),

told AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, message)
    SELECT
        'warning' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        above.campaign_id,
        format(
            '%%s schedule line%%s of campaign %%L wait for the next run: one run serves %%s (creation_cap).',
            above.line_count, CASE above.line_count WHEN 1 THEN '' ELSE 's' END, above.label, above.creation_cap
        ) AS message
    FROM above
)

SELECT
    (SELECT count(*) FROM hindered) AS schedules_hindered,
    (SELECT coalesce(sum(above.line_count), 0)::bigint FROM above) AS lines_waiting;

WITH served AS (
    SELECT serving.*
    FROM serving
    WHERE serving.problem IS NULL AND serving.place <= serving.creation_cap
    ORDER BY serving.starts_at, serving.line_id
),

campaign_copy AS MATERIALIZED (
    SELECT
        served.line_id,
        served.campaign_id AS source_id,
        nextval('campaign.campaign_id_seq') AS id,
        served.internal_name || '_' || served.number || CASE
            WHEN
                EXISTS (
                    SELECT 1 FROM campaign.campaign AS other
                    WHERE other.internal_name = served.internal_name || '_' || served.number
                )
                THEN '~' || served.line_id
            ELSE ''
        END AS internal_name,
        served.label || ' - #' || served.number AS label
    FROM served
    WHERE served.kind = 'periodic'
),

new_campaign AS (
    INSERT INTO campaign.campaign
    SELECT copy.*
    FROM campaign_copy
    INNER JOIN served ON campaign_copy.line_id = served.line_id
    INNER JOIN campaign.campaign AS source ON campaign_copy.source_id = source.id
    CROSS JOIN LATERAL jsonb_populate_record(source, jsonb_build_object(
        'id', campaign_copy.id,
        'internal_name', campaign_copy.internal_name,
        'label', campaign_copy.label,
        'kind', 'unique',
        'is_template', FALSE,
        'template_id', source.id,
        'follows_template', FALSE,
        'status', 'being_edited',
        'starts_at', served.starts_at,
        -- When clocks change between the two, an end could come before its start.
        'ends_at', greatest(
            CASE
                WHEN source.duration IS NOT NULL
                    THEN campaign.first_moment(
                        (served.starts_at AT TIME ZONE source.time_zone) + source.duration, source.time_zone
                    )
                ELSE campaign.shifted(source.ends_at, source.starts_at, served.starts_at, source.time_zone)
            END,
            CASE WHEN num_nonnulls(source.duration, source.ends_at) > 0 THEN served.starts_at END
        ),
        'recurrence', NULL,
        'real_cost', NULL,
        'calculated_cost', NULL,
        'canceled_at', NULL,
        'created_at', %(as_of)s::timestamptz,
        'updated_at', %(as_of)s::timestamptz
    )) AS copy
),

template_copy AS MATERIALIZED (
    SELECT
        campaign_copy.line_id,
        source.id AS source_id,
        campaign_copy.id AS campaign_id,
        nextval('campaign.workflow_template_id_seq') AS id,
        source.internal_name || '_' || served.number || CASE
            WHEN
                EXISTS (
                    SELECT 1 FROM campaign.workflow_template AS other
                    WHERE other.internal_name = source.internal_name || '_' || served.number
                )
                THEN '~' || served.line_id
            ELSE ''
        END AS internal_name
    FROM campaign_copy
    INNER JOIN served ON campaign_copy.line_id = served.line_id
    INNER JOIN campaign.workflow_template AS source ON campaign_copy.source_id = source.campaign_id
),

new_template AS (
    INSERT INTO campaign.workflow_template
    SELECT copy.*
    FROM template_copy
    INNER JOIN campaign.workflow_template AS source ON template_copy.source_id = source.id
    CROSS JOIN LATERAL jsonb_populate_record(source, jsonb_build_object(
        'id', template_copy.id,
        'internal_name', template_copy.internal_name,
        'campaign_id', template_copy.campaign_id,
        'created_at', %(as_of)s::timestamptz,
        'updated_at', %(as_of)s::timestamptz
    )) AS copy
),

outline_copy AS MATERIALIZED (
    SELECT
        campaign_copy.line_id,
        source.id AS source_id,
        campaign_copy.id AS campaign_id,
        nextval('campaign.delivery_outline_id_seq') AS id,
        source.internal_name || '_' || served.number || CASE
            WHEN
                EXISTS (
                    SELECT 1 FROM campaign.delivery_outline AS other
                    WHERE other.internal_name = source.internal_name || '_' || served.number
                )
                THEN '~' || served.line_id
            ELSE ''
        END AS internal_name
    FROM campaign_copy
    INNER JOIN served ON campaign_copy.line_id = served.line_id
    INNER JOIN campaign.delivery_outline AS source ON campaign_copy.source_id = source.campaign_id
),

new_outline AS (
    INSERT INTO campaign.delivery_outline
    SELECT copy.*
    FROM outline_copy
    INNER JOIN campaign.delivery_outline AS source ON outline_copy.source_id = source.id
    CROSS JOIN LATERAL jsonb_populate_record(source, jsonb_build_object(
        'id', outline_copy.id,
        'internal_name', outline_copy.internal_name,
        'campaign_id', outline_copy.campaign_id,
        'created_at', %(as_of)s::timestamptz,
        'updated_at', %(as_of)s::timestamptz
    )) AS copy
),

new_outline_item AS (
    INSERT INTO campaign.delivery_outline_item
    SELECT copy.*
    FROM outline_copy
    INNER JOIN campaign.delivery_outline_item AS source ON outline_copy.source_id = source.outline_id
    CROSS JOIN
        LATERAL jsonb_populate_record(source, jsonb_build_object(
            'id', nextval('campaign.delivery_outline_item_id_seq'),
            'outline_id', outline_copy.id,
            'created_at', %(as_of)s::timestamptz,
            'updated_at', %(as_of)s::timestamptz
        )) AS copy
    ORDER BY source.id
),

workflow_copy AS MATERIALIZED (
    SELECT
        served.line_id,
        served.campaign_id,
        served.workflow_template_id AS source_id,
        served.starts_at,
        served.automatic_start,
        served.number,
        nextval('campaign.workflow_id_seq') AS id,
        source.internal_name || '_' || served.number || CASE
            WHEN
                EXISTS (
                    SELECT 1 FROM campaign.workflow AS other
                    WHERE other.internal_name = source.internal_name || '_' || served.number
                )
                THEN '~' || served.line_id
            ELSE ''
        END AS internal_name
    FROM served
    INNER JOIN campaign.workflow_template AS source ON served.workflow_template_id = source.id
    WHERE served.kind = 'recurring'
),

-- Of a periodic campaign all its deliveries, of a recurring one those that are patterns for its workflow.
delivery_copy AS MATERIALIZED (
    SELECT
        served.line_id,
        source.id AS source_id,
        coalesce(campaign_copy.id, served.campaign_id) AS campaign_id,
        workflow_copy.id AS workflow_id,
        nextval('campaign.delivery_id_seq') AS id,
        source.internal_name || '_' || served.number || CASE
            WHEN
                EXISTS (
                    SELECT 1 FROM campaign.delivery AS other
                    WHERE other.internal_name = source.internal_name || '_' || served.number
                )
                THEN '~' || served.line_id
            ELSE ''
        END AS internal_name
    FROM served
    INNER JOIN campaign.delivery AS source ON served.campaign_id = source.campaign_id
    LEFT JOIN campaign_copy ON served.line_id = campaign_copy.line_id
    LEFT JOIN workflow_copy ON served.line_id = workflow_copy.line_id
    WHERE
        source.status <> 'canceled'
        AND (
            served.kind = 'periodic'
            OR (source.is_template AND source.workflow_template_id = served.workflow_template_id)
        )
),

deliveries_of_line AS (
    SELECT
        delivery_copy.line_id,
        array_agg(delivery_copy.id ORDER BY delivery_copy.source_id) AS ids,
        array_agg(delivery_copy.internal_name ORDER BY delivery_copy.source_id) AS names
    FROM delivery_copy
    GROUP BY delivery_copy.line_id
),

new_workflow AS (
    INSERT INTO campaign.workflow (
        id, internal_name, label, workflow_template_id, campaign_id, delivery_id, number, dag_id, conf, severity,
        start_planning_date, automatic_start
    )
    SELECT
        workflow_copy.id,
        workflow_copy.internal_name,
        source.label || ' - #' || workflow_copy.number AS label,
        source.id AS workflow_template_id,
        workflow_copy.campaign_id,
        -- What several deliveries wait for does not end with one of them.
        CASE WHEN cardinality(deliveries.ids) = 1 THEN deliveries.ids[1] END AS delivery_id,
        workflow_copy.number,
        source.dag_id,
        source.conf || jsonb_strip_nulls(
            jsonb_build_object(
                'workflow', workflow_copy.internal_name,
                'delivery', deliveries.names[1],
                'deliveries', CASE WHEN cardinality(deliveries.names) > 1 THEN to_jsonb(deliveries.names) END,
                'start_planning_date',
                to_char(workflow_copy.starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            )
        ) AS conf,
        source.severity,
        workflow_copy.starts_at,
        workflow_copy.automatic_start
    FROM workflow_copy
    INNER JOIN campaign.workflow_template AS source ON workflow_copy.source_id = source.id
    LEFT JOIN deliveries_of_line AS deliveries ON workflow_copy.line_id = deliveries.line_id
),

new_delivery AS (
    INSERT INTO campaign.delivery
    SELECT copy.*
    FROM delivery_copy
    INNER JOIN served ON delivery_copy.line_id = served.line_id
    INNER JOIN campaign.delivery AS source ON delivery_copy.source_id = source.id
    LEFT JOIN template_copy
        ON source.workflow_template_id = template_copy.source_id AND served.line_id = template_copy.line_id
    LEFT JOIN outline_copy ON source.outline_id = outline_copy.source_id AND served.line_id = outline_copy.line_id
    CROSS JOIN LATERAL jsonb_populate_record(source, jsonb_build_object(
        'id', delivery_copy.id,
        'internal_name', delivery_copy.internal_name,
        'label', source.label || CASE served.kind WHEN 'recurring' THEN ' - #' || served.number ELSE '' END,
        'campaign_id', delivery_copy.campaign_id,
        'status', 'being_edited',
        'is_template', FALSE,
        -- What belongs to no campaign, or to another one, is named and not copied.
        'workflow_template_id', coalesce(template_copy.id, source.workflow_template_id),
        'outline_id', coalesce(outline_copy.id, source.outline_id),
        'workflow_id', delivery_copy.workflow_id,
        'extraction_date', campaign.shifted(
            source.extraction_date, served.pattern_starts_at, served.starts_at, served.time_zone
        ),
        'contact_date', campaign.shifted(
            source.contact_date, served.pattern_starts_at, served.starts_at, served.time_zone
        ),
        'approvals_demanded', source.approvals_demanded OR served.submit_for_approval,
        'created_at', %(as_of)s::timestamptz,
        'updated_at', %(as_of)s::timestamptz
    ) || jsonb_build_object(
        'failed_from', NULL, 'failure', NULL, 'real_cost', NULL, 'calculated_cost', NULL,
        'targeted_count', NULL, 'message_count', NULL, 'submitted_at', NULL, 'analysed_at', NULL,
        'extracted_at', NULL, 'started_at', NULL, 'finished_at', NULL, 'canceled_at', NULL,
        'held_at', NULL, 'released_at', NULL, 'confirmed_at', NULL, 'confirmed_by_id', NULL,
        'content_checked', FALSE
    )) AS copy
),

new_delivery_cost AS (
    INSERT INTO campaign.delivery_cost
    SELECT copy.*
    FROM delivery_copy
    INNER JOIN campaign.delivery_cost AS source ON delivery_copy.source_id = source.delivery_id
    CROSS JOIN LATERAL jsonb_populate_record(source, jsonb_build_object(
        'id', nextval('campaign.delivery_cost_id_seq'),
        'delivery_id', delivery_copy.id,
        'created_at', %(as_of)s::timestamptz,
        'updated_at', %(as_of)s::timestamptz
    )) AS copy
),

task_copy AS MATERIALIZED (
    SELECT
        campaign_copy.line_id,
        source.id AS source_id,
        campaign_copy.id AS campaign_id,
        nextval('campaign.task_id_seq') AS id,
        source.internal_name || '_' || served.number || CASE
            WHEN
                EXISTS (
                    SELECT 1 FROM campaign.task AS other
                    WHERE other.internal_name = source.internal_name || '_' || served.number
                )
                THEN '~' || served.line_id
            ELSE ''
        END AS internal_name
    FROM campaign_copy
    INNER JOIN served ON campaign_copy.line_id = served.line_id
    INNER JOIN campaign.task AS source ON campaign_copy.source_id = source.campaign_id
    WHERE source.status <> 'canceled'
),

new_task AS (
    INSERT INTO campaign.task
    SELECT copy.*
    FROM task_copy
    INNER JOIN served ON task_copy.line_id = served.line_id
    INNER JOIN campaign.task AS source ON task_copy.source_id = source.id
    CROSS JOIN LATERAL jsonb_populate_record(source, jsonb_build_object(
        'id', task_copy.id,
        'internal_name', task_copy.internal_name,
        'campaign_id', task_copy.campaign_id,
        'status', 'scheduled',
        'starts_at', campaign.shifted(
            source.starts_at, served.pattern_starts_at, served.starts_at, served.time_zone
        ),
        'ends_at', greatest(
            campaign.shifted(source.ends_at, served.pattern_starts_at, served.starts_at, served.time_zone),
            CASE
                WHEN source.ends_at IS NOT NULL
                    THEN campaign.shifted(
                        source.starts_at, served.pattern_starts_at, served.starts_at, served.time_zone
                    )
            END
        ),
        'days_completed', 0,
        'finished_at', NULL,
        'canceled_at', NULL,
        'real_cost', NULL,
        'calculated_cost', NULL,
        'created_at', %(as_of)s::timestamptz,
        'updated_at', %(as_of)s::timestamptz
    )) AS copy
),

new_task_cost AS (
    INSERT INTO campaign.task_cost
    SELECT copy.*
    FROM task_copy
    INNER JOIN campaign.task_cost AS source ON task_copy.source_id = source.task_id
    CROSS JOIN LATERAL jsonb_populate_record(source, jsonb_build_object(
        'id', nextval('campaign.task_cost_id_seq'),
        'task_id', task_copy.id,
        'created_at', %(as_of)s::timestamptz,
        'updated_at', %(as_of)s::timestamptz
    )) AS copy
),

-- What something really cost is no setting.
new_cost_breakdown AS (
    INSERT INTO campaign.cost_breakdown
    SELECT copy.*
    FROM (
        SELECT
            breakdown.id AS source_id,
            campaign_copy.id AS copy_id
        FROM campaign_copy
        INNER JOIN campaign.cost_breakdown AS breakdown ON campaign_copy.source_id = breakdown.campaign_id
        UNION ALL
        SELECT
            breakdown.id AS source_id,
            delivery_copy.id AS copy_id
        FROM delivery_copy
        INNER JOIN campaign.cost_breakdown AS breakdown ON delivery_copy.source_id = breakdown.delivery_id
        UNION ALL
        SELECT
            breakdown.id AS source_id,
            task_copy.id AS copy_id
        FROM task_copy
        INNER JOIN campaign.cost_breakdown AS breakdown ON task_copy.source_id = breakdown.task_id
    ) AS element
    INNER JOIN campaign.cost_breakdown AS source ON element.source_id = source.id
    CROSS JOIN
        LATERAL jsonb_populate_record(source, jsonb_build_object(
            'id', nextval('campaign.cost_breakdown_id_seq'),
            'campaign_id', CASE WHEN source.campaign_id IS NOT NULL THEN element.copy_id END,
            'delivery_id', CASE WHEN source.delivery_id IS NOT NULL THEN element.copy_id END,
            'task_id', CASE WHEN source.task_id IS NOT NULL THEN element.copy_id END,
            'created_at', %(as_of)s::timestamptz,
            'updated_at', %(as_of)s::timestamptz
        )) AS copy
    WHERE source.kind = 'provisional'
),

-- What holds for the pattern: of a campaign that was made from a template, the template's where it has none.
policy_copy AS MATERIALIZED (
    SELECT
        policy.id AS source_id,
        campaign_copy.id AS campaign_id,
        NULL::bigint AS delivery_id,
        nextval('campaign.approval_policy_id_seq') AS id
    FROM campaign_copy
    INNER JOIN campaign.campaign AS source ON campaign_copy.source_id = source.id
    INNER JOIN campaign.approval_policy AS policy ON policy.campaign_id IN (source.id, source.template_id)
    WHERE
        policy.campaign_id = source.id
        OR (
            source.follows_template
            AND NOT EXISTS (
                SELECT 1 FROM campaign.approval_policy AS own
                WHERE own.campaign_id = source.id AND own.kind = policy.kind
            )
        )
    UNION ALL
    SELECT
        policy.id AS source_id,
        NULL::bigint AS campaign_id,
        delivery_copy.id AS delivery_id,
        nextval('campaign.approval_policy_id_seq') AS id
    FROM delivery_copy
    INNER JOIN campaign.approval_policy AS policy ON delivery_copy.source_id = policy.delivery_id
),

new_policy AS (
    INSERT INTO campaign.approval_policy
    SELECT copy.*
    FROM policy_copy
    INNER JOIN campaign.approval_policy AS source ON policy_copy.source_id = source.id
    CROSS JOIN LATERAL jsonb_populate_record(source, jsonb_build_object(
        'id', policy_copy.id,
        'campaign_id', policy_copy.campaign_id,
        'delivery_id', policy_copy.delivery_id,
        'created_at', %(as_of)s::timestamptz,
        'updated_at', %(as_of)s::timestamptz
    )) AS copy
),

new_reviewer AS (
    INSERT INTO campaign.approval_policy_reviewer
    SELECT copy.*
    FROM policy_copy
    INNER JOIN campaign.approval_policy_reviewer AS source ON policy_copy.source_id = source.approval_policy_id
    CROSS JOIN LATERAL jsonb_populate_record(source, jsonb_build_object(
        'id', nextval('campaign.approval_policy_reviewer_id_seq'),
        'approval_policy_id', policy_copy.id
    )) AS copy
),

named AS (
    UPDATE campaign.campaign_schedule AS line
    SET workflow_id = workflow_copy.id, created_campaign_id = campaign_copy.id
    FROM served
    LEFT JOIN workflow_copy ON served.line_id = workflow_copy.line_id
    LEFT JOIN campaign_copy ON served.line_id = campaign_copy.line_id
    WHERE line.id = served.line_id
),

written AS (
    INSERT INTO campaign.journal (source, run_id, campaign_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        served.campaign_id,
        format(
            '%%s was created for the start of %%s (%%s).',
            coalesce('Workflow ' || workflow_copy.internal_name, 'Campaign ' || campaign_copy.internal_name),
            to_char(served.starts_at AT TIME ZONE served.time_zone, 'YYYY-MM-DD HH24:MI'),
            served.time_zone
        ) AS message
    FROM served
    LEFT JOIN workflow_copy ON served.line_id = workflow_copy.line_id
    LEFT JOIN campaign_copy ON served.line_id = campaign_copy.line_id
)

SELECT
    (SELECT count(*) FROM workflow_copy) AS recurring_workflows_created,
    (SELECT count(*) FROM campaign_copy) AS campaigns_created,
    (SELECT count(*) FROM delivery_copy) AS deliveries_copied;

SELECT
    format(
        '%%s: %%s for the start of %%s (%%s)',
        serving.internal_name,
        coalesce('workflow ' || workflow.internal_name, 'campaign ' || created.internal_name),
        to_char(serving.starts_at AT TIME ZONE serving.time_zone, 'YYYY-MM-DD HH24:MI'),
        serving.time_zone
    ) AS report
FROM serving
INNER JOIN campaign.campaign_schedule AS line ON serving.line_id = line.id
LEFT JOIN campaign.workflow ON line.workflow_id = workflow.id
LEFT JOIN campaign.campaign AS created ON line.created_campaign_id = created.id
WHERE num_nonnulls(line.workflow_id, line.created_campaign_id) > 0
ORDER BY serving.starts_at, serving.line_id;

DROP TABLE serving;
