-- What becomes of each recipient of the target: main, control, or the reason of the exclusion.
-- The reasons in their order, each applied to what the ones before it left: opt_out, no_address,
-- duplicate, control_group, quantity_limit.
-- Grain: one row per recipient targeted, seeds left out. Rerun: the set is laid anew; the same delivery
-- gives the same control group and the same choice under a quantity limit.
-- Not linted: the linter reads all branches of the Jinja one after the other.
-- noqa: disable=all

CREATE UNLOGGED TABLE {{ target }} AS
WITH targeted AS (
    SELECT
        recipient.id AS recipient_id,
        recipient.opt_out_{{ channel }} AS is_opted_out,
{% if channel == 'direct_mail' %}
        coalesce(trim(recipient.last_name), '') <> ''
        AND coalesce(trim(recipient.address1), '') <> ''
        AND coalesce(trim(recipient.postal_code), '') <> ''
        AND coalesce(trim(recipient.city), '') <> '' AS is_reachable,
        translate(
            lower(
                concat_ws(
                    '|', recipient.last_name, coalesce(recipient.first_name, ''), recipient.address1,
                    recipient.postal_code, recipient.city, coalesce(recipient.country, '')
                )
            ),
            E' \t.,;:\'"-/', ''
        ) AS address,
{% elif channel == 'email' %}
        coalesce(recipient.email ~ '^[^@\s<>,;]+@[^@\s<>,;]+$', false) AS is_reachable,
        lower(recipient.email) AS address,
{% elif channel == 'sms' %}
        coalesce(recipient.phone ~ '\d', false) AS is_reachable,
        translate(recipient.phone, ' .-/()', '') AS address,
{% else %}
        coalesce(trim(recipient.push_token), '') <> '' AS is_reachable,
        recipient.push_token AS address,
{% endif %}
{% if order_by %}
        {{ order_by }} AS control_order
{% else %}
        hashint8extended(recipient.id, hashtextextended('control:' || %(delivery)s::text, 0)) AS control_order
{% endif %}
    FROM (SELECT DISTINCT recipient_id FROM {{ sources[0] }}) AS source
    INNER JOIN campaign.recipient ON source.recipient_id = recipient.id
    WHERE NOT recipient.is_seed
),

distinguished AS (
    SELECT
        targeted.recipient_id,
        targeted.control_order,
        row_number() OVER (
            PARTITION BY targeted.address COLLATE "C" ORDER BY targeted.recipient_id
        ) = 1 AS is_first
    FROM targeted
    WHERE NOT targeted.is_opted_out AND targeted.is_reachable
),

{% if has_control %}
controlled AS (
    SELECT
        distinguished.recipient_id,
{% if control_set %}
        EXISTS (
            SELECT 1 FROM {{ control_set }} AS control WHERE control.recipient_id = distinguished.recipient_id
        ) AS is_control
{% else %}
        row_number() OVER (
            ORDER BY
                distinguished.control_order {% if descending %}DESC {% endif %}NULLS LAST,
                distinguished.recipient_id
        ) <= coalesce(
            %(control_count)s::bigint, round(%(control_share)s::numeric * count(*) OVER ())::bigint
        ) AS is_control
{% endif %}
    FROM distinguished
    WHERE distinguished.is_first
),

{% else %}
controlled AS (
    SELECT
        distinguished.recipient_id,
        false AS is_control
    FROM distinguished
    WHERE distinguished.is_first
),

{% endif %}
{% if has_limit %}
limited AS (
    SELECT
        controlled.recipient_id,
        row_number() OVER (
            ORDER BY
                hashint8extended(
                    controlled.recipient_id, hashtextextended('quantity:' || %(delivery)s::text, 0)
                ),
                controlled.recipient_id
        ) > %(requested_quantity)s::bigint AS is_above_limit
    FROM controlled
    WHERE NOT controlled.is_control
)
{% else %}
limited AS (
    SELECT
        controlled.recipient_id,
        false AS is_above_limit
    FROM controlled
    WHERE NOT controlled.is_control
)
{% endif %}

SELECT
    targeted.recipient_id,
    CASE WHEN targeted.is_opted_out THEN 'opt_out' ELSE 'no_address' END AS verdict
FROM targeted
WHERE targeted.is_opted_out OR NOT targeted.is_reachable
UNION ALL
SELECT
    distinguished.recipient_id,
    'duplicate' AS verdict
FROM distinguished
WHERE NOT distinguished.is_first
UNION ALL
SELECT
    controlled.recipient_id,
    'control_group' AS verdict
FROM controlled
WHERE controlled.is_control
UNION ALL
SELECT
    limited.recipient_id,
    CASE WHEN limited.is_above_limit THEN 'quantity_limit' ELSE 'main' END AS verdict
FROM limited
