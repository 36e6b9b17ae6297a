-- Enter what each router was given: from when, and until when its answer is expected.
--
-- Grain: one provider_answer per delivery whose file, or the mail about it, is with its provider.
-- Rerun: one that is there is only moved when the delivery went to another service or has a newer file;
-- answers for what it replaces do not count any more.
WITH given AS (
    SELECT
        job.delivery_id,
        job.service_id,
        job.extraction_file_id,
        coalesce(min(job.done_at) FILTER (WHERE job.kind = 'transfer'), min(job.done_at)) AS handed_at
    FROM campaign.provider_job AS job
    INNER JOIN campaign.delivery AS delivery ON job.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    LEFT JOIN campaign.extraction_file AS file ON job.extraction_file_id = file.id
    WHERE
        job.status = 'done'
        AND job.kind IN ('transfer', 'notification')
        AND (
            %(full)s::boolean
            OR job.done_at > %(as_of)s::timestamptz - (
                SELECT (setting.value #>> '{}')::interval FROM campaign.setting AS setting
                WHERE setting.name = 'returns_watched_for'
            )
        )
        AND (file.id IS NULL OR file.status = 'current')
        AND (delivery.service_id = job.service_id OR delivery.status = 'canceled')
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    GROUP BY job.delivery_id, job.service_id, job.extraction_file_id
),

expected AS (
    INSERT INTO campaign.provider_answer AS answer
    (delivery_id, service_id, extraction_file_id, handed_at, due_at, changed_at)
    SELECT DISTINCT ON (given.delivery_id)
        given.delivery_id,
        given.service_id,
        given.extraction_file_id,
        given.handed_at,
        CASE WHEN service.returns_url IS NOT NULL THEN given.handed_at + service.returns_within END AS due_at,
        %(as_of)s::timestamptz AS changed_at
    FROM given
    INNER JOIN campaign.service AS service ON given.service_id = service.id
    ORDER BY given.delivery_id ASC, given.handed_at DESC
    ON CONFLICT (delivery_id) DO UPDATE
        SET
            service_id = excluded.service_id,
            extraction_file_id = excluded.extraction_file_id,
            handed_at = excluded.handed_at,
            due_at = excluded.due_at,
            changed_at = excluded.changed_at
        WHERE
        (answer.service_id, answer.extraction_file_id)
        IS DISTINCT FROM (excluded.service_id, excluded.extraction_file_id)
    RETURNING answer.delivery_id, answer.handed_at
),

superseded AS (
    UPDATE campaign.provider_return AS file
    SET status = 'superseded'
    FROM expected
    WHERE file.delivery_id = expected.delivery_id AND file.status = 'taken'
    RETURNING file.delivery_id
)

SELECT
    (SELECT count(*) FROM expected) AS answers_expected,
    (SELECT count(*) FROM superseded) AS answers_superseded;

-- Who gives a service more time, or less, or a folder for its answers, means what is with it already too.
WITH moved AS (
    UPDATE campaign.provider_answer AS answer
    SET due_at = CASE WHEN service.returns_url IS NOT NULL THEN answer.handed_at + service.returns_within END
    FROM campaign.service AS service, campaign.delivery AS delivery, campaign.campaign AS campaign
    WHERE
        answer.service_id = service.id
        AND answer.delivery_id = delivery.id
        AND delivery.campaign_id = campaign.id
        AND (
            %(full)s::boolean
            OR answer.handed_at > %(as_of)s::timestamptz - (
                SELECT (setting.value #>> '{}')::interval FROM campaign.setting AS setting
                WHERE setting.name = 'returns_watched_for'
            )
        )
        AND answer.due_at IS DISTINCT FROM
        CASE WHEN service.returns_url IS NOT NULL THEN answer.handed_at + service.returns_within END
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    RETURNING 1
)

SELECT count(*) AS answers_due_at_another_time FROM moved;

-- The counts of what was given anew start from nothing.
SELECT
    campaign.count_answers(
        array(
            SELECT answer.delivery_id
            FROM campaign.provider_answer AS answer
            WHERE
                answer.changed_at = %(as_of)s::timestamptz
                AND answer.answered_at IS NOT NULL
                AND NOT EXISTS (
                    SELECT 1 FROM campaign.provider_return AS file
                    WHERE file.delivery_id = answer.delivery_id AND file.status = 'taken'
                )
        ),
        %(as_of)s::timestamptz
    ) AS report;
