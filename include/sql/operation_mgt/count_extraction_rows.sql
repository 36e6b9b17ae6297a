-- How many rows a delivery's file must have: its messages, as its analysis counted them, and its seeds. Only a
-- target that was not analysed is counted through: with millions of recipients that takes a tenth of the
-- extraction.
-- Grain: one row. Changes nothing.

SELECT
    coalesce(
        delivery.message_count + (
            SELECT count(*)
            FROM campaign.delivery_target AS seed
            WHERE seed.delivery_id = delivery.id AND seed.role = 'seed'
        ),
        (
            SELECT count(*)
            FROM campaign.delivery_target AS target
            WHERE target.delivery_id = delivery.id AND target.role IN ('main', 'seed')
        )
    ) AS row_count
FROM campaign.delivery
WHERE delivery.id = %(delivery_id)s::bigint;
