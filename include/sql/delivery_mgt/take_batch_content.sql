-- What a batch is sent as. Grain: one row, none when it is not open any more. Rerun: reads only.
SELECT
    sending.delivery_id,
    sending.channel,
    sending.subject,
    sending.body_text,
    sending.body_html,
    sending.sender,
    sending.conn_id,
    sending.delivery_name,
    sending.delivery_label,
    sending.campaign_label,
    batch.in_flight,
    batch.request_key,
    batch.request,
    batch.request_tries,
    (
        SELECT setting.value #>> '{}'
        FROM campaign.setting AS setting
        WHERE setting.name = 'unsubscribe_url'
    ) AS unsubscribe_url
FROM campaign.delivery_batch AS batch
INNER JOIN campaign.delivery_sending AS sending ON batch.delivery_id = sending.delivery_id
INNER JOIN campaign.delivery AS delivery ON batch.delivery_id = delivery.id
WHERE
    batch.id = %(batch_id)s::bigint
    AND batch.status = 'open'
    AND delivery.status = 'in_progress'
    AND delivery.held_at IS NULL;
