-- One recipient of each group that shares a key; those without the key all stay: each is a group of its own.
-- Grain: one row per recipient. The lowest, or highest, value of the order is kept, then the lowest id.
-- Rerun: the set is laid anew. COLLATE "C" halves the time: equality needs no alphabet.
-- Not linted: the linter reads all branches of the Jinja one after the other.
-- noqa: disable=all

CREATE TABLE {{ target }} AS
SELECT DISTINCT ON (keyed.key COLLATE "C", keyed.own_key) keyed.recipient_id
FROM (
    SELECT
        recipient.id AS recipient_id,
        {{ key }} AS key,
        CASE WHEN {{ key }} IS NULL THEN recipient.id END AS own_key,
        {{ order_by or 'NULL::bigint' }} AS place
    FROM {{ sources[0] }} AS source
    INNER JOIN campaign.recipient ON source.recipient_id = recipient.id
) AS keyed
ORDER BY
    keyed.key COLLATE "C",
    keyed.own_key,
    keyed.place {% if descending %}DESC {% endif %}NULLS LAST,
    keyed.recipient_id
