-- The rules of campaigns that repeat become lines of their schedules, as far as they come into view; lines that
-- no rule makes any more go, and starts that were missed are skipped where the campaign says so.
-- Grain: one row per schedule line that is made, dropped or skipped; one recurrence_plan per rule.
-- Rerun: a line stands once for a start, a rule is looked at again when its next line is near or it was changed,
-- a line that was served or skipped is left alone.

-- A rule that cannot be planned: said once, as long as it stands.
WITH unplannable AS (
    SELECT
        repeating.id,
        format(
            'The recurrence of campaign %%L makes no lines: %%s', repeating.label,
            coalesce(
                campaign.recurrence_problem(repeating.recurrence),
                'the rule counts from the start of the campaign, and it has none. Enter campaign.starts_at.'
            )
        ) AS message
    FROM campaign.repeating_campaign AS repeating
    LEFT JOIN campaign.recurrence_plan AS plan ON repeating.id = plan.campaign_id
    WHERE
        repeating.recurrence IS NOT NULL
        AND (%(campaign)s::text IS NULL OR repeating.internal_name = %(campaign)s::text)
        -- What was planned can be: checking all rules in each run would take seconds where there are thousands.
        AND CASE
            WHEN repeating.starts_at IS NULL THEN TRUE
            WHEN plan.rule IS DISTINCT FROM repeating.rule
                THEN campaign.recurrence_problem(repeating.recurrence) IS NOT NULL
            ELSE FALSE
        END
),

written AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, message)
    SELECT
        'error' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        unplannable.id,
        unplannable.message
    FROM unplannable
    WHERE
        NOT EXISTS (
            SELECT 1
            FROM campaign.journal
            WHERE journal.campaign_id = unplannable.id AND journal.message = unplannable.message
        )
)

SELECT count(*) AS rules_not_planned FROM unplannable;

-- Of a rule that was changed, what the run before this one saw stays as it was dealt with: the new rule holds
-- for starts after that.
CREATE TEMPORARY TABLE planned ON COMMIT DROP AS
WITH viewed AS (
    SELECT
        repeating.*,
        plan.campaign_id IS NOT NULL AND plan.rule <> repeating.rule AS is_changed,
        CASE
            WHEN plan.campaign_id IS NULL THEN '-infinity'
            WHEN plan.rule = repeating.rule THEN plan.planned_until
            WHEN plan.rule = '' THEN coalesce(seen.until, plan.planned_until)
            ELSE least(plan.planned_until, coalesce(seen.until, plan.planned_until))
        END AS planned_from,
        least(
            repeating.series_ends_at, %(as_of)s::timestamptz + repeating.created_before
        ) AS planned_until
    FROM campaign.repeating_campaign AS repeating
    LEFT JOIN campaign.recurrence_plan AS plan ON repeating.id = plan.campaign_id
    CROSS JOIN
        LATERAL (
            SELECT max(earlier.as_of) AS until
            FROM campaign.technical_run AS earlier
            WHERE
                earlier.dag_id = %(dag_id)s::text
                AND earlier.run_id <> %(run_id)s::text
                AND earlier.as_of <= %(as_of)s::timestamptz
                AND (earlier.campaign_id IS NULL OR earlier.campaign_id = repeating.id)
        ) AS seen
    WHERE
        repeating.recurrence IS NOT NULL
        AND repeating.starts_at IS NOT NULL
        AND (%(campaign)s::text IS NULL OR repeating.internal_name = %(campaign)s::text)
        AND CASE
            WHEN
                plan.rule IS DISTINCT FROM repeating.rule
                THEN campaign.recurrence_problem(repeating.recurrence) IS NULL
            ELSE plan.next_at <= %(as_of)s::timestamptz + repeating.created_before
        END
)

SELECT
    viewed.id AS campaign_id,
    viewed.rule,
    viewed.is_changed,
    viewed.planned_from,
    greatest(viewed.planned_from, viewed.planned_until) AS planned_until,
    viewed.submit_for_approval,
    viewed.automatic_start,
    viewed.recurrence,
    viewed.time_zone,
    viewed.starts_at,
    (
        SELECT min(starts.at)
        FROM campaign.next_starts(
            viewed.recurrence, viewed.time_zone, viewed.starts_at, greatest(viewed.planned_from, viewed.planned_until),
            nullif(viewed.series_ends_at, 'infinity'), 1
        ) AS starts (at)
    ) AS next_at
FROM viewed;

-- Lines of a rule that was changed or removed, not served yet and not in the new one.
WITH dropped AS (
    DELETE FROM campaign.campaign_schedule AS line
    USING campaign.campaign
    LEFT JOIN planned ON campaign.id = planned.campaign_id
    WHERE
        line.campaign_id = campaign.id
        AND line.from_rule
        AND line.workflow_id IS NULL
        AND line.created_campaign_id IS NULL
        AND line.skipped_at IS NULL
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
        AND (
            campaign.recurrence IS NULL
            OR (
                planned.is_changed
                AND (
                    line.starts_at > planned.planned_until
                    OR NOT campaign.is_start(
                        planned.recurrence, planned.time_zone, planned.starts_at, line.starts_at
                    )
                )
            )
        )
    RETURNING line.id
),

-- A campaign without a rule is remembered as that: a rule that it is given later holds from then on.
forgotten AS (
    INSERT INTO campaign.recurrence_plan (campaign_id, rule, planned_until)
    SELECT
        repeating.id,
        '' AS rule,
        %(as_of)s::timestamptz AS planned_until
    FROM campaign.repeating_campaign AS repeating
    WHERE
        repeating.recurrence IS NULL
        AND (%(campaign)s::text IS NULL OR repeating.internal_name = %(campaign)s::text)
    ON CONFLICT (campaign_id) DO UPDATE
        SET rule = '', planned_until = excluded.planned_until, next_at = NULL
        WHERE recurrence_plan.rule <> ''
)

SELECT count(*) AS lines_dropped FROM dropped;

WITH made AS (
    INSERT INTO campaign.campaign_schedule (campaign_id, starts_at, submit_for_approval, automatic_start, from_rule)
    SELECT
        planned.campaign_id,
        starts.at,
        planned.submit_for_approval,
        planned.automatic_start,
        TRUE AS from_rule
    FROM planned
    CROSS JOIN
        LATERAL campaign.recurrence_starts(
            planned.recurrence, planned.time_zone, planned.starts_at, planned.planned_from, planned.planned_until
        ) AS starts (at)
    ON CONFLICT (campaign_id, starts_at) DO NOTHING
    RETURNING id
),

kept AS (
    INSERT INTO campaign.recurrence_plan (campaign_id, rule, planned_until, next_at)
    SELECT
        planned.campaign_id,
        planned.rule,
        planned.planned_until,
        planned.next_at
    FROM planned
    ON CONFLICT (campaign_id) DO UPDATE
        SET rule = excluded.rule, planned_until = excluded.planned_until, next_at = excluded.next_at
)

SELECT count(*) AS lines_planned FROM made;

DROP TABLE planned;

-- Starts that were missed: as their campaign says, the latest only or none of them is served. What was created
-- in advance and waits for its start counts too, unless a run before this one has seen that start.
CREATE TEMPORARY TABLE missed ON COMMIT DROP AS
WITH seen AS (
    SELECT
        earlier.campaign_id,
        max(earlier.as_of) AS until
    FROM campaign.technical_run AS earlier
    WHERE
        earlier.dag_id = %(dag_id)s::text
        AND earlier.run_id <> %(run_id)s::text
        AND earlier.as_of <= %(as_of)s::timestamptz
    GROUP BY earlier.campaign_id
),

waiting AS (
    SELECT
        line.id,
        line.campaign_id,
        line.starts_at,
        line.workflow_id
    FROM campaign.campaign_schedule AS line
    WHERE line.workflow_id IS NULL AND line.created_campaign_id IS NULL AND line.skipped_at IS NULL
    UNION ALL
    SELECT
        line.id,
        line.campaign_id,
        line.starts_at,
        line.workflow_id
    FROM campaign.workflow
    INNER JOIN campaign.campaign_schedule AS line ON workflow.id = line.workflow_id
    WHERE
        workflow.status = 'pending'
        AND workflow.automatic_start
        AND workflow.starts_at IS NULL
        AND line.starts_at > coalesce(
            (
                SELECT max(seen.until) FROM seen
                WHERE seen.campaign_id IS NULL OR seen.campaign_id = line.campaign_id
            ),
            '-infinity'
        )
),

due AS (
    SELECT
        waiting.id,
        waiting.campaign_id,
        waiting.starts_at,
        waiting.workflow_id,
        repeating.missed_starts,
        repeating.label,
        repeating.time_zone,
        -- A later start that was reached, served or not, is the latest.
        (
            SELECT max(latest.starts_at)
            FROM campaign.campaign_schedule AS latest
            WHERE
                latest.campaign_id = waiting.campaign_id
                AND latest.starts_at <= least(%(as_of)s::timestamptz, repeating.series_ends_at)
        ) AS latest_at
    FROM waiting
    INNER JOIN campaign.repeating_campaign AS repeating ON waiting.campaign_id = repeating.id
    WHERE
        repeating.missed_starts IN ('latest', 'skip')
        AND waiting.starts_at < %(as_of)s::timestamptz - campaign.missed_after()
        AND waiting.starts_at <= repeating.series_ends_at
        AND (%(campaign)s::text IS NULL OR repeating.internal_name = %(campaign)s::text)
)

SELECT
    due.id,
    due.campaign_id,
    due.starts_at,
    due.workflow_id,
    due.missed_starts,
    due.label,
    due.time_zone
FROM due
WHERE due.missed_starts = 'skip' OR due.starts_at < due.latest_at;

-- Its copies of deliveries go with it (triggers/cancellation.sql).
UPDATE campaign.workflow
SET status = 'canceled', finished_at = %(as_of)s::timestamptz
FROM missed
WHERE workflow.id = missed.workflow_id;

WITH skipped AS (
    UPDATE campaign.campaign_schedule AS line
    SET skipped_at = %(as_of)s::timestamptz
    FROM missed
    WHERE line.id = missed.id
    RETURNING line.id
),

summed AS (
    SELECT
        missed.campaign_id,
        missed.missed_starts,
        missed.label,
        missed.time_zone,
        count(*) AS line_count,
        min(missed.starts_at) AS first_at,
        max(missed.starts_at) AS last_at
    FROM missed
    GROUP BY missed.campaign_id, missed.missed_starts, missed.label, missed.time_zone
),

described AS (
    SELECT
        summed.campaign_id,
        summed.label,
        summed.last_at,
        format(
            '%%s missed start%%s of campaign %%L %%s skipped, as its missed_starts (%%s) says: %%s%%s (%%s).',
            summed.line_count,
            CASE summed.line_count WHEN 1 THEN '' ELSE 's' END,
            summed.label,
            CASE summed.line_count WHEN 1 THEN 'was' ELSE 'were' END,
            summed.missed_starts,
            to_char(summed.first_at AT TIME ZONE summed.time_zone, 'YYYY-MM-DD HH24:MI'),
            CASE
                WHEN summed.line_count > 1
                    THEN ' to ' || to_char(summed.last_at AT TIME ZONE summed.time_zone, 'YYYY-MM-DD HH24:MI')
                ELSE ''
            END,
            summed.time_zone
        ) AS message
    FROM summed
),

written AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, message)
    SELECT
        'warning' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        described.campaign_id,
        described.message
    FROM described
),

told AS (
    INSERT INTO campaign.notification (kind, dedupe_key, source, staff_id, recipient_email, facts, campaign_id)
    SELECT
        'starts_skipped' AS kind,
        format(
            'starts_skipped:%%s:%%s:%%s', described.campaign_id, extract(EPOCH FROM described.last_at), person.staff_id
        ) AS dedupe_key,
        %(dag_id)s::text,
        person.staff_id,
        person.email,
        jsonb_build_object('campaign', described.label, 'reason', described.message) AS facts,
        described.campaign_id
    FROM described
    CROSS JOIN LATERAL campaign.people_in_charge(described.campaign_id) AS person
    ON CONFLICT (dedupe_key) DO NOTHING
)

SELECT count(*) AS lines_skipped FROM skipped;

DROP TABLE missed;
