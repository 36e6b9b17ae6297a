-- The pause after a failed try, from a setting that lists them; the last one repeats. A quarter of an hour
-- where the setting says nothing that can be read, and a week at most.
CREATE OR REPLACE FUNCTION campaign.growing_pause(name text, failed_tries integer) RETURNS interval
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        (
            SELECT
                CASE
                    WHEN pg_input_is_valid(pause.typed, 'interval')
                        THEN least(pause.typed::interval, interval '7 days')
                END
            FROM campaign.setting AS setting
            CROSS JOIN LATERAL (
                SELECT setting.value ->> least($2, jsonb_array_length(setting.value)) - 1 AS typed
                WHERE jsonb_typeof(setting.value) = 'array'
            ) AS pause
            WHERE setting.name = $1
        ),
        interval '15 minutes'
    )
$$;
