-- How many rows a delivery's file must have: who was targeted and not excluded, as the analysis counted them, and
-- the seeds. Only a target that was not analysed is counted through: with millions of recipients that takes a
-- tenth of the extraction.
-- Grain: one row. Changes nothing.

SELECT
    coalesce(
        delivery.targeted_count - (
            SELECT coalesce(sum(exclusion.count), 0)
            FROM campaign.delivery_exclusion AS exclusion
            WHERE exclusion.delivery_id = delivery.id
        ) + (
            SELECT count(*)
            FROM campaign.delivery_target AS seed
            WHERE seed.delivery_id = delivery.id AND seed.role = 'seed'
        ),
        (
            SELECT count(*)
            FROM campaign.delivery_target AS target
            WHERE target.delivery_id = delivery.id AND target.role IN ('main', 'seed')
        )
    )::bigint AS row_count
FROM campaign.delivery
WHERE delivery.id = %(delivery_id)s::bigint;
