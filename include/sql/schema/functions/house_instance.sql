-- Which database this is, and whether anything may leave the house from here.

-- The identity that a copy does not share: of the server, of the database on it, of the server's history.
CREATE OR REPLACE FUNCTION campaign.database_identity(
    OUT system_identifier bigint, OUT database_oid bigint, OUT timeline integer
)
LANGUAGE sql STABLE AS $$
    SELECT
        control.system_identifier,
        database.oid::bigint,
        checkpoint.timeline_id
    FROM pg_catalog.pg_control_system() AS control
    CROSS JOIN pg_catalog.pg_control_checkpoint() AS checkpoint
    INNER JOIN pg_catalog.pg_database AS database ON database.datname = current_database()
$$;

-- Remember the database at the first run of a workflow in it; and the name of the deployment, once it has one.
CREATE OR REPLACE FUNCTION campaign.remember_instance() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    deployment CONSTANT text := coalesce(current_setting('campaign.instance', TRUE), '');
BEGIN
    IF NOT EXISTS (SELECT FROM campaign.instance) THEN
        INSERT INTO campaign.instance (system_identifier, database_oid, timeline, name)
        SELECT
            identity.system_identifier,
            identity.database_oid,
            identity.timeline,
            deployment
        FROM campaign.database_identity() AS identity
        ON CONFLICT (is_only) DO NOTHING;
    ELSIF deployment <> '' AND campaign.effects_allowed() THEN
        UPDATE campaign.instance SET name = deployment
        WHERE instance.name = '';
    END IF;
END
$$;

-- Why nothing may leave the house: a sentence. NULL: it may.
CREATE OR REPLACE FUNCTION campaign.clone_reason() RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT
        CASE
            WHEN
                (instance.system_identifier, instance.database_oid)
                <> (identity.system_identifier, identity.database_oid)
                THEN 'This database is a copy of the one that the workflows ran in'
            WHEN
                instance.timeline <> identity.timeline
                AND NOT coalesce((
                    SELECT setting.value = 'true'
                    FROM campaign.setting AS setting
                    WHERE setting.name = 'promoted_copy_sends'
                ), FALSE)
                THEN 'This server was promoted from a copy, or restored from a backup'
            WHEN instance.name <> '' AND current_setting('campaign.instance', TRUE) <> instance.name
                THEN format(
                    'This database belongs to the instance %L, not to %L',
                    instance.name, current_setting('campaign.instance', TRUE)
                )
        END
        || ': it sends nothing until a person says that it may (SELECT campaign.adopt_database(staff_id)).'
    FROM campaign.instance AS instance
    CROSS JOIN campaign.database_identity() AS identity
$$;

-- Whether mails, files and DAG runs may leave this database.
CREATE OR REPLACE FUNCTION campaign.effects_allowed() RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT campaign.clone_reason() IS NULL
$$;

-- The same for a step that is about to send: why not, or NULL; said in the journal once per copy.
CREATE OR REPLACE FUNCTION campaign.refuse_in_clone(dag_id text, run_id text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    reason CONSTANT text := campaign.clone_reason();
    copy CONSTANT text := (SELECT identity::text FROM campaign.database_identity() AS identity);
BEGIN
    IF reason IS NOT NULL THEN
        UPDATE campaign.instance SET refused = copy
        WHERE instance.refused IS DISTINCT FROM copy;
        IF FOUND THEN
            INSERT INTO campaign.journal (level, source, run_id, message)
            VALUES ('warning', dag_id, run_id, reason);
        END IF;
    END IF;
    RETURN reason;
END
$$;

-- A person says that this database may send: it is no copy any more, but the one that counts.
-- What waits in it goes out with the next runs; look at campaign.notification and campaign.provider_job before.
CREATE OR REPLACE FUNCTION campaign.adopt_database(staff bigint, instance_name text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    person CONSTANT text := (
        SELECT adopter.label
        FROM campaign.staff AS adopter
        WHERE adopter.id = adopt_database.staff AND adopter.active
    );
BEGIN
    IF person IS NULL THEN
        RAISE EXCEPTION 'adopt_database: there is no active member of staff with the id %.', staff
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Take an id of campaign.staff.';
    END IF;
    INSERT INTO campaign.instance AS adopted (system_identifier, database_oid, timeline, name, adopted_by_id)
    SELECT
        identity.system_identifier,
        identity.database_oid,
        identity.timeline,
        coalesce(instance_name, ''),
        staff
    FROM campaign.database_identity() AS identity
    ON CONFLICT (is_only) DO UPDATE
    SET
        system_identifier = excluded.system_identifier,
        database_oid = excluded.database_oid,
        timeline = excluded.timeline,
        name = excluded.name,
        adopted_at = excluded.adopted_at,
        adopted_by_id = excluded.adopted_by_id,
        refused = NULL;
    INSERT INTO campaign.journal (source, message)
    VALUES ('adopt_database', format('%s said that this database (%s) may send.', person, current_database()));
END
$$;
