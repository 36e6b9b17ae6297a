-- Share what is to be sent now among the tasks that send: the open batches of deliveries in progress, oldest
-- first, in turn, each with the pace that is its part of what the instance, its provider and its delivery allow.
--
-- Grain: one row per batch. Before that, batches whose sender was killed are settled: of what was on its way it
-- is unknown whether it left (SMS and push are asked for again, under the same key). Rerun: the same, until
-- the batches are sent.
WITH left_behind AS MATERIALIZED (
    SELECT batch.id
    FROM campaign.delivery_batch AS batch
    INNER JOIN campaign.delivery_sending AS sending ON batch.delivery_id = sending.delivery_id
    INNER JOIN campaign.delivery AS delivery ON batch.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    WHERE
        batch.status <> 'done'
        AND batch.in_flight <> '{}'
        AND (sending.channel = 'email' OR batch.status = 'canceled')
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    ORDER BY batch.id
),

settled AS (
    SELECT
        left_behind.id,
        campaign.settle_batch(left_behind.id) AS count
    FROM left_behind
    WHERE pg_try_advisory_xact_lock(campaign.batch_lock(left_behind.id))
)

SELECT coalesce(sum(settled.count), 0)::bigint AS messages_unknown
FROM settled;

WITH canceled AS (
    SELECT batch.id
    FROM campaign.delivery_batch AS batch
    WHERE batch.status = 'canceled' AND batch.in_flight = '{}'
)

SELECT count(campaign.close_batch(canceled.id)) AS batches_canceled
FROM canceled;

WITH open AS (
    SELECT
        batch.id,
        batch.delivery_id,
        batch.message_count,
        service.provider_id,
        sending.channel,
        delivery.label,
        delivery.messages_per_minute AS of_delivery,
        provider.messages_per_minute AS of_provider,
        CASE WHEN sending.channel = 'email' THEN nullif(campaign.number_setting('messages_per_minute', 0), 0) END
            AS of_instance,
        row_number() OVER (ORDER BY sending.started_at, batch.delivery_id, batch.id) AS place
    FROM campaign.delivery_batch AS batch
    INNER JOIN campaign.delivery_sending AS sending ON batch.delivery_id = sending.delivery_id
    INNER JOIN campaign.delivery AS delivery ON batch.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    LEFT JOIN campaign.service AS service ON delivery.service_id = service.id
    LEFT JOIN campaign.provider AS provider ON service.provider_id = provider.id
    WHERE
        batch.status = 'open'
        AND coalesce(batch.next_try_at, '-infinity') <= %(as_of)s::timestamptz
        AND delivery.status = 'in_progress'
        AND delivery.held_at IS NULL
        AND delivery.started_at <= %(as_of)s::timestamptz
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    -- More than a run can send is left to the next.
    ORDER BY place
    LIMIT 2000
),

shared AS (
    SELECT
        open.*,
        open.place %% least(
            campaign.number_setting('sending_workers', 2),
            -- A task for a handful of messages takes longer to start than they take to send.
            1 + (sum(open.message_count) OVER () - 1) / 100
        )::bigint AS worker
    FROM open
),

of_all AS (
    SELECT count(DISTINCT shared.worker) AS workers
    FROM shared
),

of_providers AS (
    SELECT
        shared.provider_id,
        count(DISTINCT shared.worker) AS workers
    FROM shared
    GROUP BY shared.provider_id
),

of_deliveries AS (
    SELECT
        shared.delivery_id,
        count(DISTINCT shared.worker) AS workers
    FROM shared
    GROUP BY shared.delivery_id
)

SELECT
    shared.worker,
    shared.id AS batch_id,
    shared.delivery_id,
    shared.label,
    shared.message_count,
    least(
        shared.of_instance / of_all.workers,
        shared.of_provider::numeric / of_providers.workers,
        shared.of_delivery::numeric / of_deliveries.workers
    )::double precision AS per_minute
FROM shared
CROSS JOIN of_all
LEFT JOIN of_providers ON shared.provider_id = of_providers.provider_id
INNER JOIN of_deliveries ON shared.delivery_id = of_deliveries.delivery_id
ORDER BY shared.worker, shared.place;
