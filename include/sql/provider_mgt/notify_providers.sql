-- Write the e-mails to the routers whose file is there: one for each address of the service.
--
-- Grain: one notification per job, round and address; send_notifications sends them, and follow_jobs closes
-- the job. Rerun: the notification has a unique key, and the job is running until its mails are sent. One
-- that nobody tried to send, or that was sent back, says what holds now, if that is something else.
WITH claimed AS (
    UPDATE campaign.provider_job AS job
    SET status = 'running', tries = job.tries + 1, next_try_at = NULL
    FROM campaign.due_provider_jobs('notification', %(as_of)s::timestamptz, %(campaign)s::text) AS due
    WHERE job.id = due.id AND job.status = 'pending'
    RETURNING
        job.id,
        job.round,
        job.service_id,
        due.delivery_id,
        due.campaign_id
),

-- Those under way too: an address that the service got in between is written to.
under_way AS (
    SELECT
        claimed.id,
        claimed.round,
        claimed.service_id,
        claimed.delivery_id,
        claimed.campaign_id
    FROM claimed
    UNION ALL
    SELECT
        job.id,
        job.round,
        job.service_id,
        job.delivery_id,
        delivery.campaign_id
    FROM campaign.provider_job AS job
    INNER JOIN campaign.delivery AS delivery ON job.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    WHERE
        job.kind = 'notification'
        AND job.status = 'running'
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
),

written AS (
    INSERT INTO campaign.notification AS notification
    (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id, provider_job_id)
    SELECT
        'provider_file' AS kind,
        concat_ws(':', 'provider_file', under_way.id, under_way.round, lower(address.email)) AS dedupe_key,
        %(dag_id)s::text AS source,
        address.staff_id,
        address.email,
        campaign.provider_facts(under_way.delivery_id, under_way.service_id) || jsonb_build_object(
            'job_id', under_way.id, 'is_proof', FALSE, 'template', service.notification_template
        ) AS facts,
        under_way.delivery_id,
        under_way.campaign_id,
        under_way.id
    FROM under_way
    INNER JOIN campaign.service AS service ON under_way.service_id = service.id
    INNER JOIN campaign.service_address AS address ON service.id = address.service_id
    ON CONFLICT (dedupe_key) DO UPDATE
        SET facts = excluded.facts, subject = NULL, body_text = NULL, body_html = NULL
        WHERE notification.sent_at IS NULL AND notification.tries = 0 AND notification.facts <> excluded.facts
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM claimed) AS providers_notified,
    (SELECT count(*) FROM written) AS mails_written;

-- A service whose group has nobody left cannot be helped by trying again.
SELECT
    count(campaign.fail_provider_job(
        job.id,
        format(
            'The service %%L has nobody to write to: its group is empty, and it has no address.',
            service.label
        ),
        %(as_of)s::timestamptz,
        %(run_id)s::text,
        TRUE
    )) AS services_without_address
FROM campaign.provider_job AS job
INNER JOIN campaign.service AS service ON job.service_id = service.id
INNER JOIN campaign.delivery AS delivery ON job.delivery_id = delivery.id
INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
WHERE
    job.kind = 'notification'
    AND job.status = 'running'
    AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    AND NOT EXISTS (
        SELECT 1
        FROM campaign.service_address AS address
        WHERE address.service_id = service.id
    );
