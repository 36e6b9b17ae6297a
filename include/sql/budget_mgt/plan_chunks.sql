-- Cut a full run into chunks: ranges of campaigns with about chunk_size deliveries and tasks each.
--
-- A chunk is calculated and committed by itself, campaigns whole, so that at any moment every total is the sum of
-- what is below it. What was noted in the queue of changes up to here is seen by the chunks, which start later; it is
-- forgotten when the run is done, in this transaction. Rerun: the queue is empty.
DELETE FROM campaign.cost_change;

WITH deliveries AS (
    SELECT
        delivery.campaign_id,
        count(*) AS count
    FROM campaign.delivery AS delivery
    GROUP BY delivery.campaign_id
),

tasks AS (
    SELECT
        task.campaign_id,
        count(*) AS count
    FROM campaign.task AS task
    GROUP BY task.campaign_id
),

sized AS (
    SELECT
        campaign.id,
        coalesce(deliveries.count, 0) + coalesce(tasks.count, 0) AS size
    FROM campaign.campaign AS campaign
    LEFT JOIN deliveries ON campaign.id = deliveries.campaign_id
    LEFT JOIN tasks ON campaign.id = tasks.campaign_id
),

numbered AS (
    SELECT
        sized.id,
        div(sum(sized.size) OVER (ORDER BY sized.id ASC) - sized.size, %(chunk_size)s::bigint) AS number
    FROM sized
)

SELECT
    min(numbered.id) AS first_campaign,
    max(numbered.id) AS last_campaign
FROM numbered
GROUP BY numbered.number
ORDER BY numbered.number;
