-- What a rule will make: for people, before it is in force and after.

-- The next starts of a rule, at most so many. A rule that makes none within 40 years makes none.
CREATE OR REPLACE FUNCTION campaign.next_starts(
    rule text, time_zone text, first_start timestamptz, after timestamptz, ends_at timestamptz, how_many bigint
) RETURNS SETOF timestamptz
LANGUAGE plpgsql STABLE AS $$
DECLARE
    counted_to CONSTANT bigint := (campaign.recurrence_parts(rule) ->> 'COUNT')::bigint;
    -- Starts that are counted are looked at from the first: then it is known when there are no more.
    seen_until timestamptz := CASE
        WHEN counted_to IS NULL THEN greatest(after, first_start - interval '1 second')
        ELSE first_start - interval '1 second'
    END;
    last_at CONSTANT timestamptz := least(ends_at, greatest(after, first_start) + interval '40 years');
    -- Most rules have a start within days: a run asks thousands of them for the next one.
    width interval := interval '2 days';
    missing bigint := how_many;
    seen_count bigint := 0;
    found timestamptz[];
BEGIN
    WHILE missing > 0 AND seen_until < last_at AND (counted_to IS NULL OR seen_count < counted_to) LOOP
        found := ARRAY(
            SELECT campaign.recurrence_starts(
                rule, time_zone, first_start, seen_until, least(seen_until + width, last_at)
            )
        );
        seen_count := seen_count + cardinality(found);
        found := ARRAY(SELECT at FROM unnest(found) AS at WHERE at > after ORDER BY at LIMIT missing);
        missing := missing - cardinality(found);
        RETURN QUERY SELECT unnest(found);
        seen_until := least(seen_until + width, last_at);
        -- Rare starts are looked for in ever longer stretches.
        width := least(width * 4, interval '10 years');
    END LOOP;
END
$$;

-- How many lines a rule makes in all; null for one without an end.
CREATE OR REPLACE FUNCTION campaign.recurrence_line_count(
    rule text, time_zone text, first_start timestamptz, ends_at timestamptz DEFAULT NULL
) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT count(*)
    FROM (SELECT campaign.recurrence_parts($1) AS parts) AS entered
    CROSS JOIN LATERAL campaign.next_starts(
        $1, $2, $3, '-infinity',
        least(
            $4,
            -- What remains is cut by the rule itself.
            (left(entered.parts ->> 'UNTIL', 8)::date + 2)::timestamp AT TIME ZONE 'UTC'
        ),
        coalesce((entered.parts ->> 'COUNT')::bigint, 1000000)
    ) AS starts
    HAVING $4 IS NOT NULL OR campaign.recurrence_parts($1) ?| ARRAY['COUNT', 'UNTIL']
$$;

-- The next lines of a rule that is not entered yet:
-- SELECT * FROM campaign.preview_recurrence('FREQ=MONTHLY;BYDAY=-1FR', 'Europe/Paris', '2026-11-02 09:00+01');
-- :returns: number of the line, its start, the same in the zone of the rule, and how many lines the rule makes
-- in all (null: without end).
CREATE OR REPLACE FUNCTION campaign.preview_recurrence(
    rule text, time_zone text, first_start timestamptz, line_count integer DEFAULT 10
) RETURNS TABLE (number bigint, starts_at timestamptz, local_start timestamp, rule_makes bigint)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    problem CONSTANT text := campaign.recurrence_problem(rule);
BEGIN
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'The recurrence % cannot be used: %', quote_nullable(rule), problem
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN QUERY
    SELECT
        row_number() OVER (ORDER BY starts.at),
        starts.at,
        starts.at AT TIME ZONE preview_recurrence.time_zone,
        campaign.recurrence_line_count(rule, preview_recurrence.time_zone, first_start)
    FROM campaign.next_starts(rule, preview_recurrence.time_zone, first_start, '-infinity', NULL, line_count)
        AS starts (at);
END
$$;

-- The next lines of a campaign: those that wait in its schedule, and those that its rule will make.
-- :returns: the start, the same in the zone of the campaign, when the workflow or campaign is created, whether
-- it comes from the rule, and how many lines the rule makes in all (null: without end).
CREATE OR REPLACE FUNCTION campaign.preview_recurrence(campaign bigint, line_count integer DEFAULT 10)
RETURNS TABLE (
    starts_at timestamptz, local_start timestamp, created_from timestamptz, from_rule boolean, rule_makes bigint
)
LANGUAGE sql STABLE AS $$
    WITH repeating AS (
        SELECT * FROM campaign.repeating_campaign AS repeating WHERE repeating.id = $1
    ),

    waiting AS (
        SELECT line.starts_at, line.from_rule
        FROM campaign.campaign_schedule AS line
        INNER JOIN repeating ON line.campaign_id = repeating.id
        WHERE
            num_nonnulls(line.workflow_id, line.created_campaign_id, line.skipped_at) = 0
            AND line.starts_at <= repeating.series_ends_at
    ),

    -- How far the rule has been made into lines. Of one that no run has seen yet, past starts were missed: they are
    -- made, as far as they will not be skipped.
    made AS (
        SELECT
            CASE
                WHEN
                    EXISTS (
                        SELECT 1 FROM campaign.recurrence_plan AS plan WHERE plan.campaign_id = repeating.id
                    )
                    THEN campaign.moment()
                WHEN repeating.missed_starts = 'run_all' THEN '-infinity'
                WHEN repeating.missed_starts = 'latest' THEN least(
                    (
                        SELECT max(missed.at) - interval '1 second'
                        FROM campaign.recurrence_starts(
                            repeating.recurrence, repeating.time_zone, repeating.starts_at, '-infinity',
                            least(campaign.moment(), repeating.series_ends_at)
                        ) AS missed (at)
                    ),
                    campaign.moment() - campaign.missed_after()
                )
                ELSE campaign.moment() - campaign.missed_after()
            END AS until
        FROM repeating
        WHERE
            num_nulls(repeating.recurrence, repeating.starts_at) = 0
            AND campaign.recurrence_problem(repeating.recurrence) IS NULL
    ),

    -- As many more as may be left when those that stand in the schedule already are taken out.
    coming AS (
        SELECT starts.at AS starts_at, TRUE AS from_rule
        FROM repeating
        CROSS JOIN made
        CROSS JOIN LATERAL campaign.next_starts(
            repeating.recurrence, repeating.time_zone, repeating.starts_at, made.until,
            nullif(repeating.series_ends_at, 'infinity'),
            $2 + (SELECT count(*) FROM campaign.campaign_schedule AS line WHERE line.campaign_id = $1)
        ) AS starts (at)
    ),

    lines AS (
        SELECT waiting.starts_at, waiting.from_rule FROM waiting
        UNION ALL
        SELECT coming.starts_at, coming.from_rule
        FROM coming
        WHERE
            NOT EXISTS (
                SELECT 1
                FROM campaign.campaign_schedule AS line
                WHERE line.campaign_id = $1 AND line.starts_at = coming.starts_at
            )
    )

    SELECT
        lines.starts_at,
        lines.starts_at AT TIME ZONE repeating.time_zone,
        lines.starts_at - repeating.created_before,
        lines.from_rule,
        CASE
            WHEN
                num_nulls(repeating.recurrence, repeating.starts_at) = 0
                AND campaign.recurrence_problem(repeating.recurrence) IS NULL
                THEN
                    campaign.recurrence_line_count(
                        repeating.recurrence, repeating.time_zone, repeating.starts_at,
                        nullif(repeating.series_ends_at, 'infinity')
                    )
        END
    FROM lines
    CROSS JOIN repeating
    ORDER BY lines.starts_at
    LIMIT $2
$$;
