-- Finish the deliveries of which every message is sent or failed for good.
--
-- Grain: deliveries in progress with no batch left that is not done. Rerun: a delivery is finished once.
WITH sent AS (
    SELECT delivery.id
    FROM campaign.delivery AS delivery
    INNER JOIN campaign.delivery_sending AS sending ON delivery.id = sending.delivery_id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    WHERE
        delivery.status = 'in_progress'
        AND delivery.started_at <= %(as_of)s::timestamptz
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.delivery_batch AS batch
            WHERE batch.delivery_id = delivery.id AND batch.status <> 'done'
        )
),

finished AS (
    UPDATE campaign.delivery AS delivery
    SET status = 'finished', finished_at = %(as_of)s::timestamptz, held_at = NULL, failure = NULL
    FROM sent
    WHERE delivery.id = sent.id AND delivery.status = 'in_progress'
    RETURNING delivery.id, delivery.campaign_id, delivery.label
),

counted AS (
    SELECT
        finished.id,
        finished.campaign_id,
        finished.label,
        count(*) FILTER (WHERE message.status = 'sent') AS sent_count,
        count(*) FILTER (WHERE message.status = 'failed') AS failed_count,
        count(*) FILTER (WHERE message.is_unknown) AS unknown_count
    FROM finished
    LEFT JOIN campaign.delivery_message AS message ON finished.id = message.delivery_id
    GROUP BY finished.id, finished.campaign_id, finished.label
),

noted AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        CASE WHEN counted.failed_count = 0 THEN 'info' ELSE 'warning' END,
        %(dag_id)s::text,
        %(run_id)s::text,
        counted.campaign_id,
        counted.id,
        format('Delivery %%L is finished: %%s messages sent', counted.label, counted.sent_count)
        || CASE WHEN counted.failed_count > 0 THEN format(', %%s failed', counted.failed_count) ELSE '' END
        || CASE
            WHEN counted.unknown_count > 0
                THEN format(
                    ' (of %%s it is unknown whether they left: campaign.resend_unknown(%%s, your staff id) sends '
                    'them again)', counted.unknown_count, counted.id
                )
            ELSE ''
        END
        || '.'
    FROM counted
    RETURNING 1
)

SELECT count(*) AS deliveries_finished
FROM noted;
