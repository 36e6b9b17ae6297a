-- Close the jobs whose e-mails are all sent; fail those with a mail that could not be.
--
-- Grain: notification jobs that are running. What counts are the mails of the job's round to addresses that
-- the service still has: a wrong address is mended by correcting it. Rerun: a closed job is not running.
WITH mail AS (
    SELECT
        job.id AS job_id,
        count(*) AS mails,
        count(notification.sent_at) AS sent,
        string_agg(
            format('%%s: %%s', notification.recipient_email, coalesce(notification.error, 'refused')),
            '; ' ORDER BY notification.id
        ) FILTER (WHERE notification.failed_at IS NOT NULL AND notification.sent_at IS NULL) AS failures
    FROM campaign.provider_job AS job
    INNER JOIN campaign.delivery AS delivery ON job.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    INNER JOIN campaign.service_address AS address ON job.service_id = address.service_id
    LEFT JOIN campaign.notification AS notification
        ON
            notification.dedupe_key
            = concat_ws(':', 'provider_file', job.id, job.round, lower(address.email))
    WHERE
        job.kind = 'notification'
        AND job.status = 'running'
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    GROUP BY job.id
)

SELECT
    count(*) FILTER (WHERE outcome.is_sent) AS mailings_done,
    count(*) FILTER (WHERE outcome.is_failed) AS mailings_failed,
    count(*) FILTER (WHERE NOT outcome.is_sent AND NOT outcome.is_failed) AS mailings_under_way
FROM (
    SELECT
        CASE
            WHEN mail.sent = mail.mails
                THEN
                    campaign.complete_provider_job(
                        mail.job_id, %(as_of)s::timestamptz, %(run_id)s::text,
                        format('The provider was told by e-mail: addresses written to: %%s.', mail.mails)
                    )
            ELSE FALSE
        END AS is_sent,
        CASE
            WHEN mail.failures IS NOT NULL
                THEN
                    campaign.fail_provider_job(
                        mail.job_id, mail.failures, %(as_of)s::timestamptz, %(run_id)s::text, TRUE
                    ) IS NOT NULL
            ELSE FALSE
        END AS is_failed
    FROM mail
) AS outcome;
