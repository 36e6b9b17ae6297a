-- Views on the jobs that service providers are given. Replaced, not dropped: others may have views on them.

-- The jobs that the deliveries in routing ask for: a service with none of them ends at once.
-- Grain: one row per delivery in routing and kind.
CREATE OR REPLACE VIEW campaign.provider_job_wanted AS
SELECT
    delivery.id AS delivery_id,
    delivery.campaign_id,
    delivery.service_id,
    file.id AS extraction_file_id,
    wanted.kind
FROM campaign.delivery AS delivery
INNER JOIN campaign.service AS service ON delivery.service_id = service.id
INNER JOIN campaign.provider AS provider ON service.provider_id = provider.id
LEFT JOIN campaign.extraction_file AS file ON delivery.id = file.delivery_id AND file.status = 'current'
CROSS JOIN
    LATERAL (
        VALUES
        ('transfer', provider.storage_url IS NOT NULL),
        ('notification', service.notification_group_id IS NOT NULL OR service.notification_emails <> '{}'),
        ('post_processing', service.post_processing_dag_id IS NOT NULL)
    ) AS wanted (kind, is_wanted)
WHERE delivery.status = 'routing' AND NOT delivery.is_template AND wanted.is_wanted;

-- Where the e-mails of a service go: its group's active members and its addresses, each address once.
-- Grain: one row per service and address. The provider's own address is for people, and for the notice
-- that a delivery is canceled when the service has none.
CREATE OR REPLACE VIEW campaign.service_address AS
SELECT DISTINCT ON (addressee.service_id, lower(addressee.email))
    addressee.service_id,
    addressee.email,
    addressee.staff_id
FROM (
    SELECT
        service.id AS service_id,
        staff.email,
        staff.id AS staff_id
    FROM campaign.service AS service
    INNER JOIN campaign.staff_group_member AS member ON service.notification_group_id = member.staff_group_id
    INNER JOIN campaign.staff AS staff ON member.staff_id = staff.id AND staff.active
    UNION ALL
    SELECT
        service.id AS service_id,
        trim(entered.email) AS email,
        NULL AS staff_id
    FROM campaign.service AS service
    CROSS JOIN LATERAL unnest(service.notification_emails) AS entered (email)
    WHERE trim(entered.email) <> ''
) AS addressee
ORDER BY addressee.service_id, lower(addressee.email), addressee.staff_id NULLS LAST;

-- The jobs on a campaign's providers, for people: what became of each, and what it waits for.
-- Grain: one row per job.
CREATE OR REPLACE VIEW campaign.provider_job_overview AS
SELECT
    job.id AS job_id,
    campaign.internal_name AS campaign,
    delivery.internal_name AS delivery,
    delivery.status AS delivery_status,
    provider.label AS provider,
    service.label AS service,
    job.kind,
    job.status,
    job.tries,
    job.error,
    job.next_try_at,
    job.done_at,
    file.file_name,
    file.row_count,
    file.byte_count,
    file.sha256,
    job.destination,
    mail.mails_sent,
    mail.mails_unsent,
    job.run_id,
    CASE
        WHEN job.run_id IS NOT NULL THEN concat(
            campaign.ui_url(),
            '/dags/', service.post_processing_dag_id, '/runs/', job.run_id
        )
    END AS run_url,
    CASE
        WHEN job.status = 'failed' THEN 'a person: campaign.retry_job(' || job.id || ')'
        WHEN job.status = 'running' AND job.kind = 'notification' THEN 'the e-mails to be sent'
        WHEN job.status = 'running' AND job.kind = 'post_processing' THEN 'the end of the DAG run'
        WHEN job.status <> 'pending' THEN NULL
        WHEN delivery.held_at IS NOT NULL THEN 'the release of the delivery'
        WHEN delivery.status NOT IN ('routing', 'finished') THEN 'the delivery, which is ' || delivery.status
        WHEN previous.kind IS NOT NULL THEN 'the ' || replace(previous.kind, '_', '-') || ' before it'
        WHEN job.next_try_at IS NOT NULL THEN 'its next try'
        ELSE 'the next run of providerMgt, or an approval'
    END AS waits_for
FROM campaign.provider_job AS job
INNER JOIN campaign.delivery AS delivery ON job.delivery_id = delivery.id
INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
INNER JOIN campaign.service AS service ON job.service_id = service.id
INNER JOIN campaign.provider AS provider ON service.provider_id = provider.id
LEFT JOIN campaign.extraction_file AS file ON job.extraction_file_id = file.id
LEFT JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE notification.sent_at IS NOT NULL) AS mails_sent,
        count(*) FILTER (WHERE notification.sent_at IS NULL) AS mails_unsent
    FROM campaign.notification AS notification
    WHERE notification.provider_job_id = job.id AND notification.kind = 'provider_file'
) AS mail ON job.kind = 'notification'
LEFT JOIN LATERAL (
    SELECT earlier.kind
    FROM campaign.provider_job AS earlier
    WHERE
        earlier.delivery_id = job.delivery_id
        AND earlier.extraction_file_id IS NOT DISTINCT FROM job.extraction_file_id
        AND earlier.status NOT IN ('done', 'canceled')
        AND (
            (earlier.kind = 'transfer' AND job.kind IN ('notification', 'post_processing'))
            OR (earlier.kind = 'notification' AND job.kind = 'post_processing')
        )
    ORDER BY earlier.kind DESC
    LIMIT 1
) AS previous ON job.status = 'pending';
