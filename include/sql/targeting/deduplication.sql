-- One recipient of each group that shares a key; those without the key all stay.
-- Grain: one row per recipient. The lowest, or highest, value of the order is kept, then the lowest id.
-- Rerun: the set is laid anew. COLLATE "C" halves the time: equality needs no alphabet.
-- Not linted: the linter reads all branches of the Jinja one after the other.
-- noqa: disable=all

CREATE UNLOGGED TABLE {{ target }} AS
SELECT ranked.recipient_id
FROM (
    SELECT
        recipient.id AS recipient_id,
        {{ key }} AS key,
        row_number() OVER (
            PARTITION BY ({{ key }}) COLLATE "C"
            ORDER BY
{% if order_by %}
                {{ order_by }} {% if descending %}DESC {% endif %}NULLS LAST,
{% endif %}
                recipient.id
        ) AS place
    FROM {{ sources[0] }} AS source
    INNER JOIN campaign.recipient ON source.recipient_id = recipient.id
) AS ranked
WHERE ranked.place = 1 OR ranked.key IS NULL
