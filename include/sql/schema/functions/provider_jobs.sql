-- Jobs on service providers: what is due, what becomes of a try, and how a person has one done again.

-- The pause after a failed try, counted since the job was planned or sent back: the setting job_pauses.
CREATE OR REPLACE FUNCTION campaign.job_pause(failed_tries integer) RETURNS interval
LANGUAGE sql STABLE PARALLEL SAFE
RETURN campaign.growing_pause('job_pauses', failed_tries);

-- Tries of a job before it waits for a person: the setting job_tries. Five unless it is a positive number.
CREATE OR REPLACE FUNCTION campaign.job_tries() RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        (
            SELECT substring(setting.value #>> '{}' FROM '^[1-9][0-9]{0,8}$')::integer
            FROM campaign.setting AS setting
            WHERE setting.name = 'job_tries'
        ),
        5
    )
$$;

-- Jobs of a kind that may be carried out now. Grain: one row per job.
-- In order: a job waits until those before it on the same file are done. A transfer, or the start of a DAG
-- run, that is 'running' was cut off in the middle, for its step carries out alone. A delivery that is
-- finished has a job due only when a person asked for it again.
CREATE OR REPLACE FUNCTION campaign.due_provider_jobs(kind text, as_of timestamptz, campaign_name text)
RETURNS TABLE (id bigint, delivery_id bigint, campaign_id bigint, service_id bigint, provider_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT
        job.id,
        delivery.id AS delivery_id,
        campaign.id AS campaign_id,
        service.id AS service_id,
        service.provider_id
    FROM campaign.provider_job AS job
    INNER JOIN campaign.delivery AS delivery ON job.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    INNER JOIN campaign.service AS service ON job.service_id = service.id
    LEFT JOIN campaign.extraction_file AS file ON delivery.id = file.delivery_id AND file.status = 'current'
    WHERE
        job.kind = $1
        AND job.extraction_file_id IS NOT DISTINCT FROM file.id
        AND (
            (job.status = 'pending' AND coalesce(job.next_try_at, '-infinity') <= $2)
            OR (job.status = 'running' AND $1 = 'transfer')
            OR (job.status = 'running' AND $1 = 'post_processing' AND job.run_started_at IS NULL)
        )
        AND ($3 IS NULL OR campaign.internal_name = $3)
        AND (
            delivery.status = 'finished'
            OR (delivery.status = 'routing' AND campaign.status IN ('being_edited', 'started'))
        )
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.provider_job AS before
            WHERE
                before.delivery_id = job.delivery_id
                AND before.extraction_file_id IS NOT DISTINCT FROM job.extraction_file_id
                AND before.status NOT IN ('done', 'canceled')
                AND (
                    (before.kind = 'transfer' AND $1 IN ('notification', 'post_processing'))
                    OR (before.kind = 'notification' AND $1 = 'post_processing')
                )
        )
        AND campaign.delivery_is_cleared(delivery.id, $2)
$$;

-- What a provider, its e-mail and its post-processing are told about a delivery, as it stands: at the
-- service of a job, which the delivery may have left since; else at the delivery's own.
CREATE OR REPLACE FUNCTION campaign.provider_facts(delivery_id bigint, service_id bigint DEFAULT NULL)
RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'delivery_id', delivery.id,
        'delivery', delivery.label,
        'delivery_name', delivery.internal_name,
        'campaign', campaign.label,
        'campaign_name', campaign.internal_name,
        'channel', delivery.channel,
        'contact_date', delivery.contact_date,
        'message_count', delivery.message_count,
        'provider', provider.label,
        'provider_name', provider.internal_name,
        'service', service.label,
        'service_name', service.internal_name,
        'storage_url', provider.storage_url,
        'storage_conn_id', provider.storage_conn_id,
        'with_manifest', service.with_manifest,
        'columns', (
            SELECT jsonb_agg(listed.value -> 'header' ORDER BY listed.ordinality)
            FROM jsonb_array_elements(format.columns) WITH ORDINALITY AS listed
        ),
        'file', CASE WHEN file.id IS NOT NULL THEN
            jsonb_build_object(
                'name', file.file_name,
                'rows', file.row_count,
                'bytes', file.byte_count,
                'sha256', file.sha256,
                'version', file.version,
                'url', file.url
            )
        END,
        -- An earlier file of the delivery that the provider has, or may have, and must not use.
        'replaces', (
            SELECT earlier_file.file_name
            FROM campaign.provider_job AS earlier
            INNER JOIN campaign.extraction_file AS earlier_file ON earlier.extraction_file_id = earlier_file.id
            WHERE
                earlier.delivery_id = delivery.id
                AND earlier.kind = 'transfer'
                AND (earlier.status = 'done' OR earlier.destination IS NOT NULL)
                AND earlier_file.status = 'superseded'
            ORDER BY earlier_file.version DESC
            LIMIT 1
        ),
        'destination', (
            SELECT transfer.destination
            FROM campaign.provider_job AS transfer
            WHERE
                transfer.delivery_id = delivery.id
                AND transfer.service_id = service.id
                AND transfer.kind = 'transfer'
                AND transfer.extraction_file_id = file.id
        )
    )
    FROM campaign.delivery AS delivery
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    INNER JOIN campaign.service AS service ON service.id = coalesce($2, delivery.service_id)
    INNER JOIN campaign.provider AS provider ON service.provider_id = provider.id
    LEFT JOIN campaign.export_format AS format ON service.export_format_id = format.id
    LEFT JOIN campaign.extraction_file AS file ON delivery.id = file.delivery_id AND file.status = 'current'
    WHERE delivery.id = $1
$$;

-- A job is done. One that was canceled while it was carried out is done all the same: the file is there.
-- Returns false when the job was no longer running.
CREATE OR REPLACE FUNCTION campaign.complete_provider_job(
    job_id bigint, as_of timestamptz, run_id text, message text, destination text DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    done_job campaign.provider_job;
BEGIN
    UPDATE campaign.provider_job
    SET
        status = 'done', done_at = $2, error = NULL, next_try_at = NULL,
        destination = coalesce($5, destination)
    WHERE id = $1 AND (status = 'running' OR (status = 'canceled' AND kind = 'transfer'))
    RETURNING * INTO done_job;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
    SELECT 'providerMgt', $3, delivery.campaign_id, delivery.id, $4
    FROM campaign.delivery AS delivery
    WHERE delivery.id = done_job.delivery_id;
    RETURN true;
END
$$;

-- A try of a running job failed: it is tried again after a pause, or, when its tries are used up or nothing
-- but a person can help, it fails for good, its delivery fails with the reason, and the owner is told, once.
-- Returns what the job is now: pending, failed, or null when it was not running any more.
CREATE OR REPLACE FUNCTION campaign.fail_provider_job(
    job_id bigint, reason text, as_of timestamptz, run_id text, for_good boolean DEFAULT FALSE
) RETURNS text
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    failed_job campaign.provider_job;
    facts jsonb;
    what text;
    is_last boolean;
    incident bigint;
BEGIN
    SELECT * INTO failed_job FROM campaign.provider_job WHERE id = $1 AND status = 'running' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    is_last := $5 OR failed_job.tries - failed_job.tries_before >= campaign.job_tries();
    facts := campaign.provider_facts(failed_job.delivery_id, failed_job.service_id);
    what := format(
        CASE failed_job.kind
            WHEN 'transfer' THEN 'The file of %L could not be handed to %s'
            WHEN 'notification' THEN 'The e-mail about %L to %s could not be sent'
            ELSE 'The post-processing of %L at %s failed'
        END,
        facts ->> 'delivery', facts ->> 'provider'
    );

    UPDATE campaign.provider_job
    SET
        status = CASE WHEN is_last THEN 'failed' ELSE 'pending' END,
        error = $2,
        next_try_at = CASE
            WHEN NOT is_last THEN $3 + campaign.job_pause(failed_job.tries - failed_job.tries_before)
        END,
        run_started_at = NULL
    WHERE id = $1;

    IF NOT is_last THEN
        -- The same problem again is on the job; the journal has it already.
        IF failed_job.error IS DISTINCT FROM $2 THEN
            INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
            SELECT
                'warning', 'providerMgt', $4, delivery.campaign_id, delivery.id,
                format('%s (try %s), and is tried again: %s', what, failed_job.tries, $2)
            FROM campaign.delivery AS delivery
            WHERE delivery.id = failed_job.delivery_id;
        END IF;
        RETURN 'pending';
    END IF;

    UPDATE campaign.delivery
    SET status = 'failed', failed_from = 'routing', failure = format('%s: %s', what, $2)
    WHERE id = failed_job.delivery_id AND status = 'routing';

    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        'error', 'providerMgt', $4, delivery.campaign_id, delivery.id,
        format(
            '%s, after %s: %s Mend it, then send the delivery back (campaign.retry_delivery) or have the job '
            'done again (campaign.retry_job(%s)).',
            what,
            CASE failed_job.tries WHEN 1 THEN 'one try' ELSE failed_job.tries || ' tries' END,
            $2, failed_job.id
        )
    FROM campaign.delivery AS delivery
    WHERE delivery.id = failed_job.delivery_id;

    SELECT count(*) + 1 INTO incident
    FROM campaign.notification AS earlier
    WHERE earlier.provider_job_id = failed_job.id AND earlier.kind = 'provider_job_failed';

    INSERT INTO campaign.notification
    (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id, provider_job_id)
    SELECT
        'provider_job_failed',
        concat_ws(':', 'provider_job_failed', failed_job.id, incident, contact.staff_id),
        'providerMgt',
        contact.staff_id,
        contact.email,
        facts || jsonb_build_object(
            'job_id', failed_job.id, 'job_kind', failed_job.kind, 'tries', failed_job.tries, 'error', $2,
            'failed_at', $3
        ),
        delivery.id,
        delivery.campaign_id,
        failed_job.id
    FROM campaign.delivery AS delivery
    CROSS JOIN LATERAL campaign.campaign_contacts(delivery.campaign_id) AS contact
    WHERE delivery.id = failed_job.delivery_id
    ON CONFLICT (dedupe_key) DO NOTHING;
    -- So that the next run, at once, sends it.
    PERFORM pg_notify('campaign_event', 'providerMgt');
    RETURN 'failed';
END
$$;

-- Have one job done again: one that failed is taken up where it stopped, one that was done is done anew
-- (its e-mail goes out a second time). Its delivery, if the job had failed it, goes back to routing.
CREATE OR REPLACE FUNCTION campaign.retry_job(job bigint) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    retried campaign.provider_job;
    of_delivery campaign.delivery;
BEGIN
    SELECT * INTO retried FROM campaign.provider_job WHERE id = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'There is no job %.', $1 USING ERRCODE = 'no_data_found';
    END IF;
    of_delivery := campaign.lock_delivery(retried.delivery_id);
    SELECT * INTO retried FROM campaign.provider_job WHERE id = $1 FOR UPDATE;
    IF retried.status = 'running' THEN
        RAISE EXCEPTION 'Job % is being carried out: wait until it is done or failed.', $1
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF retried.status = 'canceled' OR NOT (
        of_delivery.status IN ('routing', 'finished')
        OR (of_delivery.status = 'failed' AND of_delivery.failed_from = 'routing')
    ) THEN
        RAISE EXCEPTION 'Job % cannot be done again: its delivery % is %.',
            $1, quote_literal(of_delivery.label),
            CASE
                WHEN retried.status = 'canceled' AND of_delivery.status <> 'canceled' THEN 'past this file'
                ELSE replace(of_delivery.status, '_', ' ')
            END
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    PERFORM campaign.reset_provider_jobs(ARRAY[retried.id]);
    INSERT INTO campaign.journal (source, campaign_id, delivery_id, message)
    VALUES (
        'providerMgt', of_delivery.campaign_id, of_delivery.id,
        format(
            'The %s of %L, %s, was asked for again.',
            replace(retried.kind, '_', '-'), of_delivery.label, retried.status
        )
    );
    IF of_delivery.status = 'failed' THEN
        PERFORM campaign.retry_delivery(of_delivery.id);
    END IF;
    PERFORM pg_notify('campaign_event', 'providerMgt');
END
$$;

-- Put jobs back to pending, due at once and with all their tries before them. Returns how many.
CREATE OR REPLACE FUNCTION campaign.reset_provider_jobs(job_ids bigint[]) RETURNS bigint
LANGUAGE sql AS $$
    -- Mail that was sent stays sent; what could not be sent, or not yet, has another chance, under its
    -- Message-ID.
    UPDATE campaign.notification
    SET failed_at = NULL, error = NULL, tries = 0, next_try_at = NULL
    WHERE
        provider_job_id = ANY ($1)
        AND kind = 'provider_file'
        AND (failed_at IS NOT NULL OR tries > 0)
        AND sent_at IS NULL;
    WITH reset AS (
        UPDATE campaign.provider_job
        SET
            status = 'pending',
            tries_before = tries,
            round = round + (status = 'done')::integer,
            error = NULL,
            next_try_at = NULL,
            run_started_at = NULL,
            done_at = NULL
        WHERE id = ANY ($1) AND status <> 'running'
        RETURNING 1
    )

    SELECT count(*) FROM reset
$$;

-- Send a proof of the e-mail that the router will get, marked as such: to the addresses given, else to the
-- reviewers of the proof that is asked for, else to the campaign's owner. Each call sends one. Returns how
-- many mails were written.
CREATE OR REPLACE FUNCTION campaign.send_router_proof(delivery bigint, emails text[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    shown campaign.delivery;
    facts jsonb;
    typed text;
    number bigint;
    written bigint;
    -- The approval that the proof is for, so that what a workflow sends by itself is sent once for each.
    asked bigint;
BEGIN
    shown := campaign.lock_delivery($1);
    SELECT approval.id INTO asked
    FROM campaign.approval AS approval
    WHERE approval.delivery_id = shown.id AND approval.kind = 'proof' AND approval.status = 'pending';
    IF shown.service_id IS NULL THEN
        RAISE EXCEPTION 'Delivery % has no service, so no router gets an e-mail about it.',
            quote_literal(shown.label) USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    facts := campaign.provider_facts(shown.id);
    SELECT 'PROOF: nothing has been sent to ' || (facts ->> 'provider') || '.' || E'\n\n' || notification_template
    INTO typed
    FROM campaign.service
    WHERE id = shown.service_id;
    SELECT count(DISTINCT earlier.facts ->> 'proof') + 1 INTO number
    FROM campaign.notification AS earlier
    WHERE earlier.delivery_id = shown.id AND earlier.kind = 'provider_file' AND earlier.facts ? 'proof';

    WITH addressee AS (
        SELECT
            given.email,
            NULL::bigint AS staff_id,
            1 AS choice
        FROM unnest($2) AS given (email)
        WHERE trim(given.email) <> ''
        UNION ALL
        SELECT
            staff.email,
            staff.id,
            2
        FROM campaign.approval AS approval
        INNER JOIN campaign.approval_reviewer AS reviewer ON approval.id = reviewer.approval_id
        INNER JOIN campaign.staff AS staff ON reviewer.staff_id = staff.id AND staff.active
        WHERE approval.delivery_id = shown.id AND approval.kind = 'proof' AND approval.status = 'pending'
        UNION ALL
        SELECT
            staff.email,
            staff.id,
            3
        FROM campaign.campaign AS campaign
        INNER JOIN campaign.staff AS staff ON campaign.owner_id = staff.id AND staff.active
        WHERE campaign.id = shown.campaign_id
    ),

    sent AS (
        INSERT INTO campaign.notification
        (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id)
        SELECT DISTINCT ON (lower(trim(addressee.email)))
            'provider_file',
            concat_ws(':', 'provider_proof', shown.id, number, lower(trim(addressee.email))),
            'providerMgt',
            addressee.staff_id,
            trim(addressee.email),
            facts || jsonb_build_object(
                'is_proof', true, 'proof', number, 'template', typed, 'approval_id', asked
            ),
            shown.id,
            shown.campaign_id
        FROM addressee
        WHERE addressee.choice = (SELECT min(addressee.choice) FROM addressee)
        ORDER BY lower(trim(addressee.email)), addressee.staff_id NULLS LAST
        RETURNING 1
    )

    SELECT count(*) INTO written FROM sent;
    INSERT INTO campaign.journal (source, campaign_id, delivery_id, message)
    VALUES (
        'providerMgt', shown.campaign_id, shown.id,
        format('A proof of the e-mail about %L to its router goes out to %s addresses.', shown.label, written)
    );
    PERFORM pg_notify('campaign_event', 'providerMgt');
    RETURN written;
END
$$;
