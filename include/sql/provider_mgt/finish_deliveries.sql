-- Finish the deliveries whose jobs on their provider are all done; one without jobs ends at once.
--
-- Grain: deliveries in routing. Rerun: each finishes once, out of routing.
-- What is with the provider has left, whatever was edited since; one that leaves nothing with a provider
-- finishes only while its approvals hold.
WITH finished AS (
    UPDATE campaign.delivery AS delivery
    SET status = 'finished', finished_at = %(as_of)s::timestamptz
    FROM campaign.campaign AS campaign
    WHERE
        delivery.campaign_id = campaign.id
        AND delivery.status = 'routing'
        AND NOT delivery.is_template
        AND campaign.status IN ('being_edited', 'started')
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.provider_job_wanted AS wanted
            LEFT JOIN campaign.provider_job AS job
                ON
                    wanted.delivery_id = job.delivery_id
                    AND wanted.kind = job.kind
                    AND wanted.service_id = job.service_id
                    AND wanted.extraction_file_id IS NOT DISTINCT FROM job.extraction_file_id
            WHERE wanted.delivery_id = delivery.id AND job.status IS DISTINCT FROM 'done'
        )
        AND (
            EXISTS (
                SELECT 1
                FROM campaign.provider_job_wanted AS wanted
                WHERE wanted.delivery_id = delivery.id
            )
            OR campaign.delivery_is_cleared(delivery.id, %(as_of)s::timestamptz)
        )
    RETURNING
        delivery.id,
        delivery.label,
        delivery.campaign_id,
        delivery.service_id
),

noted AS (
    INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        finished.campaign_id,
        finished.id,
        CASE
            WHEN count(job.id) > 0
                THEN
                    format(
                        'Delivery %%L is finished: all its jobs on the provider are done (%%s).',
                        finished.label,
                        string_agg(DISTINCT replace(job.kind, '_', '-'), ', ')
                    )
            WHEN finished.service_id IS NULL
                THEN
                    format(
                        'Delivery %%L is finished: it has no service, so nobody was given anything.',
                        finished.label
                    )
            ELSE
                format(
                    'Delivery %%L is finished: its service asks for no job on the provider.', finished.label
                )
        END AS message
    FROM finished
    LEFT JOIN campaign.provider_job AS job ON finished.id = job.delivery_id AND job.status = 'done'
    GROUP BY finished.id, finished.label, finished.campaign_id, finished.service_id
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM noted) AS deliveries_finished,
    (
        SELECT count(*)
        FROM campaign.delivery AS delivery
        WHERE
            delivery.status = 'routing' AND NOT EXISTS (
                SELECT 1 FROM finished
                WHERE finished.id = delivery.id
            )
    ) AS deliveries_in_routing;
