-- What operationMgt needs to start workflows as DAG runs and to tell people about them.

-- The run id of a workflow. Airflow allows letters, digits and _.~:+- in it, and 250 characters: a name
-- with anything else is cleaned, and told apart from others by the id of its workflow.
CREATE OR REPLACE FUNCTION campaign.workflow_run_id(internal_name text, workflow_id bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN internal_name ~ '^[A-Za-z0-9_.~:+-]{1,200}$' THEN 'campaign__' || internal_name
    ELSE
        'campaign__' || left(regexp_replace(internal_name, '[^A-Za-z0-9_.~:+-]', '_', 'g'), 200)
        || '~' || workflow_id
END;

-- Where a run is seen in the Airflow UI.
CREATE OR REPLACE FUNCTION campaign.workflow_run_url(dag_id text, run_id text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN campaign.ui_url() || '/dags/' || dag_id || '/runs/' || replace(run_id, '+', '%2B');

-- A whole number among the settings; the default where a team removed it.
CREATE OR REPLACE FUNCTION campaign.whole_setting(setting_name text, default_value bigint) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        (
            SELECT (setting.value #>> '{}')::bigint
            FROM campaign.setting AS setting
            WHERE setting.name = $1 AND setting.value #>> '{}' ~ '^\d{1,9}$'
        ),
        $2
    )
$$;

-- Who is told when something of a campaign goes wrong: its owner, and without one the supervisors.
CREATE OR REPLACE FUNCTION campaign.people_in_charge(campaign_id bigint)
RETURNS TABLE (staff_id bigint, email text)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH owner AS (
        SELECT staff.id, staff.email
        FROM campaign.campaign AS campaign
        INNER JOIN campaign.staff AS staff ON campaign.owner_id = staff.id AND staff.active
        WHERE campaign.id = $1
    )

    SELECT owner.id, owner.email FROM owner
    UNION ALL
    SELECT staff.id, staff.email
    FROM campaign.staff_group AS staff_group
    INNER JOIN campaign.staff_group_member AS member ON staff_group.id = member.staff_group_id
    INNER JOIN campaign.staff AS staff ON member.staff_id = staff.id AND staff.active
    WHERE staff_group.internal_name = 'supervisors' AND NOT EXISTS (SELECT 1 FROM owner)
$$;

-- Which incident of a kind this is, of a delivery, for a person: 1, and one more each time that it was sent
-- back and failed again. Part of the dedupe_key of a notice, so that each failure is told, and told once.
CREATE OR REPLACE FUNCTION campaign.incident_number(kind text, delivery_id bigint, staff_id bigint) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT count(*) + 1
    FROM campaign.notification AS earlier
    WHERE earlier.delivery_id = $2 AND earlier.kind = $1 AND earlier.staff_id = $3
$$;
