-- Plan the jobs of deliveries that were handed to routing, and stop those that nobody wants any more.
--
-- Grain: one job per delivery, kind and extraction file; one notice of a cancellation per delivery and
-- address. Rerun: jobs and notices have unique keys; a job is stopped, or taken up again, out of the status
-- it is in.

-- 1. Stop the jobs of canceled deliveries, of files that a newer version replaced, and of what the service
--    does not ask for any more.
WITH stopped AS (
    UPDATE campaign.provider_job AS job
    SET
        status = 'canceled',
        next_try_at = NULL,
        -- What was cut off in the middle may be under way all the same.
        run_started_at = CASE
            WHEN job.kind = 'post_processing' AND job.status = 'running'
                THEN coalesce(job.run_started_at, %(as_of)s::timestamptz)
            ELSE job.run_started_at
        END
    FROM campaign.delivery AS delivery
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    WHERE
        job.delivery_id = delivery.id
        AND job.status IN ('pending', 'running', 'failed')
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
        AND (
            delivery.status = 'canceled'
            OR (
                delivery.status = 'routing'
                AND NOT EXISTS (
                    SELECT 1
                    FROM campaign.provider_job_wanted AS wanted
                    WHERE
                        wanted.delivery_id = job.delivery_id
                        AND wanted.service_id = job.service_id
                        AND wanted.extraction_file_id IS NOT DISTINCT FROM job.extraction_file_id
                        AND wanted.kind = job.kind
                )
            )
        )
    RETURNING
        job.id,
        job.delivery_id
),

unsent AS (
    UPDATE campaign.notification AS notification
    SET failed_at = %(as_of)s::timestamptz, error = 'The job was canceled before this was sent.'
    FROM stopped
    WHERE
        notification.provider_job_id = stopped.id
        AND notification.kind = 'provider_file'
        AND notification.sent_at IS NULL
        AND notification.failed_at IS NULL
    RETURNING 1
),

noted AS (
    INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        delivery.campaign_id,
        delivery.id,
        format('Jobs of %%L on its provider that were stopped: %%s.', delivery.label, count(*)) AS message
    FROM stopped
    INNER JOIN campaign.delivery AS delivery ON stopped.delivery_id = delivery.id
    GROUP BY delivery.id
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM stopped) AS jobs_stopped,
    (SELECT count(*) FROM unsent) AS mails_stopped,
    (SELECT count(*) FROM noted) AS deliveries_stopped;

-- 2. Take up the failed jobs of deliveries that a person sent back: a job that fails takes its delivery out
--    of routing, so one that is there again was sent back.
SELECT campaign.reset_provider_jobs(
    array(
        SELECT job.id
        FROM campaign.provider_job AS job
        INNER JOIN campaign.delivery AS delivery ON job.delivery_id = delivery.id
        INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
        WHERE
            delivery.status = 'routing'
            AND job.status = 'failed'
            AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    )
) AS jobs_taken_up_again;

-- 3. Tell the provider of a service that the delivery has left, after it was given the file or the mail about
--    it. Before its jobs are planned anew for the other service, which forgets where the file was.
WITH recalled AS (
    SELECT DISTINCT ON (job.delivery_id, job.service_id)
        job.id AS job_id,
        job.round,
        job.service_id,
        delivery.id,
        delivery.label,
        delivery.campaign_id,
        campaign.owner_id,
        provider.email AS provider_email,
        file.file_name,
        campaign.provider_facts(delivery.id, job.service_id) AS facts
    FROM campaign.provider_job AS job
    INNER JOIN campaign.delivery AS delivery
        ON job.delivery_id = delivery.id AND job.service_id IS DISTINCT FROM delivery.service_id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    INNER JOIN campaign.service AS service ON job.service_id = service.id
    INNER JOIN campaign.provider AS provider ON service.provider_id = provider.id
    LEFT JOIN campaign.extraction_file AS file ON job.extraction_file_id = file.id
    WHERE
        delivery.status = 'routing'
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
        AND (
            (job.kind = 'transfer' AND job.destination IS NOT NULL)
            OR EXISTS (
                SELECT 1
                FROM campaign.notification AS notification
                WHERE
                    notification.provider_job_id = job.id
                    AND notification.kind = 'provider_file'
                    AND notification.sent_at IS NOT NULL
                    AND notification.facts ->> 'service_name' = service.internal_name
            )
        )
    ORDER BY job.delivery_id ASC, job.service_id ASC, file.version DESC NULLS LAST, job.id ASC
),

told AS (
    INSERT INTO campaign.notification
    (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id, provider_job_id)
    SELECT
        'provider_cancel' AS kind,
        concat_ws(
            ':', 'provider_moved', recalled.job_id, recalled.round, recalled.service_id,
            lower(coalesce(address.email, recalled.provider_email, owner.email))
        ) AS dedupe_key,
        %(dag_id)s::text,
        CASE
            WHEN address.email IS NOT NULL THEN address.staff_id
            WHEN recalled.provider_email IS NULL THEN owner.id
        END AS staff_id,
        coalesce(address.email, recalled.provider_email, owner.email) AS recipient_email,
        recalled.facts || jsonb_build_object(
            'file_name', recalled.file_name,
            'canceled_at', %(as_of)s::timestamptz,
            'is_moved', TRUE,
            'provider_has_no_address', address.email IS NULL AND recalled.provider_email IS NULL
        ) AS facts,
        recalled.id,
        recalled.campaign_id,
        recalled.job_id
    FROM recalled
    LEFT JOIN campaign.service_address AS address ON recalled.service_id = address.service_id
    LEFT JOIN campaign.staff AS owner ON recalled.owner_id = owner.id AND owner.active
    WHERE num_nonnulls(address.email, recalled.provider_email, owner.email) > 0
    ON CONFLICT (dedupe_key) DO NOTHING
    RETURNING delivery_id, provider_job_id
),

noted AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT DISTINCT
        'warning' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        recalled.campaign_id,
        recalled.id,
        format(
            'Delivery %%L went to another service after %%s was given its file: it is told not to use it.',
            recalled.label, recalled.facts ->> 'provider'
        ) AS message
    FROM recalled
    INNER JOIN told ON recalled.job_id = told.provider_job_id
    RETURNING 1
)

SELECT (SELECT count(*) FROM noted) AS providers_told_of_a_move;

-- 4. Plan what is wanted, once the approvals hold for what the delivery is now.
WITH cleared AS (
    SELECT
        delivery.id,
        delivery.label,
        delivery.campaign_id,
        campaign.delivery_is_cleared(delivery.id, %(as_of)s::timestamptz) AS is_cleared
    FROM campaign.delivery AS delivery
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    WHERE
        delivery.status = 'routing'
        AND NOT delivery.is_template
        AND campaign.status IN ('being_edited', 'started')
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
),

planned AS (
    INSERT INTO campaign.provider_job AS job (delivery_id, service_id, extraction_file_id, kind)
    SELECT
        wanted.delivery_id,
        wanted.service_id,
        wanted.extraction_file_id,
        wanted.kind
    FROM campaign.provider_job_wanted AS wanted
    INNER JOIN cleared ON wanted.delivery_id = cleared.id AND cleared.is_cleared
    ORDER BY
        wanted.delivery_id,
        CASE wanted.kind WHEN 'transfer' THEN 1 WHEN 'notification' THEN 2 ELSE 3 END
    -- Stopped and wanted again, or done by a service that the delivery has left: from the start.
    ON CONFLICT (delivery_id, kind, extraction_file_id) DO UPDATE
        SET
            service_id = excluded.service_id,
            status = 'pending',
            tries_before = job.tries,
            round = job.round + 1,
            destination = NULL,
            run_started_at = NULL,
            done_at = NULL,
            next_try_at = NULL,
            error = NULL
        WHERE
        (job.status = 'canceled' OR job.service_id <> excluded.service_id)
        -- Its DAG run is stopped first (follow_jobs), which the job then forgets.
        AND NOT (job.kind = 'post_processing' AND job.status = 'canceled' AND job.run_started_at IS NOT NULL)
    RETURNING job.delivery_id
),

warned AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        'warning' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        warning.campaign_id,
        warning.id,
        warning.message
    FROM (
        SELECT
            cleared.id,
            cleared.campaign_id,
            format(
                'Delivery %%L waits before its provider: it is held, or what was approved has changed since.',
                cleared.label
            ) AS message
        FROM cleared
        WHERE NOT cleared.is_cleared
    ) AS warning
    WHERE
        NOT EXISTS (
            SELECT 1
            FROM campaign.journal AS told
            WHERE told.delivery_id = warning.id AND told.message = warning.message
        )
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM planned) AS jobs_planned,
    (SELECT count(DISTINCT planned.delivery_id) FROM planned) AS deliveries_planned,
    (
        SELECT count(*) FROM cleared
        WHERE NOT cleared.is_cleared
    ) AS deliveries_not_cleared,
    (SELECT count(*) FROM warned) AS deliveries_newly_not_cleared;

-- 5. Tell the router of deliveries canceled after it was given the file, or the e-mail about it: at the
--    service's addresses, else at the provider's, else the campaign's owner, who has to tell it.
WITH recalled AS (
    SELECT
        delivery.id,
        delivery.label,
        delivery.campaign_id,
        delivery.canceled_at,
        campaign.owner_id,
        service.id AS service_id,
        provider.email AS provider_email,
        last_job.id AS job_id,
        last_job.file_name,
        campaign.provider_facts(delivery.id, service.id) AS facts
    FROM campaign.delivery AS delivery
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    INNER JOIN LATERAL (
        SELECT
            job.id,
            job.service_id,
            file.file_name
        FROM campaign.provider_job AS job
        LEFT JOIN campaign.extraction_file AS file ON job.extraction_file_id = file.id
        WHERE
            job.delivery_id = delivery.id
            AND (
                (job.kind = 'transfer' AND job.destination IS NOT NULL)
                OR EXISTS (
                    SELECT 1
                    FROM campaign.notification AS notification
                    WHERE
                        notification.provider_job_id = job.id
                        AND notification.kind = 'provider_file'
                        AND notification.sent_at IS NOT NULL
                )
            )
            -- Not one that was told when the delivery left its service.
            AND NOT EXISTS (
                SELECT 1
                FROM campaign.notification AS moved
                WHERE
                    moved.provider_job_id = job.id
                    AND moved.kind = 'provider_cancel'
                    AND moved.facts ? 'is_moved'
                    AND moved.dedupe_key LIKE concat_ws(':', 'provider_moved', job.id, '%%', job.service_id, '%%')
            )
        ORDER BY file.version DESC NULLS LAST, job.id DESC
        LIMIT 1
    ) AS last_job ON TRUE
    INNER JOIN campaign.service AS service ON last_job.service_id = service.id
    INNER JOIN campaign.provider AS provider ON service.provider_id = provider.id
    WHERE
        delivery.status = 'canceled'
        AND delivery.canceled_at <= %(as_of)s::timestamptz
        AND (%(full)s::boolean OR delivery.canceled_at > %(as_of)s::timestamptz - interval '30 days')
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
),

addressee AS (
    SELECT
        recalled.id,
        coalesce(address.email, recalled.provider_email, owner.email) AS email,
        CASE
            WHEN address.email IS NOT NULL THEN address.staff_id
            WHEN recalled.provider_email IS NULL THEN owner.id
        END AS staff_id,
        address.email IS NULL AND recalled.provider_email IS NULL AS is_owner
    FROM recalled
    LEFT JOIN campaign.service_address AS address ON recalled.service_id = address.service_id
    LEFT JOIN campaign.staff AS owner ON recalled.owner_id = owner.id AND owner.active
    WHERE num_nonnulls(address.email, recalled.provider_email, owner.email) > 0
),

told AS (
    INSERT INTO campaign.notification
    (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id, provider_job_id)
    SELECT
        'provider_cancel' AS kind,
        concat_ws(':', 'provider_cancel', recalled.id, lower(addressee.email)) AS dedupe_key,
        %(dag_id)s::text,
        addressee.staff_id,
        addressee.email,
        recalled.facts || jsonb_build_object(
            'file_name', recalled.file_name,
            'canceled_at', recalled.canceled_at,
            'provider_has_no_address', addressee.is_owner
        ) AS facts,
        recalled.id,
        recalled.campaign_id,
        recalled.job_id
    FROM recalled
    INNER JOIN addressee ON recalled.id = addressee.id
    ON CONFLICT (dedupe_key) DO NOTHING
    RETURNING
        delivery_id,
        campaign_id
),

noted AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT DISTINCT
        'warning' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        recalled.campaign_id,
        recalled.id,
        format(
            'Delivery %%L was canceled after %%s was given its file: it is told not to use it.',
            recalled.label, recalled.facts ->> 'provider'
        ) AS message
    FROM recalled
    INNER JOIN told ON recalled.id = told.delivery_id
    RETURNING 1
)

SELECT (SELECT count(*) FROM noted) AS providers_told_of_cancellation;
