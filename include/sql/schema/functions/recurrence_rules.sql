-- Recurrence rules (RFC 5545, RRULE): what is wrong with one, and which starts it makes.
--
-- A rule counts in the local time of its campaign, from the campaign's start (DTSTART). A local time that does
-- not exist, when clocks go forward, is as much later as they are put forward (02:30 becomes 03:30); one that
-- exists twice, when they go back, is its first occurrence. So says RFC 5545, 3.3.5 and 3.3.10.

-- The moment of a local time. PostgreSQL agrees with the RFC on times that do not exist; of two it takes the
-- later: the first is the one at the offset of the day before.
CREATE OR REPLACE FUNCTION campaign.first_moment(local_time timestamp, time_zone text) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN
        ((local_time - interval '1 day') AT TIME ZONE time_zone + interval '24 hours') AT TIME ZONE time_zone
        = local_time
        THEN (local_time - interval '1 day') AT TIME ZONE time_zone + interval '24 hours'
    ELSE local_time AT TIME ZONE time_zone
END;

-- A date of a pattern, moved with its start: the same time of day as many days later, whatever clocks do between.
CREATE OR REPLACE FUNCTION campaign.shifted(
    at timestamptz, from_start timestamptz, to_start timestamptz, time_zone text
) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN campaign.first_moment(
    (at AT TIME ZONE time_zone) + ((to_start AT TIME ZONE time_zone) - (from_start AT TIME ZONE time_zone)), time_zone
);

-- The parts of a rule by their names: {"FREQ": "WEEKLY", "BYDAY": "MO,TU"}. No case, no spaces; RRULE: may lead.
CREATE OR REPLACE FUNCTION campaign.recurrence_parts(rule text) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT coalesce(jsonb_object_agg(split_part(part, '=', 1), split_part(part, '=', 2)), '{}')
    FROM regexp_split_to_table(regexp_replace(upper(regexp_replace(rule, '\s', '', 'g')), '^RRULE:', ''), ';') AS part
    WHERE part <> ''
);

-- What is wrong with a rule, in a sentence; null if nothing is.
CREATE OR REPLACE FUNCTION campaign.recurrence_problem(rule text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    WITH entered AS (
        SELECT
            campaign.recurrence_parts($1) AS parts,
            regexp_split_to_array(
                regexp_replace(upper(regexp_replace($1, '\s', '', 'g')), '^RRULE:|;$', '', 'g'), ';'
            ) AS pieces
    ),

    grammar (name, shape, wanted) AS (
        VALUES
        ('FREQ', '(YEARLY|MONTHLY|WEEKLY|DAILY|HOURLY|MINUTELY)', 'YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY or MINUTELY'),
        ('INTERVAL', '[1-9]\d{0,3}', 'a number from 1'),
        ('COUNT', '[1-9]\d{0,4}', 'a number from 1 to 99999'),
        ('UNTIL', '\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(T([01]\d|2[0-3])[0-5]\d[0-5]\dZ?)?', 'a day like 20271231, or a moment like 20271231T120000Z'),
        ('WKST', '(MO|TU|WE|TH|FR|SA|SU)', 'a day like MO'),
        ('BYMONTH', '(0?[1-9]|1[0-2])(,(0?[1-9]|1[0-2]))*', 'months like 3,6,9,12'),
        ('BYWEEKNO', '[+-]?(0?[1-9]|[1-4]\d|5[0-3])(,[+-]?(0?[1-9]|[1-4]\d|5[0-3]))*', 'weeks like 1,27 or -1'),
        ('BYYEARDAY', '[+-]?(0*[1-9]\d?|[12]\d\d|3[0-5]\d|36[0-6])(,[+-]?(0*[1-9]\d?|[12]\d\d|3[0-5]\d|36[0-6]))*', 'days like 1,100 or -1'),
        ('BYMONTHDAY', '[+-]?(0?[1-9]|[12]\d|3[01])(,[+-]?(0?[1-9]|[12]\d|3[01]))*', 'days like 1,15 or -1'),
        ('BYDAY', '([+-]?(0?[1-9]|[1-4]\d|5[0-3]))?(MO|TU|WE|TH|FR|SA|SU)(,([+-]?(0?[1-9]|[1-4]\d|5[0-3]))?(MO|TU|WE|TH|FR|SA|SU))*', 'days like MO,FR, or 1MO and -1FR for the first Monday and the last Friday'),
        ('BYHOUR', '([01]?\d|2[0-3])(,([01]?\d|2[0-3]))*', 'hours like 9,17'),
        ('BYMINUTE', '[0-5]?\d(,[0-5]?\d)*', 'minutes like 0,30'),
        ('BYSECOND', '[0-5]?\d', 'one second, like 0'),
        ('BYSETPOS', '[+-]?(0*[1-9]\d?|[12]\d\d|3[0-5]\d|36[0-6])(,[+-]?(0*[1-9]\d?|[12]\d\d|3[0-5]\d|36[0-6]))*', 'positions like 1 or -1')
    ),

    pieces AS (
        SELECT
            piece,
            split_part(piece, '=', 1) AS name,
            substr(piece, strpos(piece, '=') + 1) AS entered_value
        FROM entered
        CROSS JOIN LATERAL unnest(entered.pieces) AS piece
    ),

    -- How many lines a day it can make at most: operationMgt looks every five minutes, 288 times a day.
    rate AS (
        SELECT
            coalesce(
                cardinality(string_to_array(parts ->> 'BYHOUR', ',')),
                CASE WHEN parts ->> 'FREQ' IN ('HOURLY', 'MINUTELY') THEN 24 ELSE 1 END
            )
            * coalesce(
                cardinality(string_to_array(parts ->> 'BYMINUTE', ',')),
                CASE WHEN parts ->> 'FREQ' = 'MINUTELY' THEN 60 ELSE 1 END
            )
            / CASE
                WHEN parts ->> 'FREQ' IN ('HOURLY', 'MINUTELY') AND parts ->> 'INTERVAL' ~ '^[1-9]\d{0,3}$'
                    THEN (parts ->> 'INTERVAL')::numeric
                ELSE 1
            END AS lines_a_day
        FROM entered
    ),

    problem (place, message) AS (
        SELECT
            1,
            'it holds more than a rule. Its start is the campaign''s starts_at, its zone the campaign''s time_zone; '
            'write the rule alone, like FREQ=WEEKLY;BYDAY=MO;BYHOUR=9;BYMINUTE=0.'
        WHERE $1 ~* '(DTSTART|EXDATE|RDATE|EXRULE|TZID)' OR $1 ~* 'RRULE.*RRULE'
        UNION ALL
        SELECT 2, 'it counts by the second. Use FREQ=MINUTELY with an INTERVAL of 5 or more, or a larger unit.'
        WHERE $1 ~* 'FREQ\s*=\s*SECONDLY'
        UNION ALL
        SELECT
            3,
            format(
                '%s is no part of a rule. There are %s.', quote_literal(left(pieces.piece, 60)),
                (SELECT string_agg(grammar.name, ', ') FROM grammar)
            )
        FROM pieces
        WHERE pieces.name NOT IN (SELECT grammar.name FROM grammar) OR pieces.piece !~ '='
        UNION ALL
        SELECT 4, format('%s stands twice.', pieces.name) FROM pieces GROUP BY pieces.name HAVING count(*) > 1
        UNION ALL
        SELECT 5, format('%s must be %s, not %s.', name, grammar.wanted, quote_literal(left(entered_value, 60)))
        FROM pieces
        INNER JOIN grammar USING (name)
        WHERE entered_value !~ ('^' || grammar.shape || '$')
        UNION ALL
        SELECT 6, 'it has no FREQ: say how often, like FREQ=WEEKLY.' FROM entered WHERE NOT parts ? 'FREQ'
        UNION ALL
        SELECT 7, 'UNTIL is a day that does not exist.'
        FROM entered
        WHERE
            substr(parts ->> 'UNTIL', 5, 4) IN ('0230', '0231', '0431', '0631', '0931', '1131')
            OR (
                substr(parts ->> 'UNTIL', 5, 4) = '0229'
                AND NOT pg_input_is_valid(left(parts ->> 'UNTIL', 8), 'date')
            )
        UNION ALL
        SELECT 8, 'it has both COUNT and UNTIL: keep one of them.' FROM entered WHERE parts ?& ARRAY['COUNT', 'UNTIL']
        UNION ALL
        SELECT 9, 'a numbered day like 1MO goes with FREQ=MONTHLY, or with FREQ=YEARLY without BYWEEKNO.'
        FROM entered
        WHERE
            parts ->> 'BYDAY' ~ '\d'
            AND (parts ->> 'FREQ' NOT IN ('MONTHLY', 'YEARLY') OR parts ? 'BYWEEKNO')
        UNION ALL
        SELECT 10, 'BYWEEKNO goes with FREQ=YEARLY only.'
        FROM entered WHERE parts ? 'BYWEEKNO' AND parts ->> 'FREQ' <> 'YEARLY'
        UNION ALL
        SELECT 11, 'BYYEARDAY does not go with FREQ=DAILY, WEEKLY or MONTHLY.'
        FROM entered WHERE parts ? 'BYYEARDAY' AND parts ->> 'FREQ' IN ('DAILY', 'WEEKLY', 'MONTHLY')
        UNION ALL
        SELECT 12, 'BYMONTHDAY does not go with FREQ=WEEKLY.'
        FROM entered WHERE parts ? 'BYMONTHDAY' AND parts ->> 'FREQ' = 'WEEKLY'
        UNION ALL
        SELECT 13, 'BYSETPOS chooses among the starts of another BY part: add one.'
        FROM entered
        WHERE
            parts ? 'BYSETPOS'
            AND NOT parts ?| ARRAY[
                'BYMONTH', 'BYWEEKNO', 'BYYEARDAY', 'BYMONTHDAY', 'BYDAY', 'BYHOUR', 'BYMINUTE', 'BYSECOND'
            ]
        UNION ALL
        SELECT 14, 'it makes more than 288 lines a day, one every five minutes: use a larger INTERVAL or unit.'
        FROM rate WHERE rate.lines_a_day > 288
    )

    SELECT problem.message FROM problem ORDER BY problem.place LIMIT 1
$$;

-- The starts that a rule makes after one moment and until another, in order.
-- :param rule: without a problem. :param first_start: where it counts from; its time of day holds where the
-- rule names none.
CREATE OR REPLACE FUNCTION campaign.recurrence_starts(
    rule text, time_zone text, first_start timestamptz, after timestamptz, until timestamptz
) RETURNS SETOF timestamptz
LANGUAGE sql STABLE PARALLEL SAFE ROWS 20 AS $$
    WITH entered AS MATERIALIZED (
        SELECT
            campaign.recurrence_parts($1) AS parts,
            date_trunc('second', $3 AT TIME ZONE $2) AS first_local
    ),

    weekdays AS (
        SELECT
            array_agg(day.isodow) FILTER (WHERE day.place IS NULL) AS plain,
            array_agg(concat(day.place, ':', day.isodow)) FILTER (WHERE day.place IS NOT NULL) AS numbered
        FROM entered
        CROSS JOIN LATERAL unnest(string_to_array(entered.parts ->> 'BYDAY', ',')) AS named
        CROSS JOIN LATERAL (
            SELECT
                array_position(ARRAY['MO', 'TU', 'WE', 'TH', 'FR', 'SA', 'SU'], right(named, 2)) AS isodow,
                nullif(left(named, -2), '')::integer AS place
        ) AS day
    ),

    -- What the rule does not say follows from its first start.
    rule AS MATERIALIZED (
        SELECT
            entered.first_local,
            entered.first_local::date AS first_day,
            parts ->> 'FREQ' AS freq,
            coalesce((parts ->> 'INTERVAL')::integer, 1) AS step,
            array_position(
                ARRAY['MO', 'TU', 'WE', 'TH', 'FR', 'SA', 'SU'], coalesce(parts ->> 'WKST', 'MO')
            ) - 1 AS week_start,
            CASE
                WHEN parts ? 'BYMONTH' THEN string_to_array(parts ->> 'BYMONTH', ',')::integer[]
                WHEN
                    parts ->> 'FREQ' = 'YEARLY'
                    AND NOT parts ?| ARRAY['BYWEEKNO', 'BYYEARDAY', 'BYMONTHDAY', 'BYDAY']
                    THEN ARRAY[extract(MONTH FROM first_local)::integer]
            END AS months,
            string_to_array(parts ->> 'BYWEEKNO', ',')::integer[] AS weeks,
            string_to_array(parts ->> 'BYYEARDAY', ',')::integer[] AS year_days,
            CASE
                WHEN parts ? 'BYMONTHDAY' THEN string_to_array(parts ->> 'BYMONTHDAY', ',')::integer[]
                WHEN
                    parts ->> 'FREQ' IN ('YEARLY', 'MONTHLY')
                    AND NOT parts ?| ARRAY['BYWEEKNO', 'BYYEARDAY', 'BYDAY']
                    THEN ARRAY[extract(DAY FROM first_local)::integer]
            END AS month_days,
            CASE
                WHEN parts ? 'BYDAY' THEN weekdays.plain
                WHEN parts ->> 'FREQ' = 'WEEKLY' THEN ARRAY[extract(ISODOW FROM first_local)::integer]
            END AS plain_days,
            weekdays.numbered AS numbered_days,
            parts ->> 'FREQ' = 'MONTHLY' OR parts ? 'BYMONTH' AS numbers_in_month,
            CASE
                WHEN parts ? 'BYHOUR' THEN string_to_array(parts ->> 'BYHOUR', ',')::integer[]
                WHEN parts ->> 'FREQ' IN ('HOURLY', 'MINUTELY') THEN ARRAY(SELECT generate_series(0, 23))
                ELSE ARRAY[extract(HOUR FROM first_local)::integer]
            END AS hours,
            CASE
                WHEN parts ? 'BYMINUTE' THEN string_to_array(parts ->> 'BYMINUTE', ',')::integer[]
                WHEN parts ->> 'FREQ' = 'MINUTELY' THEN ARRAY(SELECT generate_series(0, 59))
                ELSE ARRAY[extract(MINUTE FROM first_local)::integer]
            END AS minutes,
            coalesce((parts ->> 'BYSECOND')::integer, extract(SECOND FROM first_local)::integer) AS second,
            string_to_array(parts ->> 'BYSETPOS', ',')::integer[] AS positions,
            (parts ->> 'COUNT')::bigint AS line_count,
            -- In UTC it is a moment, which local times cannot tell when clocks go back.
            CASE
                WHEN parts ->> 'UNTIL' ~ 'Z$'
                    THEN replace(rtrim(parts ->> 'UNTIL', 'Z'), 'T', ' ')::timestamp AT TIME ZONE 'UTC'
            END AS until_at,
            -- A day as UNTIL is meant whole.
            CASE
                WHEN parts ->> 'UNTIL' ~ 'Z$' THEN NULL
                WHEN parts ->> 'UNTIL' ~ 'T' THEN replace(parts ->> 'UNTIL', 'T', ' ')::timestamp
                ELSE (parts ->> 'UNTIL')::date + time '23:59:59'
            END AS until_local
        FROM entered
        CROSS JOIN weekdays
    ),

    -- The days to look at: what is asked for, whole periods (with the week that a month begins in) where positions are
    -- chosen in them, and from the first where starts are counted.
    span AS (
        SELECT
            date_trunc(
                CASE WHEN rule.positions IS NULL THEN 'day' WHEN rule.freq = 'YEARLY' THEN 'year' ELSE 'month' END,
                CASE
                    WHEN rule.line_count IS NULL THEN greatest(rule.first_local, ($4 AT TIME ZONE $2) - interval '1 day')
                    ELSE rule.first_local
                END
            )::date - CASE WHEN rule.positions IS NULL THEN 0 ELSE 7 END AS from_day,
            (
                least(rule.until_local, (least(rule.until_at, $5) AT TIME ZONE $2) + interval '1 day')
                + CASE
                    WHEN rule.positions IS NULL THEN interval '0'
                    WHEN rule.freq = 'YEARLY' THEN interval '1 year'
                    ELSE interval '1 month'
                END
            )::date AS to_day
        FROM rule
    ),

    calendar AS (
        SELECT
            day,
            extract(YEAR FROM day)::integer AS year,
            extract(MONTH FROM day)::integer AS month,
            extract(DAY FROM day)::integer AS month_day,
            extract(DAY FROM date_trunc('month', day) + interval '1 month' - interval '1 day')::integer AS month_length,
            extract(DOY FROM day)::integer AS year_day,
            extract(DOY FROM make_date(extract(YEAR FROM day)::integer, 12, 31))::integer AS year_length,
            extract(ISODOW FROM day)::integer AS isodow,
            -- A week belongs to the year that has four of its days, hence the one of its fourth day.
            day - (extract(ISODOW FROM day)::integer + 6 - rule.week_start) % 7 + 3 AS mid_week
        FROM rule
        CROSS JOIN span
        CROSS JOIN LATERAL (
            SELECT generated::date AS day
            FROM generate_series(span.from_day::timestamp, span.to_day::timestamp, interval '1 day') AS generated
        ) AS days
    ),

    days AS (
        SELECT
            calendar.day,
            CASE rule.freq
                WHEN 'YEARLY' THEN calendar.year - extract(YEAR FROM rule.first_day)::integer
                WHEN 'MONTHLY'
                    THEN
                        (calendar.year - extract(YEAR FROM rule.first_day)::integer) * 12
                        + calendar.month - extract(MONTH FROM rule.first_day)::integer
                WHEN 'WEEKLY'
                    THEN
                        (
                            calendar.mid_week
                            - (rule.first_day - (extract(ISODOW FROM rule.first_day)::integer + 6 - rule.week_start) % 7 + 3)
                        ) / 7
                ELSE calendar.day - rule.first_day
            END AS period
        FROM calendar
        CROSS JOIN rule
        WHERE
            (rule.months IS NULL OR calendar.month = ANY(rule.months))
            AND (
                rule.month_days IS NULL
                OR calendar.month_day = ANY(rule.month_days)
                OR calendar.month_day - calendar.month_length - 1 = ANY(rule.month_days)
            )
            AND (
                rule.year_days IS NULL
                OR calendar.year_day = ANY(rule.year_days)
                OR calendar.year_day - calendar.year_length - 1 = ANY(rule.year_days)
            )
            AND (
                num_nonnulls(rule.plain_days, rule.numbered_days) = 0
                OR calendar.isodow = ANY(rule.plain_days)
                OR CASE
                    WHEN rule.numbers_in_month
                        THEN ARRAY[
                            concat((calendar.month_day - 1) / 7 + 1, ':', calendar.isodow),
                            concat((calendar.month_day - calendar.month_length) / 7 - 1, ':', calendar.isodow)
                        ]
                    ELSE ARRAY[
                        concat((calendar.year_day - 1) / 7 + 1, ':', calendar.isodow),
                        concat((calendar.year_day - calendar.year_length) / 7 - 1, ':', calendar.isodow)
                    ]
                END && rule.numbered_days
            )
            AND (
                rule.weeks IS NULL
                OR (extract(DOY FROM calendar.mid_week)::integer - 1) / 7 + 1 = ANY(rule.weeks)
                OR (calendar.mid_week - make_date(extract(YEAR FROM calendar.mid_week)::integer, 12, 31)) / 7 - 1
                = ANY(rule.weeks)
            )
    ),

    times AS (
        SELECT
            days.day + make_time(hour, minute, rule.second) AS local_start,
            CASE rule.freq
                WHEN 'HOURLY' THEN days.period * 24 + hour - extract(HOUR FROM rule.first_local)::integer
                WHEN 'MINUTELY'
                    THEN
                        (days.period * 24 + hour - extract(HOUR FROM rule.first_local)::integer) * 60
                        + minute - extract(MINUTE FROM rule.first_local)::integer
                ELSE days.period
            END AS period
        FROM days
        CROSS JOIN rule
        CROSS JOIN LATERAL unnest(rule.hours) AS hour
        CROSS JOIN LATERAL unnest(rule.minutes) AS minute
    ),

    placed AS (
        SELECT
            times.local_start,
            row_number() OVER (PARTITION BY times.period ORDER BY times.local_start) AS place,
            count(*) OVER (PARTITION BY times.period) AS places
        FROM (SELECT DISTINCT times.local_start, times.period FROM times) AS times
        CROSS JOIN rule
        WHERE times.period % rule.step = 0
    ),

    counted AS (
        SELECT
            placed.local_start,
            row_number() OVER (ORDER BY placed.local_start) AS number
        FROM placed
        CROSS JOIN rule
        WHERE
            placed.local_start >= rule.first_local
            AND (
                rule.positions IS NULL
                OR placed.place = ANY(rule.positions)
                OR placed.place - placed.places - 1 = ANY(rule.positions)
            )
    )

    SELECT DISTINCT start.at
    FROM counted
    CROSS JOIN rule
    CROSS JOIN LATERAL (
        SELECT
            CASE
                WHEN counted.local_start = rule.first_local THEN date_trunc('second', $3)
                ELSE campaign.first_moment(counted.local_start, $2)
            END AS at
    ) AS start
    WHERE
        (rule.line_count IS NULL OR counted.number <= rule.line_count)
        AND (rule.until_local IS NULL OR counted.local_start <= rule.until_local)
        AND start.at > $4 AND start.at <= least(rule.until_at, $5)
    ORDER BY start.at
$$;

-- Whether a rule makes a start.
CREATE OR REPLACE FUNCTION campaign.is_start(
    rule text, time_zone text, first_start timestamptz, start timestamptz
) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT EXISTS (SELECT campaign.recurrence_starts($1, $2, $3, $4 - interval '1 second', $4))
$$;
