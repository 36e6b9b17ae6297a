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

-- How much later than its start a run may come to it, and it is not missed: the setting missed_after.
CREATE OR REPLACE FUNCTION campaign.missed_after() RETURNS interval
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        (SELECT (setting.value #>> '{}')::interval FROM campaign.setting AS setting WHERE setting.name = 'missed_after'),
        interval '1 hour'
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

-- A person starts a workflow that waits for one: one without automatic start, or before its time.
CREATE OR REPLACE FUNCTION campaign.start_workflow(workflow bigint, staff bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    starter CONSTANT campaign.staff := campaign.require_active_staff($2);
    started campaign.workflow;
BEGIN
    SELECT * INTO started FROM campaign.workflow AS waiting WHERE waiting.id = $1 FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'There is no workflow %.', $1 USING ERRCODE = 'no_data_found';
    END IF;
    IF started.status <> 'pending' THEN
        RAISE EXCEPTION 'Workflow % is %: only one that is pending can be started.', started.internal_name,
            started.status USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE campaign.workflow AS waiting
    SET automatic_start = TRUE, starts_at = campaign.moment()
    WHERE waiting.id = started.id;
    INSERT INTO campaign.journal (source, campaign_id, delivery_id, message)
    VALUES (
        'operationMgt', started.campaign_id, started.delivery_id,
        format('%s started workflow %s.', starter.internal_name, started.internal_name)
    );
END
$$;

-- A person cancels a workflow that has not ended; operationMgt stops its run.
CREATE OR REPLACE FUNCTION campaign.cancel_workflow(workflow bigint, reason text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    canceled campaign.workflow;
BEGIN
    SELECT * INTO canceled FROM campaign.workflow AS open WHERE open.id = $1 FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'There is no workflow %.', $1 USING ERRCODE = 'no_data_found';
    END IF;
    IF canceled.status NOT IN ('pending', 'queued', 'running') THEN
        RAISE EXCEPTION 'Workflow % is %: only one that has not ended can be canceled.', canceled.internal_name,
            canceled.status USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE campaign.workflow AS open
    SET status = 'canceled', finished_at = campaign.moment()
    WHERE open.id = canceled.id;
    INSERT INTO campaign.journal (level, source, campaign_id, delivery_id, message)
    VALUES (
        'warning', 'operationMgt', canceled.campaign_id, canceled.delivery_id,
        format(
            'Workflow %s was canceled when it was %s: %s', canceled.internal_name, canceled.status,
            coalesce(nullif($2, ''), 'no reason given')
        )
    );
END
$$;
