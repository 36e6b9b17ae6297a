-- Each recipient in one part, by shares. Where somebody goes is decided by a salted hash of the recipient
-- alone, so a person stays in a part when others come or go.
-- Grain: one row per recipient that falls into a part; with shares below 1 the rest is left out.
-- Rerun: the set is laid anew; the same salt gives the same parts.

CREATE TABLE {{ target }} AS
SELECT
    placed.recipient_id,
    (%(parts)s::text[])[width_bucket(placed.place, %(bounds)s::double precision[]) + 1] AS part
FROM (
    SELECT
        source.recipient_id,
        (
            hashint8extended(source.recipient_id, hashtextextended(%(salt)s::text, 0)) & 1073741823
        ) / 1073741824.0::double precision AS place
    FROM {{ sources[0] }} AS source
) AS placed
WHERE placed.place < %(total)s::double precision
