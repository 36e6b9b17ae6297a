-- What becomes of each recipient of the target: main, control_group, or the reason of the exclusion.
-- The reasons in their order, each applied to what the ones before it left: opt_out, no_address,
-- duplicate, control_group, quantity_limit.
-- Grain: one row per recipient targeted, seeds left out. Rerun: the set is laid anew; the same delivery
-- gives the same control group and the same choice under a quantity limit.
-- One pass: each step hands its rows to the next, and nobody reads them twice. Who is excluded has no place in
-- an order: such rows come last, whatever they hold, and take no place from the others.
-- Not linted: the linter reads all branches of the Jinja one after the other.
-- noqa: disable=all

-- Unlogged: it is read in the transaction that lays it, so no crash of the server can empty it in between.
CREATE UNLOGGED TABLE {{ target }} AS
WITH targeted AS (
    SELECT
        recipient.id AS recipient_id,
{% include 'address_of_channel.sql' %}
{% if order_by %}
        {{ order_by }} AS control_order,
{% else %}
        hashint8extended(recipient.id, hashtextextended('control:' || %(delivery)s::text, 0)) AS control_order,
{% endif %}
        recipient.opt_out_{{ channel }} AS is_opted_out
    FROM (SELECT DISTINCT recipient_id FROM {{ sources[0] }}) AS source
    INNER JOIN campaign.recipient ON source.recipient_id = recipient.id
    WHERE NOT recipient.is_seed
),

addressed AS (
    SELECT
        targeted.recipient_id,
        targeted.address,
        targeted.control_order,
        CASE WHEN targeted.is_opted_out THEN 'opt_out' WHEN NOT targeted.is_reachable THEN 'no_address' END AS reason
    FROM targeted
),

distinguished AS (
    SELECT
        addressed.recipient_id,
        addressed.control_order,
        coalesce(
            addressed.reason,
            CASE
                -- The address leads: texts in the collation "C" are sorted by their first bytes.
                WHEN
                    row_number() OVER (
                        PARTITION BY addressed.address COLLATE "C", addressed.reason ORDER BY addressed.recipient_id
                    ) > 1
                    THEN 'duplicate'
            END
        ) AS reason
    FROM addressed
),

controlled AS (
    SELECT
        distinguished.recipient_id,
{% if control_set %}
        coalesce(
            distinguished.reason, CASE WHEN control.recipient_id IS NOT NULL THEN 'control_group' END
        ) AS reason
    FROM distinguished
    LEFT JOIN (SELECT DISTINCT recipient_id FROM {{ control_set }}) AS control
        ON distinguished.recipient_id = control.recipient_id
{% elif has_control %}
        coalesce(
            distinguished.reason,
            CASE
                WHEN
                    row_number() OVER (
                        ORDER BY
                            CASE WHEN distinguished.reason IS NULL THEN distinguished.control_order END
                            {% if descending %}DESC {% endif %}NULLS LAST,
                            distinguished.reason NULLS FIRST,
                            distinguished.recipient_id
                    ) <= coalesce(
                        %(control_count)s::bigint,
                        round(
                            %(control_share)s::numeric * count(*) FILTER (WHERE distinguished.reason IS NULL) OVER ()
                        )::bigint
                    )
                    THEN 'control_group'
            END
        ) AS reason
    FROM distinguished
{% else %}
        distinguished.reason
    FROM distinguished
{% endif %}
)

SELECT
    controlled.recipient_id,
{% if has_limit %}
    coalesce(
        controlled.reason,
        CASE
            WHEN
                row_number() OVER (
                    ORDER BY
                        CASE
                            WHEN controlled.reason IS NULL THEN hashint8extended(
                                controlled.recipient_id, hashtextextended('quantity:' || %(delivery)s::text, 0)
                            )
                        END NULLS LAST,
                        controlled.recipient_id
                ) > %(requested_quantity)s::bigint
                THEN 'quantity_limit'
            ELSE 'main'
        END
    ) AS verdict
{% else %}
    coalesce(controlled.reason, 'main') AS verdict
{% endif %}
FROM controlled
