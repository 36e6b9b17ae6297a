-- What the journal says of a delivery, latest first.
-- Grain: one row per line, a bounded number of them. Changes nothing.
SELECT
    journal.at,
    journal.level,
    journal.message
FROM campaign.journal
WHERE journal.delivery_id = %(delivery_id)s::bigint
ORDER BY journal.at DESC, journal.id DESC
LIMIT %(limit)s::integer;
