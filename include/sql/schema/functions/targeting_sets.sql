-- The work tables of targeting runs: dropped by name, only those that the register knows.

CREATE OR REPLACE FUNCTION campaign_work.drop_sets(table_names text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    dropped text;
    dropped_count bigint := 0;
BEGIN
    FOR dropped IN
        DELETE FROM campaign_work.target_set AS target_set
        WHERE target_set.table_name = ANY (table_names)
        RETURNING target_set.table_name
    LOOP
        EXECUTE format('DROP TABLE IF EXISTS campaign_work.%I', dropped);
        dropped_count := dropped_count + 1;
    END LOOP;
    RETURN dropped_count;
END
$$;

-- The day of a moment where the instance is: purchases of the day count, those after it do not.
CREATE OR REPLACE FUNCTION campaign_work.day_of(moment timestamptz) RETURNS date
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT (
        $1 AT TIME ZONE coalesce(
            (SELECT setting.value #>> '{}' FROM campaign.setting AS setting WHERE setting.name = 'time_zone'), 'UTC'
        )
    )::date
$$;
