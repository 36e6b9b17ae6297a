-- In a rehearsal, which is rolled back: take the batches that would be sent for sent, so that the steps after
-- see what they would see when the servers take everything.
--
-- Grain: the pending messages of these batches. Rerun: what is sent is passed over.
WITH sent AS (
    UPDATE campaign.delivery_message AS message
    SET status = 'sent', sent_at = %(as_of)s::timestamptz
    FROM campaign.delivery_batch AS batch
    WHERE
        batch.id = ANY(%(batch_ids)s::bigint[])
        AND message.delivery_id = batch.delivery_id
        AND message.recipient_id BETWEEN batch.first_recipient_id AND batch.last_recipient_id
        AND message.status = 'pending'
    RETURNING message.delivery_id
),

done AS (
    UPDATE campaign.delivery_batch AS batch
    SET status = 'done', in_flight = '{}'
    WHERE batch.id = ANY(%(batch_ids)s::bigint[])
)

SELECT
    delivery.label,
    delivery.internal_name,
    count(*) AS messages
FROM sent
INNER JOIN campaign.delivery AS delivery ON sent.delivery_id = delivery.id
GROUP BY delivery.id
ORDER BY delivery.id;
