-- The target of a delivery takes the place of the one before: members with their role, exclusions by
-- reason, counts; the delivery's target is ready.
-- Grain: one row per recipient in the role main, control or seed; one row per reason; one delivery.
-- Rerun: the target is replaced by the same. A delivery that does not wait for this target, or is another one now,
-- returns no row: then all of it is to be rolled back.
-- Not linted: the linter reads all branches of the Jinja one after the other.
-- noqa: disable=all

DELETE FROM campaign.delivery_target
WHERE delivery_target.delivery_id = %(delivery_id)s::bigint;

DELETE FROM campaign.delivery_exclusion
WHERE delivery_exclusion.delivery_id = %(delivery_id)s::bigint;

INSERT INTO campaign.delivery_target (delivery_id, recipient_id, role)
SELECT
    %(delivery_id)s::bigint AS delivery_id,
    judged.recipient_id,
    CASE judged.verdict WHEN 'main' THEN 'main' ELSE 'control' END AS role
FROM {{ sources[0] }} AS judged
WHERE judged.verdict IN ('main', 'control_group')
ORDER BY judged.recipient_id;

{% if seeds %}
INSERT INTO campaign.delivery_target (delivery_id, recipient_id, role)
SELECT
    %(delivery_id)s::bigint AS delivery_id,
    seed.recipient_id,
    'seed' AS role
FROM (
    SELECT
        recipient.id AS recipient_id,
{% include 'address_of_channel.sql' %}
        recipient.opt_out_{{ channel }} AS is_opted_out
    FROM campaign.recipient
    WHERE recipient.is_seed
) AS seed
WHERE seed.is_reachable AND NOT seed.is_opted_out;
{% endif %}

WITH verdict AS MATERIALIZED (
    SELECT
        judged.verdict,
        count(*) AS count
    FROM {{ sources[0] }} AS judged
    GROUP BY judged.verdict
),

counted AS (
    SELECT
        coalesce(sum(verdict.count), 0)::bigint AS targeted,
        coalesce(sum(verdict.count) FILTER (WHERE verdict.verdict = 'main'), 0)::bigint AS main,
        coalesce(sum(verdict.count) FILTER (WHERE verdict.verdict = 'opt_out'), 0)::bigint AS opt_out,
        coalesce(sum(verdict.count) FILTER (WHERE verdict.verdict = 'no_address'), 0)::bigint AS no_address,
        coalesce(sum(verdict.count) FILTER (WHERE verdict.verdict = 'duplicate'), 0)::bigint AS duplicate,
        coalesce(sum(verdict.count) FILTER (WHERE verdict.verdict = 'control_group'), 0)::bigint AS control_group,
        coalesce(sum(verdict.count) FILTER (WHERE verdict.verdict = 'quantity_limit'), 0)::bigint AS quantity_limit
    FROM verdict
),

excluded_ones AS (
    INSERT INTO campaign.delivery_exclusion (delivery_id, reason, count)
    SELECT
        %(delivery_id)s::bigint AS delivery_id,
        verdict.verdict AS reason,
        verdict.count
    FROM verdict
    WHERE verdict.verdict <> 'main'
),

seeded AS (
    SELECT count(*) AS seeds
    FROM campaign.delivery_target AS seed
    WHERE seed.delivery_id = %(delivery_id)s::bigint AND seed.role = 'seed'
),

prepared AS (
    UPDATE campaign.delivery AS delivery
    SET
        status = 'target_ready',
        targeted_count = counted.targeted,
        message_count = counted.main + CASE WHEN %(charge_seeds)s::boolean THEN seeded.seeds ELSE 0 END,
        analysed_at = %(as_of)s::timestamptz
    FROM counted, seeded
    WHERE
        delivery.id = %(delivery_id)s::bigint
        AND delivery.status = 'targeting_pending'
        AND delivery.workflow_id IS NOT DISTINCT FROM %(workflow_id)s::bigint
        AND delivery.channel = %(channel)s::text
        AND delivery.requested_quantity = %(requested_quantity)s::bigint
    RETURNING delivery.id, delivery.campaign_id, delivery.label
),

written AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        CASE WHEN counted.main = 0 THEN 'warning' ELSE 'info' END AS level,
        %(source)s::text,
        %(run_id)s::text,
        prepared.campaign_id,
        prepared.id,
        format(
            'The target of %%L is ready: %%s targeted, %%s opted out, %%s without address, %%s duplicates, '
            '%%s in the control group, %%s above the requested quantity, %%s messages to send.',
            prepared.label, counted.targeted, counted.opt_out, counted.no_address, counted.duplicate,
            counted.control_group, counted.quantity_limit, counted.main
        )
    FROM prepared
    CROSS JOIN counted
)

SELECT
    counted.targeted,
    counted.opt_out,
    counted.no_address,
    counted.duplicate,
    counted.control_group,
    counted.quantity_limit,
    counted.main AS messages,
    seeded.seeds
FROM prepared
CROSS JOIN counted
CROSS JOIN seeded;
