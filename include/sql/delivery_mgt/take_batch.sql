-- Take a batch: the messages of it that are to be sent now, with all that their templates may name.
--
-- Grain: one row per pending message whose recipient may still be written to; one that may not (opted out
-- since the target was analysed, gone, without address) fails first. Rerun: what is sent or failed is passed.
WITH batch AS (
    SELECT
        batch.delivery_id,
        batch.first_recipient_id,
        batch.last_recipient_id,
        sending.channel
    FROM campaign.delivery_batch AS batch
    INNER JOIN campaign.delivery_sending AS sending ON batch.delivery_id = sending.delivery_id
    WHERE batch.id = %(batch_id)s::bigint
),

judged AS (
    SELECT
        message.delivery_id,
        message.recipient_id,
        CASE
            WHEN recipient.id IS NULL THEN 'not sent: the recipient is no longer known'
            WHEN
                CASE batch.channel
                    WHEN 'email' THEN recipient.opt_out_email
                    WHEN 'sms' THEN recipient.opt_out_sms
                    ELSE recipient.opt_out_push
                END
                THEN 'not sent: opted out since the target was analysed'
            WHEN
                coalesce(
                    trim(
                        CASE batch.channel
                            WHEN 'email' THEN recipient.email
                            WHEN 'sms' THEN recipient.phone
                            ELSE recipient.push_token
                        END
                    ),
                    ''
                ) = ''
                THEN 'not sent: the recipient has no address any more'
        END AS hindrance
    FROM batch
    INNER JOIN campaign.delivery_message AS message
        ON
            batch.delivery_id = message.delivery_id
            AND message.recipient_id BETWEEN batch.first_recipient_id AND batch.last_recipient_id
            AND message.status = 'pending'
    LEFT JOIN campaign.recipient AS recipient ON message.recipient_id = recipient.id
)

UPDATE campaign.delivery_message AS message
SET status = 'failed', error = judged.hindrance, next_try_at = NULL
FROM judged
WHERE
    message.delivery_id = judged.delivery_id
    AND message.recipient_id = judged.recipient_id
    AND judged.hindrance IS NOT NULL;

SELECT
    message.recipient_id,
    recipient.email,
    recipient.phone,
    recipient.push_token,
    recipient.internal_name,
    recipient.first_name,
    recipient.last_name,
    recipient.address1,
    recipient.address2,
    recipient.postal_code,
    recipient.city,
    recipient.country,
    recipient.language,
    recipient.attributes,
    campaign.message_key(message.delivery_id, message.recipient_id) AS key
FROM campaign.delivery_batch AS batch
INNER JOIN campaign.delivery_message AS message
    ON
        batch.delivery_id = message.delivery_id
        AND message.recipient_id BETWEEN batch.first_recipient_id AND batch.last_recipient_id
        AND message.status = 'pending'
INNER JOIN campaign.recipient AS recipient ON message.recipient_id = recipient.id
WHERE
    batch.id = %(batch_id)s::bigint
    AND coalesce(message.next_try_at, '-infinity') <= %(as_of)s::timestamptz
ORDER BY message.recipient_id;
