-- Enter in the journal what a task sent, and say on each delivery whose messages wait for a connection why they do,
-- until some have left.
--
-- Grain: the deliveries of one share. Rerun: nothing was sent, and a hindrance that stands is in the journal already.
INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
SELECT
    %(dag_id)s::text,
    %(run_id)s::text,
    delivery.campaign_id,
    delivery.id,
    format('Of delivery %%L %%s messages left, and %%s failed.', delivery.label, served.sent_count, served.failed_count)
FROM
    unnest(
        %(served_ids)s::bigint[], %(sent_counts)s::bigint[], %(failed_counts)s::bigint[]
    ) AS served (delivery_id, sent_count, failed_count)
INNER JOIN campaign.delivery AS delivery ON served.delivery_id = delivery.id
WHERE served.sent_count + served.failed_count > 0
ORDER BY delivery.id;

WITH share AS (
    SELECT
        hindered.delivery_id,
        hindered.reason
    FROM unnest(%(hindered_ids)s::bigint[], %(reasons)s::text[]) AS hindered (delivery_id, reason)
    UNION ALL
    SELECT
        served.delivery_id,
        NULL AS reason
    FROM unnest(%(served_ids)s::bigint[], %(sent_counts)s::bigint[]) AS served (delivery_id, sent_count)
    WHERE served.sent_count > 0 AND served.delivery_id <> ALL(%(hindered_ids)s::bigint[])
),

changed AS (
    UPDATE campaign.delivery AS delivery
    SET failure = share.reason
    FROM share
    WHERE
        delivery.id = share.delivery_id
        AND delivery.status = 'in_progress'
        AND delivery.failure IS DISTINCT FROM share.reason
    RETURNING delivery.id, delivery.campaign_id, delivery.label, delivery.failure
)

INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
SELECT
    CASE WHEN changed.failure IS NULL THEN 'info' ELSE 'error' END,
    %(dag_id)s::text,
    %(run_id)s::text,
    changed.campaign_id,
    changed.id,
    CASE
        WHEN changed.failure IS NULL THEN format('Messages of delivery %%L leave again.', changed.label)
        ELSE format('Messages of delivery %%L wait: %%s', changed.label, changed.failure)
    END
FROM changed;
