-- The recipients that a query of the team returns in its first column. No seed addresses.
-- Grain: one row per recipient. Rerun: the set is laid anew.
-- Not linted: the linter reads all branches of the Jinja one after the other.
-- noqa: disable=all

CREATE TABLE {{ target }} AS
SELECT DISTINCT query.recipient_id
FROM (
    {{ query }}
) AS query (recipient_id)
WHERE
    query.recipient_id IS NOT NULL
    AND NOT EXISTS (
        SELECT 1
        FROM campaign.recipient
        WHERE recipient.id = query.recipient_id AND recipient.is_seed
    )
